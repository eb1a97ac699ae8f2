"""The paper's two compiled capabilities as RASP programs (PAPER.md, Setup 1); these need Tracr.

Every step has a name, which the residual channels of the compiled model carry: "count:3", "rank:4".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mechft.errors import require
from mechft.models.tracr import rasp_module

if TYPE_CHECKING:
    from tracr.rasp import rasp

PADDING = "#"
"""Fills strings shorter than the max-identifier's length; it comes after every letter."""


def counter_program(letter: str) -> rasp.SOp:
    """How often a letter occurs, at every position: binarise, select the ones, count, carry on.

    Compiles to three blocks: the MLP of block 0 binarises ("hit"), block 1 attends to the hits and its
    MLP turns their share into a number ("count"), block 2 copies the number to its output ("answer").
    """
    require(
        isinstance(letter, str) and len(letter) == 1,
        f"The Counter counts one letter; got {letter!r}.",
    )
    rasp = rasp_module()
    hit = (rasp.tokens == letter).named("hit")
    true = rasp.Map(lambda _: True, rasp.tokens).named("true")
    hits = rasp.Select(hit, true, rasp.Comparison.EQ).named("hits")
    count = rasp.SelectorWidth(hits).named("count")
    here = rasp.Select(rasp.indices, rasp.indices, rasp.Comparison.EQ).named("here")
    return rasp.Aggregate(here, count).named("answer")


def max_program(place: int) -> rasp.SOp:
    """The letter at a place of the order a, b, c, …: place 1 is the largest letter, which is "a".

    Block 0 attends from each letter to those before it in the alphabet, and its MLP counts them
    ("rank"); block 1 has the letter whose rank is ``place`` − 1 ("hit"), and block 2 reads it ("answer").
    "#" comes after "z". With fewer letters than ``place`` the answer is "#" if there is one, and without
    it undefined.
    """
    require(
        isinstance(place, int) and place >= 1,
        f"Places count from 1, the largest letter; got {place!r}.",
    )
    rasp = rasp_module()
    before = rasp.Select(rasp.tokens, rasp.tokens, _before).named("before")
    rank = rasp.SelectorWidth(before).named("rank")
    hit = (rank == place - 1).named("hit")
    true = rasp.Map(lambda _: True, rasp.tokens).named("true")
    chosen = rasp.Select(hit, true, rasp.Comparison.EQ).named("chosen")
    return rasp.Aggregate(chosen, rasp.tokens).named("answer")


def _before(key: str, query: str) -> bool:
    """Whether the key's letter is larger than the query's, that is before it in the alphabet."""
    return (key == PADDING, key) < (query == PADDING, query)
