"""Answers chosen from candidates: two by hand, and all tokens, in any order, as no candidates at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
import torch.nn.functional as F

from mechft.analysis.logit_lens import logit_lens
from mechft.analysis.metrics import METRICS, evaluate
from mechft.analysis.units.gradients import loss_gradients
from mechft.errors import ConfigError
from mechft.models.weights import block_matrices
from mechft.randomness import generator
from mechft.tasks.batch import TokenBatch, concatenate
from mechft.training.evaluation import accuracy, answer_logits, predictions

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

    from mechft.tasks.pcfg import PCFGTask

Make = Callable[..., "HookedTransformer"]
SIZE = 40


@pytest.fixture
def batch(task: PCFGTask) -> TokenBatch:
    return task.query("C", "a").sample(SIZE, generator(0))


@pytest.fixture
def two(batch: TokenBatch) -> TokenBatch:
    """Each row's answer and another token, in either order."""
    other = (batch.answer + 1 + torch.arange(SIZE) % 3) % 8
    pair = torch.stack([batch.answer, other], 1)
    return replace(
        batch, candidates=torch.where(torch.arange(SIZE)[:, None] % 2 == 0, pair, pair.flip(1))
    )


def all_tokens(batch: TokenBatch, d_vocab: int) -> TokenBatch:
    order = torch.stack(
        [torch.randperm(d_vocab, generator=generator(i)) for i in range(len(batch))]
    )
    return replace(batch, candidates=order)


def test_all_tokens_are_no_restriction(make_any: Make, batch: TokenBatch) -> None:
    model = make_any()
    every = all_tokens(batch, int(model.cfg.d_vocab))
    assert torch.equal(predictions(model, every), predictions(model, batch))
    logits = answer_logits(model, batch)
    for metric in METRICS.values():
        one, other = (evaluate(metric, logits, rows, logits) for rows in (batch, every))
        torch.testing.assert_close(one, other)
    (loss, plain), (same, restricted) = (loss_gradients(model, rows) for rows in (batch, every))
    assert same == pytest.approx(loss, rel=1e-5)
    for name, gradient in plain.items():
        torch.testing.assert_close(restricted[name], gradient, rtol=1e-3, atol=1e-6)
    lenses = [logit_lens({"m": model}, rows).frame for rows in (batch, every)]
    for column in ("accuracy", "rank", "probability"):
        assert list(lenses[0][column]) == pytest.approx(list(lenses[1][column]))


def test_two_candidates_by_hand(make_model: Make, batch: TokenBatch, two: TokenBatch) -> None:
    model = make_model()
    assert two.candidates is not None
    logits = answer_logits(model, two)
    other = two.candidates.sum(1) - two.answer
    gap = logits.gather(1, two.answer[:, None])[:, 0] - logits.gather(1, other[:, None])[:, 0]
    found = {name: evaluate(METRICS[name], logits, two, logits) for name in METRICS}
    torch.testing.assert_close(found["logit_diff"], gap)
    torch.testing.assert_close(found["probability"], gap.sigmoid())
    torch.testing.assert_close(found["loss"], F.softplus(-gap))
    assert torch.equal(found["accuracy"], (gap > 0).float())
    assert found["kl"].abs().max() == 0
    assert torch.equal(predictions(model, two), torch.where(gap > 0, two.answer, other))
    assert accuracy(model, two).value == pytest.approx(float((gap > 0).float().mean()))
    assert accuracy(model, two).value > accuracy(model, batch).value  # half by chance
    lens = logit_lens({"m": model}, two).frame.iloc[-1]
    assert lens["accuracy"] == pytest.approx(float((gap > 0).float().mean()))
    assert lens["probability"] == pytest.approx(float(gap.sigmoid().mean()), rel=1e-5)


def test_the_gradient_is_that_of_the_choice(make_model: Make, two: TokenBatch) -> None:
    model = make_model()
    assert two.candidates is not None
    logits = model(two.prompt)[:, -1]
    other = two.candidates.sum(1) - two.answer
    gap = logits.gather(1, two.answer[:, None])[:, 0] - logits.gather(1, other[:, None])[:, 0]
    weights = block_matrices(model)
    parameters = {name: weight.parameter for name, weight in weights.items()}
    expected = torch.autograd.grad(F.softplus(-gap).mean(), list(parameters.values()))
    loss, found = loss_gradients(model, two)
    assert loss == pytest.approx(float(F.softplus(-gap).detach().mean()), rel=1e-5)
    for name, gradient in zip(parameters, expected, strict=True):
        by_hand = weights[name].gradient(gradient)
        torch.testing.assert_close(found[name], by_hand, rtol=1e-3, atol=1e-6)


def test_they_stay_with_their_rows(batch: TokenBatch, two: TokenBatch) -> None:
    assert two.candidates is not None
    index = torch.tensor([3, 1])
    some = two.rows(index)
    assert some.candidates is not None and torch.equal(some.candidates, two.candidates[index])
    joined = concatenate([two.rows(slice(0, 3)), two.rows(slice(3, SIZE))])
    assert joined.candidates is not None and torch.equal(joined.candidates, two.candidates)
    assert joined.digest() == two.digest() != batch.digest()
    assert two.to("cpu").candidates is not None
    with pytest.raises(ConfigError, match="number of candidates"):
        concatenate([batch, two])


@pytest.mark.parametrize("wrong", [(5, 6), (4, 4)])
def test_the_answer_stands_among_them_once(
    make_model: Make, batch: TokenBatch, wrong: tuple[int, int]
) -> None:
    rows = replace(batch, answer=torch.full((SIZE,), 4), candidates=torch.tensor([wrong] * SIZE))
    with pytest.raises(ConfigError, match=r"once among its candidates; in row 0 the answer is 4"):
        predictions(make_model(), rows)
