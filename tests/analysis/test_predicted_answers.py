"""Histograms of answers count every row once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import torch

from mechft.analysis.predicted_answers import effective_number, predicted_answers
from mechft.analysis.units.editing import grafted, pruned
from mechft.analysis.units.scores import random_scores
from mechft.errors import ConfigError
from mechft.models.build import fingerprint
from mechft.randomness import generator
from mechft.training.evaluation import predictions
from tests.analysis.planted_wrapper import planted

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

    from mechft.tasks.pcfg import PCFGTask

Make = Callable[..., "HookedTransformer"]


@pytest.mark.parametrize("graft", [False, True])
def test_counts(make_any: Make, task: PCFGTask, graft: bool) -> None:
    model, base = make_any(0), make_any(1)
    batch = task.query("C", "a").sample(50, generator(0))
    masks = {"few": random_scores(model, 0).top(10), "many": random_scores(model, 1).top(200)}
    before = fingerprint(model)
    names = [f"<{i}>" for i in range(model.cfg.d_vocab)]
    found = predicted_answers(
        model, batch, masks, mode="graft" if graft else "zero", base=base, token_names=names
    ).frame
    assert fingerprint(model) == before
    assert [*dict.fromkeys(zip(found["removal"], found["k"], strict=True))] == [
        ("none", 0), ("few", 10), ("many", 200),
    ]  # fmt: skip
    for removal, here in found.groupby("removal"):
        assert here["predicted"].sum() == here["true"].sum() == 50 == here["n"].iloc[0]
        assert here["share"].sum() == pytest.approx(1)
        if removal == "none":
            given = predictions(model, batch)
        elif graft:
            with grafted(model, masks[removal], base):
                given = predictions(model, batch)
        else:
            with pruned(model, masks[removal]):
                given = predictions(model, batch)
        for row in here.itertuples():
            said, true = given == row.token, batch.answer == row.token
            assert (row.predicted, row.true, row.right, row.answer) == (
                int(said.sum()), int(true.sum()), int((said & true).sum()), f"<{row.token}>",
            )  # fmt: skip
            assert row.ci_low <= row.share <= row.ci_high


def test_a_revived_capability_spreads_over_its_answers(task: PCFGTask) -> None:
    case = planted(task)
    batch = case.rows(200, 0)
    spread = predicted_answers(case.model, batch, {"planted": case.mask}).spread()
    none, revived = spread.set_index("removal").loc[["none", "planted"]].to_dict("records")
    assert revived["accuracy"] == 1 > none["accuracy"]
    assert revived["effective_answers"] == pytest.approx(revived["effective_true_answers"])
    assert revived["answers"] == len(batch.answer.unique())


def test_effective_number() -> None:
    assert effective_number([5, 5, 5, 5]) == pytest.approx(4)
    assert effective_number([7, 0, 0]) == pytest.approx(1)
    two = torch.tensor([0.9, 0.1])
    assert effective_number([9, 1]) == pytest.approx(float((-(two * two.log()).sum()).exp()))


def test_what_is_refused(make_model: Make, make_bridge: Make, task: PCFGTask) -> None:
    model, batch = make_model(), task.query("C", "a").sample(5, generator(0))
    with pytest.raises(ConfigError, match="at least one row"):
        predicted_answers(model, batch.rows(slice(0, 0)), {})
    with pytest.raises(ConfigError, match='another name than "none"'):
        predicted_answers(model, batch, {"none": random_scores(model, 0).top(1)})
    other = random_scores(make_bridge("llama"), 0).top(1)
    with pytest.raises(ConfigError, match="made for another model"):
        predicted_answers(model, batch, {"other": other})
