"""Numbers that claims rest on: cells by seed, their means, and differences paired by seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from mechft.statistics import Estimate, t_estimate

if TYPE_CHECKING:
    import pandas as pd


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
    """In words: "97.3%", with the interval where there are several seeds."""
    if value is None:
        return "none"
    if value.n == 1 or value.low != value.low:
        return f"{value.value:.1%}"
    return f"{value.value:.1%} [{value.low:.1%}, {value.high:.1%}]"


def points(value: Estimate | None) -> str:
    """A difference in percentage points."""
    if value is None:
        return "none"
    shown = f"{100 * value.value:+.1f}"
    if value.n == 1 or value.low != value.low:
        return shown
    return f"{shown} [{100 * value.low:+.1f}, {100 * value.high:+.1f}]"


def negative(value: Estimate | None) -> Estimate | None:
    """The same, with the other sign."""
    if value is None:
        return None
    return Estimate(-value.value, value.n, -value.high, -value.low)


def above(value: Estimate | None, threshold: float) -> bool | None:
    """Whether a mean is above a threshold: unclear if its interval spans it, or there is none."""
    if value is None:
        return None
    if value.n > 1 and value.low < threshold < value.high:
        return None
    return value.value > threshold


def all_of(verdicts: Mapping[Any, bool | None] | list[bool | None]) -> bool | None:
    """No if any is no; unclear if any is, or there is none; else yes."""
    values = list(verdicts.values()) if isinstance(verdicts, Mapping) else verdicts
    if any(value is False for value in values):
        return False
    return None if not values or any(value is None for value in values) else True
