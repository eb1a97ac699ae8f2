"""Uncertainty that travels with a number."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mechft.errors import require

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
