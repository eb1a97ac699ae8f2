"""Rows of random tokens that begin anew after a period."""

from __future__ import annotations

import pytest

from mechft.errors import ConfigError
from mechft.randomness import generator
from mechft.tasks.stories.repeated import SHORTEST, RepeatedTokens


@pytest.mark.parametrize("length", [8, 9, 64])
def test_every_row_repeats_itself(length: int) -> None:
    batch = RepeatedTokens(1000, length).sample(400, generator(0))
    assert batch.tokens.shape == (400, length + 1)
    periods = []
    for row in batch.tokens:
        found = [p for p in range(1, length + 1) if bool((row[p:] == row[:-p]).all())]
        periods.append(found[0])
    assert (min(periods), max(periods)) == (SHORTEST, length // 2)


def test_rows_say_nothing_of_one_another() -> None:
    batch = RepeatedTokens(50, 32, first_token=1).sample(2000, generator(0))
    first = batch.tokens[:, 0]
    assert (int(batch.tokens.min()), int(batch.tokens.max())) == (1, 49)
    assert abs(float(first.float().mean()) - 25) < 1.3  # four standard errors: 49/√12/√2000 = .32
    assert (batch.answer == batch.tokens[:, -1]).all()


def test_the_same_draw_gives_the_same_rows() -> None:
    source = RepeatedTokens(50, 16)
    one, again, other = (source.sample(4, generator(seed)).tokens for seed in (0, 0, 1))
    assert (one == again).all() and (one != other).any()


@pytest.mark.parametrize(
    ("settings", "said"),
    [((50, 7), "rows of 7"), ((50, 16, 50), "got 50"), ((50, 16, -1), "got -1")],
)
def test_what_cannot_be(settings: tuple[int, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        RepeatedTokens(*settings)
