"""Output differences: none between twins, by hand between others, the planted example first."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import torch

from mechft.analysis.output_diff import diff_outputs
from mechft.errors import ConfigError
from mechft.models.build import ModelConfig, build_model, clone
from mechft.models.hook_points import resid_pre
from mechft.randomness import generator
from mechft.statistics import mean_estimate, proportion
from mechft.tasks.batch import TokenBatch
from mechft.tasks.pcfg import PCFGTask
from mechft.training.evaluation import answer_logits

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

Make = Callable[..., "HookedTransformer"]


@pytest.fixture
def batch(task: PCFGTask) -> TokenBatch:
    return task.query("C", "a").sample(80, generator(0))


def value(frame: Any, measure: str) -> Any:
    return frame.set_index("measure").loc[measure]


def test_twins_answer_alike(batch: TokenBatch, make_any: Make) -> None:
    model = make_any(0)
    result = diff_outputs(model, clone(model), batch, keep=3)
    agreement = value(result.frame, "agreement")
    expected = proportion(80, 80)
    assert (agreement["value"], agreement["ci_low"], agreement["n"]) == (1, expected.low, 80)
    for measure in ("kl_from_base", "kl_to_base", "total_variation"):
        assert value(result.frame, measure)[["value", "ci_low", "ci_high"]].tolist() == [0, 0, 0]
    assert value(result.frame, "accuracy")["value"] == value(result.frame, "base_accuracy")["value"]
    assert result.examples["row"].tolist() == [0, 1, 2]  # nothing moved: the first of equals


def test_numbers_by_hand(batch: TokenBatch, make_any: Make) -> None:
    one, two = make_any(0), make_any(1)
    result = diff_outputs(one, two, batch, keep=5, name="two")
    p, q = (answer_logits(m, batch).double().softmax(-1) for m in (one, two))
    expected = {
        "kl_from_base": (p * (p / q).log()).sum(-1),
        "kl_to_base": (q * (q / p).log()).sum(-1),
        "total_variation": (p - q).abs().sum(-1) / 2,
    }
    for measure, values in expected.items():
        found, wanted = value(result.frame, measure), mean_estimate(values)
        assert found[["value", "ci_low", "ci_high"]].tolist() == pytest.approx(
            [wanted.value, wanted.low, wanted.high], rel=1e-5
        )
    same = proportion(int((p.argmax(-1) == q.argmax(-1)).sum()), 80)
    assert value(result.frame, "agreement")[["value", "ci_low", "ci_high"]].tolist() == [
        same.value, same.low, same.high
    ]  # fmt: skip
    top = expected["kl_from_base"].topk(5)
    examples = result.examples
    assert examples["row"].tolist() == top.indices.tolist()
    assert examples["kl_from_base"].tolist() == pytest.approx(top.values.tolist(), rel=1e-5)
    row = int(top.indices[0])
    first = examples.iloc[0]
    answers = (int(p[row].argmax()), int(q[row].argmax()), int(batch.answer[row]))
    assert tuple(first[["base_answer", "answer", "right_answer"]]) == answers
    assert first["probability"] == pytest.approx(float(q[row, answers[2]]), rel=1e-4)
    assert set(examples["position"]) == {batch.answer_position}


@pytest.mark.parametrize("size", [9, 80])
def test_the_planted_example_comes_first(batch: TokenBatch, make_any: Make, size: int) -> None:
    """One row names another operand, and the fine-tuned model reads that token as another."""
    base = make_any(0)
    moved = clone(base)
    token, row = 35, 53  # the last number, which no prompt holds
    assert not (batch.prompt == token).any()
    batch.tokens[row, 2] = token
    read = base.run_with_cache(batch.prompt)[1][resid_pre(0)][row, 2].detach()

    def misread(value: torch.Tensor, hook: Any) -> torch.Tensor:
        return torch.where(torch.isclose(value, read).all(-1, keepdim=True), -value, value)

    hooked: Any = moved
    hooked.add_hook(resid_pre(0), misread)
    parts = (batch.rows(slice(i, i + size)) for i in range(0, 80, size))
    first = diff_outputs(base, moved, parts, keep=1).examples.iloc[0]
    assert first["row"] == row
    assert first["kl_from_base"] > 1e-3


def test_all_positions_of_language_data(batch: TokenBatch, make_any: Make) -> None:
    """Means over next tokens; the interval is over rows, whose positions are not independent."""
    one, two = make_any(0), make_any(1)
    result = diff_outputs(one, two, batch, positions="all", keep=4)
    tokens = batch.tokens
    with torch.no_grad():
        p, q = (m(tokens[:, :-1]).double().log_softmax(-1) for m in (one, two))
    kl = (p.exp() * (p - q)).sum(-1)
    found, wanted = value(result.frame, "kl_from_base"), mean_estimate(kl.mean(1))
    assert found[["value", "ci_low", "ci_high"]].tolist() == pytest.approx(
        [wanted.value, wanted.low, wanted.high], rel=1e-5
    )
    hits = (p.argmax(-1) == tokens[:, 1:]).double().mean(1)
    accuracy = value(result.frame, "base_accuracy")
    assert accuracy["value"] == pytest.approx(float(hits.mean()))
    assert accuracy["ci_high"] == pytest.approx(mean_estimate(hits).high)
    # Texts that begin alike are equal there, so places are compared by what they hold.
    assert result.examples["kl_from_base"].tolist() == pytest.approx(
        kl.flatten().topk(4).values.tolist(), rel=1e-4
    )
    for example in result.examples.itertuples():
        there = kl[example.row, example.position]
        assert example.kl_from_base == pytest.approx(float(there), rel=1e-4)
        assert example.right_answer == int(tokens[example.row, example.position + 1])


def test_batches_add_up(batch: TokenBatch, make_model: Make) -> None:
    one, two = make_model(0), make_model(1)
    whole = diff_outputs(one, two, batch)
    split = diff_outputs(one, two, [batch.rows(slice(0, 33)), batch.rows(slice(33, 80))])
    for column in ("value", "ci_low", "ci_high"):
        assert split.frame[column].tolist() == pytest.approx(whole.frame[column].tolist(), rel=1e-4)
    assert split.examples["row"].tolist() == whole.examples["row"].tolist()


def test_half_precision(batch: TokenBatch, make_model: Make) -> None:
    frame = diff_outputs(make_model(0), make_model(0, torch.bfloat16), batch).frame
    assert 0 < value(frame, "kl_from_base")["value"] < 0.1


def test_bad_input(batch: TokenBatch, make_model: Make) -> None:
    model = make_model(0)
    with pytest.raises(ConfigError, match="the base has 36 tokens, small 5"):
        diff_outputs(model, build_model(ModelConfig(1, 1, 8, 5, 40)), batch, name="small")
    with pytest.raises(ConfigError, match="no batch to work on"):
        diff_outputs(model, model, iter(()))
    with pytest.raises(ConfigError, match=r"keep is how many.*got -1"):
        diff_outputs(model, model, batch, keep=-1)
    wrong: Any = "last"
    with pytest.raises(ConfigError, match="got 'last'"):
        diff_outputs(model, model, batch, positions=wrong)
    assert len(diff_outputs(model, model, batch, keep=0).examples) == 0
    with torch.no_grad():
        model.get_parameter("unembed.b_U")[0] = float("inf")
    with pytest.raises(ConfigError, match="logits holds values that are not finite"):
        diff_outputs(make_model(0), model, batch)
