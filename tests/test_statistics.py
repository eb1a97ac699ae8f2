"""Intervals: against published values, their own equation, the textbook, and by how often they cover."""

from __future__ import annotations

import math

import pytest
import torch

from mechft.errors import ConfigError
from mechft.statistics import (
    Z_95,
    bootstrap_interval,
    mean_estimate,
    proportion,
    t_estimate,
)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    # Newcombe (1998), Table I, method 3.
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_published_intervals(successes: int, n: int, low: float, high: float) -> None:
    found = proportion(successes, n)
    assert found.low == pytest.approx(low, abs=5e-5)
    assert found.high == pytest.approx(high, abs=5e-5)


@pytest.mark.parametrize(("successes", "n"), [(3, 7), (50, 100), (999, 1000)])
def test_ends_solve_the_score_equation(successes: int, n: int) -> None:
    found = proportion(successes, n)
    for end in (found.low, found.high):
        assert abs(found.value - end) == pytest.approx(Z_95 * (end * (1 - end) / n) ** 0.5)


def test_symmetry_and_bounds() -> None:
    one, other = proportion(2, 9), proportion(7, 9)
    assert one.low == pytest.approx(1 - other.high)
    assert proportion(5, 5).high == 1.0
    assert proportion(0, 5).low == 0.0


@pytest.mark.parametrize(("successes", "n"), [(1, 0), (3, 2), (-1, 2)])
def test_impossible_counts(successes: int, n: int) -> None:
    with pytest.raises(ConfigError, match="0 <= successes <= n"):
        proportion(successes, n)


def test_bootstrap_of_a_mean_is_the_textbook_interval() -> None:
    """Of a plain mean it is the normal interval, of a ratio it covers as often as it says."""
    draws = torch.Generator().manual_seed(0)
    values = torch.randn(500, generator=draws, dtype=torch.float64)
    low, high = bootstrap_interval(values[None], lambda means: means[0], draws=4000)
    known = mean_estimate(values)
    width = known.high - known.low
    assert low == pytest.approx(known.low, abs=0.06 * width)
    assert high == pytest.approx(known.high, abs=0.06 * width)
    hits = 0
    for seed in range(200):
        pair = torch.randn(2, 150, generator=torch.Generator().manual_seed(seed)).double()
        pair += torch.tensor([[1.0], [2.0]])
        low, high = bootstrap_interval(pair, lambda means: means[0] / means[1], draws=400)
        hits += low <= 0.5 <= high
    assert 180 <= hits <= 198
    with pytest.raises(ConfigError, match="needs a row and a draw; got 0"):
        bootstrap_interval(pair[:, :0], lambda means: means[0])


def test_a_few_runs_get_students_interval() -> None:
    found = t_estimate(torch.tensor([1.0, 2.0, 3.0]))
    assert found.high == pytest.approx(2 + 4.303 / 3**0.5)
    assert math.isnan(t_estimate(torch.ones(1)).low)
