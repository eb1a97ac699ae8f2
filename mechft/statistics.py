"""Uncertainty that travels with a number."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mechft.errors import require
from mechft.randomness import generator

Z_95 = 1.959963984540054  # two-sided 95% quantile of the standard normal
# The same of Student's t with 1, 2, … 30 degrees of freedom (as in any table).
T_95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145,
    2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048,
    2.045, 2.042,
)  # fmt: skip


@dataclass(frozen=True)
class Proportion:
    """A share of successes with its 95% Wilson score interval.

    Attributes:
        value: Share of successes, in 0..1.
        n: Number of independent trials.
        low, high: Ends of the interval, in 0..1.
    """

    value: float
    n: int
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.1%} [{self.low:.1%}, {self.high:.1%}] (n={self.n})"


def proportion(successes: int, n: int) -> Proportion:
    """The share ``successes / n`` with a 95% Wilson interval.

    Wilson's interval (Wilson 1927) keeps its coverage near 0 and 1, where accuracies of trained
    models live and where the textbook interval collapses to a point.

    Raises:
        ConfigError: Unless ``0 <= successes <= n`` and ``n >= 1``.
    """
    require(
        n >= 1 and 0 <= successes <= n,
        f"A proportion needs n >= 1 and 0 <= successes <= n; got {successes} of {n}.",
    )
    share, z2 = successes / n, Z_95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    # At the ends the exact bound is 0 or 1; rounding must not push it past.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return Proportion(share, n, low, high)


@dataclass(frozen=True)
class Estimate:
    """A mean with a 95% interval.

    Attributes:
        value: The mean.
        n: Number of values.
        low, high: Ends of the interval.
    """

    value: float
    n: int
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}] (n={self.n})"


def mean_estimate(values: Float[Tensor, " value"]) -> Estimate:
    """The mean of independent values with a 95% normal interval; of one value the ends are NaN.

    For paired comparisons hand in the differences. With fewer than 30 values or heavy tails the interval
    is somewhat too short; use ``bootstrap_interval`` there.

    Raises:
        ConfigError: If there is no value.
    """
    require(len(values) > 0, "A mean needs at least one value; got none.")
    values = values.detach().double().cpu()
    mean = float(values.mean())
    half = Z_95 * float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return Estimate(mean, len(values), mean - half, mean + half)


def paired_difference(first: Bool[Tensor, " row"], second: Bool[Tensor, " row"]) -> Estimate:
    """Difference of two shares of successes over the same rows, with a 95% interval.

    Newcombe's interval for paired shares (Newcombe 1998, method 10): from the two Wilson intervals and
    the correlation of the rows, so that it keeps a width where a share is 0 or 1.

    Raises:
        ConfigError: If there is no row, or the rows do not pair.
    """
    require(
        first.dtype == second.dtype == torch.bool,
        f"Pairs are True or False; got {first.dtype} and {second.dtype}.",
    )
    require(len(first) == len(second), f"Pairs need as many rows; got {len(first)}, {len(second)}.")
    one, two = (proportion(int(x.sum()), len(x)) for x in (first, second))
    both = int((first & second).sum())
    neither = int((~first & ~second).sum())
    only_one, only_two = int((first & ~second).sum()), int((second & ~first).sum())
    scale = math.sqrt(
        float(both + only_one) * (only_two + neither) * (both + only_two) * (only_one + neither)
    )
    phi = (both * neither - only_one * only_two) / scale if scale else 0.0

    def half(a: float, b: float) -> float:
        return math.sqrt(max(0.0, a * a - 2 * phi * a * b + b * b))

    value = one.value - two.value
    low = value - half(one.value - one.low, two.high - two.value)
    high = value + half(one.high - one.value, two.value - two.low)
    return Estimate(value, len(first), low, high)


def t_estimate(values: Float[Tensor, " value"]) -> Estimate:
    """The mean of a few independent values with a 95% Student t interval; of one the ends are NaN."""
    require(len(values) > 0, "A mean needs at least one value; got none.")
    values = values.detach().double().cpu()
    n, mean = len(values), float(values.mean())
    if n == 1:
        return Estimate(mean, 1, math.nan, math.nan)
    half = (T_95[n - 2] if n - 2 < len(T_95) else Z_95) * float(values.std()) / math.sqrt(n)
    return Estimate(mean, n, mean - half, mean + half)


def bootstrap_interval(
    rows: Float[Tensor, "value row"],
    statistic: Callable[[Float[Tensor, "value draw"]], Float[Tensor, " draw"]],
    *,
    seed: int = 0,
    draws: int = 1000,
) -> tuple[float, float]:
    """95% percentile bootstrap interval of a number that follows from means over paired rows.

    Args:
        rows: What is measured on each row, several values side by side; whole rows are resampled.
        statistic: From the means of these values to the number, for all resamples at once.
        seed: Seed of the resampling.
        draws: Resamples; the ends move by a few percent of the width between seeds at 1,000.

    Returns:
        The two ends; NaN of one row.

    Raises:
        ConfigError: If there is no row or no draw.

    Cost: a matrix product of values × rows × draws, and memory for 100 draws × rows.
    """
    n = rows.shape[1]
    require(n >= 1 and draws >= 1, f"A bootstrap needs a row and a draw; got {n} and {draws}.")
    if n == 1:
        return math.nan, math.nan
    random = generator(seed, "bootstrap")
    values = rows.detach().double().cpu()
    means = []
    for start in range(0, draws, 100):
        size = min(100, draws - start)
        chosen = torch.randint(n, (size, n), generator=random)
        times = torch.zeros(size, n, dtype=torch.float64)  # how often each row is in a resample
        times.scatter_add_(1, chosen, torch.ones(size, n, dtype=torch.float64))
        means.append(values @ times.T / n)
    found = sorted(statistic(torch.cat(means, 1)).tolist())
    return found[math.floor(0.025 * (draws - 1))], found[math.ceil(0.975 * (draws - 1))]
