"""Uncertainty that travels with a number."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechft.errors import require
from mechft.randomness import generator

Z_95 = 1.959963984540054  # two-sided 95% quantile of the standard normal


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
    """The mean of independent values with a 95% normal interval; the mean alone where there is one.

    For paired comparisons hand in the differences. With fewer than 30 values or heavy tails the interval
    is somewhat too short; use ``bootstrap_interval`` there.

    Raises:
        ConfigError: If there is no value.
    """
    require(len(values) > 0, "A mean needs at least one value; got none.")
    values = values.detach().double().cpu()
    mean = float(values.mean())
    half = Z_95 * float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return Estimate(mean, len(values), mean - half, mean + half)


def bootstrap_interval(
    statistic: Callable[[Int[Tensor, " draw"]], float], n: int, *, seed: int = 0, draws: int = 1000
) -> tuple[float, float]:
    """95% percentile bootstrap interval of a statistic of ``n`` paired or single cases.

    Args:
        statistic: From the indices of the resampled cases to the number; the same indices serve both
            sides of a paired comparison.
        n: Number of cases.
        seed: Seed of the resampling.
        draws: Resamples; the ends move by a few percent of the width between seeds at 1,000.
    """
    require(n >= 1 and draws >= 1, f"A bootstrap needs a case and a draw; got {n} and {draws}.")
    random = generator(seed, "bootstrap")
    found = sorted(statistic(torch.randint(n, (n,), generator=random)) for _ in range(draws))
    return found[math.floor(0.025 * (draws - 1))], found[math.ceil(0.975 * (draws - 1))]
