"""Only finite logits are answers: elsewhere an error, a diverged run, or a member marked so."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import torch

from mechft.errors import ConfigError, TrainingDivergedError
from mechft.models.build import clone, fingerprint
from mechft.randomness import generator
from mechft.tasks.pcfg import PCFGTask
from mechft.training.config import TrainConfig
from mechft.training.ensemble import train_ensemble
from mechft.training.evaluation import NoAnswerError, accuracy, answered_right, predictions
from mechft.training.loop import train

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

MakeModel = Callable[..., "HookedTransformer"]
MEASURES: list[Callable[..., Any]] = [predictions, answered_right, accuracy]


@torch.no_grad()
def with_bias(model: HookedTransformer, values: dict[int | None, float]) -> HookedTransformer:
    """The model with biases of the unembedding, so logits, set to some values; all of them at None."""
    for place, value in values.items():
        model.unembed.b_U[place] = value
    return model


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(
    "values",
    [{3: math.nan}, {3: math.inf}, {3: math.inf, 4: math.inf}, {None: -math.inf},
     {3: math.inf, 4: math.nan}],
)  # fmt: skip
def test_what_has_no_largest_finite_logit_is_no_answer(
    make_model: MakeModel, task: PCFGTask, values: dict[int | None, float], measure: Any
) -> None:
    batch = task.query("C", "a").sample(5, generator(0))
    with pytest.raises(NoAnswerError, match="5 of 5 rows it is not") as caught:
        measure(with_bias(make_model(), values), batch)
    assert isinstance(caught.value, ConfigError)


def test_one_row_among_many_is_enough(make_model: MakeModel, task: PCFGTask) -> None:
    """NaN in one token's embedding spoils the rows that hold it, and those alone are counted."""
    model, batch = make_model(), task.pretraining().sample(300, generator(0))
    token = int(batch.prompt[0, 1])  # the task family, one of five
    with torch.no_grad():
        model.embed.W_E[token] = math.nan
    spoilt = int((batch.prompt == token).any(1).sum())
    assert 0 < spoilt < len(batch)
    with pytest.raises(NoAnswerError, match=rf"in {spoilt} of 300 rows .*first has nan"):
        accuracy(model, batch)


def test_minus_infinity_rules_a_token_out(make_model: MakeModel, task: PCFGTask) -> None:
    """The answer is then the likeliest of the others, as if there were no such token."""
    model, batch = make_model(), task.query("C", "a").sample(30, generator(0))
    ruled_out = int(predictions(model, batch)[0])
    logits = model(batch.prompt)[:, -1]
    logits[:, ruled_out] = logits.min() - 1
    given = predictions(with_bias(model, {ruled_out: -math.inf}), batch)
    assert torch.equal(given, logits.argmax(-1))


def wild(steps: int, *evaluate_at: int) -> TrainConfig:
    """The first step goes so far that the forward after it overflows."""
    return TrainConfig(
        steps, 1e30, batch_size=8, warmup_fraction=0.0, evaluate_at=evaluate_at, seed=1
    )


@pytest.mark.parametrize(
    "config", [wild(1, 0, 1), wild(3, 0, 1), wild(3, 0, 3)], ids=["at the end", "midway", "by loss"]
)
def test_a_run_that_no_longer_answers_has_diverged(
    make_model: MakeModel, task: PCFGTask, config: TrainConfig
) -> None:
    """Evaluation or loss: whichever sees it, alone or as a member, the step named is the same."""
    source = task.query("C", "a")
    measured = {"x": source.sample(10, generator(0))}
    calm = TrainConfig(**{**vars(config), "learning_rate": 1e-3})
    alone, members = make_model(), [make_model(), make_model(1)]
    undisturbed = clone(members[1])
    with pytest.raises(TrainingDivergedError) as caught:
        train(alone, source, config, evaluations=measured)
    assert caught.value.step == 2
    configs = [config, calm]
    lost, kept = train_ensemble(members, [source] * 2, configs, evaluations=[measured] * 2)
    assert lost.diverged_at == 2 and [record["step"] for record in lost.records] == [0]
    assert kept.diverged_at is None and {r["step"] for r in kept.records} == {*config.evaluate_at}
    train_ensemble([undisturbed], [source], [calm], evaluations=[measured])
    for one, other in zip(members[1].parameters(), undisturbed.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_the_error_says_when_and_what_to_do(make_model: MakeModel, task: PCFGTask) -> None:
    source = task.query("C", "a")
    measured = {"x": source.sample(10, generator(0))}
    with pytest.raises(
        TrainingDivergedError, match=r"After 1 of 1 steps .*none was written.*Lower the learning"
    ):
        train(make_model(), source, wild(1, 0, 1), evaluations=measured)
    broken = with_bias(make_model(), {0: math.nan})
    before = fingerprint(broken)
    with pytest.raises(TrainingDivergedError, match=r"After 0 of 1 .*sound model") as caught:
        train(broken, source, wild(1, 0, 1), evaluations=measured)
    assert caught.value.step == 1 and fingerprint(broken) == before
