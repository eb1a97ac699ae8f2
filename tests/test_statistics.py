"""Wilson's interval against published values and its own equation."""

from __future__ import annotations

import pytest

from mechft.errors import ConfigError
from mechft.statistics import Z_95, proportion


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
