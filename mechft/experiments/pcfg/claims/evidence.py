"""Numbers that claims rest on: cells by seed, their means, and differences paired by seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from mechft.statistics import Estimate, t_estimate

if TYPE_CHECKING:
    import pandas as pd

GONE = 0.5
"""O_PT at most, for a capability to look gone: what is not gone cannot come back."""

RIGHT = 0.8
"""Accuracy from which a question counts as learned."""

_ONE_SEED = 0.05
"""What stands in for an interval over seeds where there is one: rows alone blur an accuracy by 3 points."""


def rows_of(frame: pd.DataFrame, **labels: Any) -> pd.DataFrame:
    """The rows with these labels."""
    for name, value in labels.items():
        frame = frame[frame[name] == value]
    return frame


def by_seed(frame: pd.DataFrame, value: str = "accuracy", **labels: Any) -> pd.Series[float]:
    """A number for each seed: the mean over whatever else tells rows apart."""
    found: pd.Series[float] = rows_of(frame, **labels).groupby("seed")[value].mean()
    return found


def estimate(values: pd.Series[float]) -> Estimate | None:
    """Mean over seeds with a 95% Student t interval (NaN ends for one seed); None without any."""
    if not len(values):
        return None
    return t_estimate(torch.tensor(values.to_numpy(dtype="float64")))


def paired(first: pd.Series[float], second: pd.Series[float]) -> Estimate | None:
    """Mean over seeds of first minus second, seed by seed, with its interval."""
    return estimate((first - second).dropna())


def percent(value: Estimate | None) -> str:
    """In words: "97.3%", with the interval and n where there are several seeds."""
    if value is None:
        return "none"
    if value.n == 1:
        return f"{value.value:.1%} (1 seed)"
    low, high = max(0.0, value.low), min(1.0, value.high)
    return f"{value.value:.1%} [{low:.1%}, {high:.1%}] ({value.n} seeds)"


def points(value: Estimate | None) -> str:
    """A difference in percentage points."""
    if value is None:
        return "none"
    shown = f"{100 * value.value:+.1f}"
    if value.n == 1:
        return f"{shown} (1 seed)"
    return f"{shown} [{100 * value.low:+.1f}, {100 * value.high:+.1f}] ({value.n} seeds)"


def negative(value: Estimate | None) -> Estimate | None:
    """The same, with the other sign."""
    if value is None:
        return None
    return Estimate(-value.value, value.n, -value.high, -value.low)


def above(value: Estimate | None, threshold: float) -> bool | None:
    """Whether a mean over seeds is above a threshold.

    Unclear if its interval reaches the threshold, or there is none; of one seed, if it is within 5 points.
    """
    if value is None or value.value != value.value:
        return None
    low, high = value.low, value.high
    if value.n == 1:
        low, high = value.value - _ONE_SEED, value.value + _ONE_SEED
    if low <= threshold <= high:
        return None
    return value.value > threshold


def not_(value: bool | None) -> bool | None:
    """The other verdict; unclear stays unclear."""
    return None if value is None else not value


def all_of(verdicts: Mapping[Any, bool | None] | list[bool | None]) -> bool | None:
    """No if any is no; unclear if any is, or there is none; else yes."""
    values = list(verdicts.values()) if isinstance(verdicts, Mapping) else verdicts
    if any(value is False for value in values):
        return False
    return None if not values or any(value is None for value in values) else True
