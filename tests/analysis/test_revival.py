"""Steps to a threshold, by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mechft.analysis.revival import revival
from mechft.errors import ConfigError, UnknownNameError
from mechft.training.trained import Trained


def with_history(trained: Trained, accuracies: dict[int, float]) -> Trained:
    records = tuple(
        {
            "step": step,
            "learning_rate": 1e-4,
            "train_loss": None,
            "evaluation": "acc_pt_cte0",
            "accuracy": value,
            "ci_low": value,
            "ci_high": value,
            "n": 100,
        }
        for step, value in accuracies.items()
    )
    return replace(trained, records=records)


def test_steps_to(trained: Trained) -> None:
    curve = revival(
        {
            "quick": with_history(trained, {0: 0.2, 5: 0.95, 10: 0.9, 20: 1.0}),
            "slow": with_history(trained, {0: 0.2, 20: 0.94}),
        }
    )
    assert curve.steps_to(0.95) == {"quick": 20, "slow": None}  # 5 was luck: 10 fell below again
    assert curve.brackets(0.95) == {"quick": (10, 20), "slow": (20, None)}
    assert with_history(trained, {0: 0.2, 9: 0.96}).revival() == 9
    assert curve.steps_to(0.2) == {"quick": 0, "slow": 0}
    with pytest.raises(ConfigError, match=r"\(0, 1\]; got 95"):
        curve.steps_to(95)
    with pytest.raises(UnknownNameError, match="Did you mean 'acc_pt_cte0'"):
        revival({"x": with_history(trained, {0: 0.1})}, evaluation="acc_pt_cte1")


def with_lineage(run: Trained, *entries: dict[str, object]) -> Trained:
    return replace(run, lineage=entries)


def reft(family: str = "C", operand: str = "a") -> dict[str, object]:
    return {"recipe": "reverse_finetune", "family": family, "operand": operand, "batch_size": 10}


def finetuned(operand: str = "a") -> dict[str, object]:
    return {"recipe": "finetune", "family": "C", "operand": "b", "pretraining_operand": operand}


def test_summary_by_hand(trained: Trained) -> None:
    """Three seeds: the control takes 4, 2 and 8 times the steps, so 4 times (64 to the third)."""
    ours = [
        with_lineage(with_history(trained, {0: 0.0, step: 1.0}), finetuned(), reft())
        for step in (10, 20, 10)
    ]
    control = [
        with_lineage(with_history(trained, {0: 0.0, step: 1.0}), reft()) for step in (40, 40, 80)
    ]
    table = revival({"reFT": ours, "Scr.+FT": control}).summary(0.95, "Scr.+FT").set_index("model")
    assert table["steps"].tolist() == [10, 40]
    assert table["examples"].tolist() == [100, 400]
    assert table.loc["reFT", "ratio"] == pytest.approx(4)
    # Student's t with 2 degrees of freedom on log 4, log 2, log 8: 4.303 × log 2 / √3 either way.
    half = 2 ** (4.303 / 3**0.5)
    assert table.loc["reFT", "ratio_low"] == pytest.approx(4 / half, rel=1e-3)
    assert table.loc["reFT", "ratio_high"] == pytest.approx(4 * half, rel=1e-3)
    assert (table.loc["reFT", "interval"], table.loc["reFT", "bound"]) == ("over runs", "=")
    beside = ["ratio", "ratio_low", "ratio_high", "interval", "bound"]
    assert table.loc["Scr.+FT", beside].isna().all()  # nothing to compare a control with itself
    assert table["reached"].tolist() == [3, 3]
    # A rise from 0 to 1 over s steps, held to 80: area 1 − s / 2 / 80.
    assert table.loc["reFT", "auc"] == pytest.approx(1 - (5 + 10 + 5) / 3 / 80)


def test_a_control_that_never_arrives_bounds_the_ratio(trained: Trained) -> None:
    runs = {
        "reFT": with_history(trained, {0: 0.1, 8: 0.99}),
        "Scr.+FT": with_history(trained, {0: 0.1, 64: 0.5}),
        "damaged": with_history(trained, {0: 0.1, 128: 0.5}),
        "kept": with_history(trained, {0: 0.99, 1: 0.99}),
    }
    table = revival(runs).summary(0.95, "Scr.+FT").set_index("model")
    assert table.loc["reFT", "ratio"] == pytest.approx(8) and table.loc["reFT", "bound"] == ">="
    assert table.loc["damaged", "bound"] == "?" and table.loc["damaged", "reached"] == 0
    assert table.loc["kept", "ratio"] == pytest.approx(64)  # step 0 counts as 1
    # One run says nothing about other seeds, only between which evaluations the threshold was passed.
    assert set(table["interval"].dropna()) == {"between evaluations"}
    assert table.loc["reFT", ["ratio_low", "ratio_high"]].tolist() == pytest.approx([8, 64])
    with pytest.raises(UnknownNameError, match=r"Known: reFT, Scr\.\+FT"):
        revival(runs).summary(0.95, "scratch")


def test_frames_of_other_tools(trained: Trained) -> None:
    frame = with_history(trained, {0: 0.2, 5: 0.97}).history.assign(batch_size=32)
    found = revival({"mine": frame}).summary()
    assert found["steps"].tolist() == [5] and found["examples"].tolist() == [160]


def test_relearning_another_capability_is_refused(trained: Trained) -> None:
    run = with_history(trained, {0: 0.2, 5: 0.97})
    with pytest.raises(ConfigError, match=r"away from C\(a\) and then trained on C\(c\)"):
        revival({"reFT": with_lineage(run, finetuned(), reft(operand="c"))})
    with pytest.raises(ConfigError, match=r"same question.*other \(0\): I\(a\)"):
        revival({"reFT": with_lineage(run, reft()), "other": with_lineage(run, reft("I"))})
