"""Warm-up and cosine by hand."""

from __future__ import annotations

from itertools import pairwise

import pytest

from mechft.errors import ConfigError, UnknownNameError
from mechft.training.config import TrainConfig, geometric_steps, learning_rate_value
from mechft.training.protocols import PROTOCOLS
from mechft.training.schedule import warmup_cosine


def test_by_hand() -> None:
    rates = [warmup_cosine(s, 11, 2.0, 0.2, 0.01) for s in range(11)]
    assert rates[:3] == pytest.approx([1.0, 2.0, 2.0])  # two steps up, then the cosine's top
    assert rates[6] == pytest.approx(2.0 * (0.01 + 0.99 * 0.5))  # its middle
    assert rates[10] == pytest.approx(0.02)  # its end
    assert all(a >= b for a, b in pairwise(rates[2:]))


@pytest.mark.parametrize("steps", [1, 2, 40, 400, 10_000])
def test_geometric_steps(steps: int) -> None:
    grid = geometric_steps(steps)
    assert grid[0] == 0 and grid[-1] == steps
    assert list(grid) == sorted(set(grid))
    gaps = [b / a for a, b in pairwise(grid[1:]) if a >= 10]
    assert all(gap < 2 for gap in gaps)


def test_learning_rate_names() -> None:
    pcfg, program = PROTOCOLS["pcfg"], PROTOCOLS["program"]
    assert [pcfg.rate(name) for name in "LMS"] == [1e-4, 1e-5, 1e-6]
    assert [program.rate(name) for name in ("L", "M", "S", "VS")] == [1e-1, 1e-2, 1e-3, 1e-4]
    with pytest.raises(UnknownNameError, match=r"Known: L, M, S\."):
        pcfg.rate("VS")
    with pytest.raises(ConfigError, match="positive and finite; got nan"):
        learning_rate_value(float("nan"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps must be a whole number of at least 1"),
        ({"steps": 2.5}, "whole number"),
        ({"optimizer": "adam"}, "Known: adamw, sgd"),
        ({"momentum": 1.0}, r"momentum lies in \[0, 1\); got 1"),
        ({"weight_decay": -0.1}, "weight_decay is at least 0; got -0.1"),
        ({"frozen": "unembed.W_U"}, "tuple of parameter names"),
        ({"gradient_clip": 0.0}, "gradient_clip must be positive"),
        ({"betas": (0.9, 1.0)}, r"betas are two numbers in \[0, 1\)"),
        ({"evaluate_at": (0, 6)}, r"evaluate_at lies in 0\.\.5.*\[6\]"),
        ({"answer_weight": float("nan")}, "answer_weight is at least 0; got nan"),
        ({"stop_at": ("x", 95.0)}, r"accuracy in 0\.\.1; got 95"),
        ({"warmup_fraction": 1.5}, "warmup_fraction lies in 0..1"),
        ({"loss": "mse"}, "Known: answer, next_token"),
        ({"learning_rate": -1.0}, "positive and finite"),
    ],
)
def test_bad_configs(change: dict[str, object], message: str) -> None:
    with pytest.raises((ConfigError, UnknownNameError), match=message):
        TrainConfig(**{"steps": 5, "learning_rate": 1e-3, **change})  # type: ignore[arg-type]
