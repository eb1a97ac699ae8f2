"""Ablation: zero is W_O without the head, the mean of one row is that row, sweeps equal single cells."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from mechft.analysis.ablation import ablate, ablate_heads
from mechft.errors import ConfigError, UnknownNameError
from mechft.models.build import clone
from mechft.models.hook_points import has_hooks
from mechft.randomness import generator
from mechft.training.evaluation import accuracy
from mechft.training.trained import Trained


def test_zero_ablation_is_w_o_without_the_head(trained: Trained) -> None:
    model = trained.model
    tokens = trained.task.query("C", "a").sample(20, generator(0)).prompt
    without = clone(model)
    with torch.no_grad():
        without.blocks[1].attn.W_O[0] = 0
        without.blocks[0].attn.W_O[1] = 0
    with ablate(model, [(1, 0), (0, 1)]):
        torch.testing.assert_close(model(tokens), without(tokens))


def test_mean_over_identical_rows_changes_nothing(trained: Trained) -> None:
    batch = trained.task.query("C", "a").sample(1, generator(1))
    plain = trained.model(batch.prompt)
    with ablate(trained.model, [(0, 0), (0, 1), (1, 1)], "mean", reference=batch):
        torch.testing.assert_close(trained.model(batch.prompt), plain)


def test_mean_by_hand(trained: Trained) -> None:
    """Replacing block 1's heads by their means makes the attention output its mean."""
    batch = trained.task.query("C", "a").sample(40, generator(2))
    _, cache = trained.model.run_with_cache(batch.prompt)
    with ablate(trained.model, [(1, 0), (1, 1)], "mean", reference=batch):
        _, ablated = trained.model.run_with_cache(batch.prompt)
    mean = cache["blocks.1.hook_attn_out"].mean(0).expand_as(cache["blocks.1.hook_attn_out"])
    torch.testing.assert_close(ablated["blocks.1.hook_attn_out"], mean, rtol=1e-4, atol=1e-5)


def test_sweep_equals_each_cell(trained: Trained) -> None:
    model = trained.model
    tasks = {o: trained.task.query("C", o).sample(300, generator(3, o)) for o in "ab"}
    frame = ablate_heads(model, tasks).frame
    assert len(frame) == 2 * 2 * 2 * 2
    for row in frame.to_dict("records"):
        batch = tasks[row["task"]]
        with ablate(model, [(row["block"], row["head"])], row["kind"], reference=batch):
            assert row["accuracy"] == pytest.approx(accuracy(model, batch).value, abs=2 / 300)
        assert row["unablated"] == accuracy(model, batch).value
        assert row["change"] == pytest.approx(row["accuracy"] - row["unablated"])


def test_means_that_do_not_fit(trained: Trained) -> None:
    batch = trained.task.query("C", "a").sample(8, generator(4))
    empty = replace(batch, tokens=batch.tokens[:0], answer=batch.answer[:0])
    with (
        pytest.raises(ConfigError, match="at least one row"),
        ablate(trained, [(0, 0)], "mean", reference=empty),
    ):
        pass
    short = replace(batch, answer_position=5)
    with (
        ablate(trained, [(0, 0)], "mean", reference=short) as model,
        pytest.raises(ConfigError, match=r"reach 6 positions.*has 19"),
    ):
        model(batch.prompt)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_hooks_are_gone_after_an_error(trained: Trained, error: type[BaseException]) -> None:
    with pytest.raises(error), ablate(trained.model, [(0, 0)]):
        assert has_hooks(trained.model)
        raise error
    assert not has_hooks(trained.model)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"heads": [(2, 0)]}, ConfigError, r"block in 0\.\.1.*got \(2, 0\)"),
        ({"heads": [(0, 0)], "kind": "median"}, UnknownNameError, "Known: zero, mean"),
        ({"heads": [(0, 0)], "kind": "mean"}, ConfigError, "pass reference=batch"),
        ({"heads": []}, ConfigError, r"such as \[\(1, 2\)\]; got \[\]"),
        ({"heads": (0, 1)}, ConfigError, r"list of \(block, head\) pairs"),
    ],
)
def test_bad_input(
    trained: Trained, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message), ablate(trained.model, **arguments):
        pass
    assert not has_hooks(trained.model)
