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
