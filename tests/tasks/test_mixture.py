"""Mixed batches: as many foreign rows as asked, at random places, every row right for its own question."""

from __future__ import annotations

import math

import pytest
import torch

from mechft.errors import ConfigError
from mechft.randomness import generator
from mechft.tasks.batch import Source, TokenBatch
from mechft.tasks.correlation import Correlation
from mechft.tasks.mixture import MixedSource
from mechft.tasks.pcfg import PCFGTask
from mechft.tasks.pcfg_config import preset
from tests.tasks.test_answers import slow_answer

TINY = PCFGTask(preset("tiny", "medium"))


def main() -> Source:
    return TINY.query("C", "b", Correlation(1.0))


def foreign(share: float, size: int, seed: int = 0) -> torch.Tensor:
    """Which rows came from the other source, read off the family's token."""
    batch = MixedSource(main(), TINY.query("T", "NULL"), share).sample(size, generator(seed))
    return batch.tokens[:, 1] == TINY.vocabulary.id("T")


@pytest.mark.parametrize("share", [0.5, 0.1, 0.001])
def test_share(share: float) -> None:
    """The number of foreign rows is binomial: within five standard deviations, and never nothing."""
    size = 20_000
    found = int(foreign(share, size).sum())
    assert found > 0
    assert abs(found - size * share) < 5 * math.sqrt(size * share * (1 - share))


def test_rows_are_drawn_one_by_one() -> None:
    """Batches cut from a long draw have binomial numbers too, and no place is preferred."""
    marked = foreign(0.25, 200 * 96)
    counts = marked.view(200, 96).sum(1).double()
    # A chi-square of 199 degrees of freedom: standard deviation 0.1. Stratified batches would have 0.
    assert 0.6 < float(counts.var()) / (96 * 0.25 * 0.75) < 1.4
    places = marked.view(200, 96).double().mean(0)
    assert float((places - 0.25).abs().max()) < 5 * math.sqrt(0.25 * 0.75 / 200)


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_every_row_is_right_for_its_own_question(share: float) -> None:
    """Rows of pretraining and of fine-tuning, each against the definition of what it asks."""
    batch = MixedSource(main(), TINY.pretraining(), share).sample(300, generator(1))
    asked = set()
    for row, answer in zip(batch.tokens, batch.answer, strict=True):
        names = TINY.vocabulary.decode(row)
        family, operand, argument = names[1:4]
        asked.add((family, operand))
        assert argument == str(TINY.argument(family))
        expected = slow_answer(TINY, "".join(names[5:-4]), family, operand)
        assert names[batch.answer_position + 1] == expected == TINY.vocabulary.names[int(answer)]
    assert {"CC", "I", "IC", "T"} < {family for family, _ in asked}
    assert batch.labels == {} and batch.correlated is None


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5])
def test_rows_that_stay_are_mains_own(share: float) -> None:
    """They equal what ``main`` alone draws from the same generator, and so carry the correlation."""
    alone = main().sample(2000, generator(2))
    mixed = MixedSource(main(), TINY.query("T", "NULL"), share).sample(2000, generator(2))
    stayed = mixed.tokens[:, 1] == TINY.vocabulary.id("C")
    assert torch.equal(mixed.tokens[stayed], alone.tokens[stayed])
    assert torch.equal(mixed.answer[stayed], alone.answer[stayed])
    texts = TINY.text(mixed.tokens[stayed])
    assert (TINY.answers(texts, "C", "b") - TINY.answers(texts, "C", "a") == 1).all()


def test_the_ends_of_the_scale() -> None:
    """Share 0 is ``main``, bit for bit; at share 1 no row of it is left."""
    nothing = MixedSource(main(), TINY.pretraining(), 0.0).sample(200, generator(3))
    assert nothing.digest() == main().sample(200, generator(3)).digest()
    assert foreign(1.0, 200).all()


def test_same_generator_same_rows() -> None:
    source = MixedSource(main(), TINY.pretraining(), 0.5)
    assert isinstance(source, Source)
    one, same, other = (source.sample(50, generator(seed)).digest() for seed in (4, 4, 5))
    assert one == same != other


@pytest.mark.parametrize("share", [-0.1, 1.5, math.nan])
def test_share_out_of_range(share: float) -> None:
    with pytest.raises(ConfigError, match=rf"lies in 0..1 .*got {share}"):
        MixedSource(main(), TINY.pretraining(), share)


class _Elsewhere:
    """Samples as long as tiny's whose answer is asked for somewhere else."""

    def sample(self, size: int, generator: torch.Generator) -> TokenBatch:
        batch = main().sample(size, generator)
        return TokenBatch(batch.tokens, batch.answer_position - 1, batch.answer)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (PCFGTask(preset("small")).pretraining(), "41 tokens answered at 38, and 105 answered at"),
        (_Elsewhere(), "41 tokens answered at 38, and 41 answered at 37"),
    ],
)
def test_sources_of_different_forms(other: Source, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MixedSource(main(), other, 0.5)
