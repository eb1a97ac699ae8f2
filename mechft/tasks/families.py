"""The five task families of the PCFG setup: what is asked of a text, and the right answer.

Positions are counted from the end of the text, the last letter being at position 1. A pair's
position is its first letter's; pairs may overlap ("aaa" holds two of "aa"), and both letters of a
counted pair lie inside the window. An occurrence that does not exist has index 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True)
class Family:
    """One task family T of PAPER.md.

    Attributes:
        code: Token that names the family in a sample.
        title: What it asks, in words.
        operand_length: Letters in an operand: 1, 2 (a pair), or 0 (the operand is NULL).
        kind: How the answer follows from the text.
        can_correlate: Whether a correlation between two operands can be planted for it.
    """

    code: str
    title: str
    operand_length: int
    kind: Literal["count", "index", "token"]
    can_correlate: bool = False


FAMILIES: dict[str, Family] = {
    family.code: family
    for family in (
        Family("C", "occurrences of a letter in the last positions", 1, "count", True),
        Family("CC", "occurrences of a pair in the last positions", 2, "count"),
        Family("I", "position of a letter's n-th occurrence from the end", 1, "index", True),
        Family("IC", "position of a pair's n-th occurrence from the end", 2, "index"),
        Family("T", "letter at a position from the end", 0, "token"),
    )
}


def jailbreak_family(code: str) -> Family:
    """Counting a letter, asked for by another token (Jain et al. 2024, App. E.2: T_J1, T_J2)."""
    return replace(FAMILIES["C"], code=code, title="what C asks, under another name")


def matches(
    text: Int[Tensor, "batch pos"],
    first: Int[Tensor, " batch"],
    second: Int[Tensor, " batch"],
) -> Bool[Tensor, "batch pos"]:
    """Where each row's operand starts.

    Args:
        text: Letters.
        first, second: Letters of the row's operand; ``second`` is -1 for an operand of one letter.
    """
    hit = text == first[:, None]
    pair = torch.zeros_like(hit)
    pair[:, :-1] = text[:, 1:] == second[:, None]
    return hit & (pair | (second < 0)[:, None])


def count_in_window(hits: Bool[Tensor, "batch pos"], window: int) -> Int[Tensor, " batch"]:
    """Number of hits among the last ``window`` positions."""
    return hits[:, -window:].sum(1)


def index_of_occurrence(hits: Bool[Tensor, "batch pos"], occurrence: int) -> Int[Tensor, " batch"]:
    """Position from the end of the ``occurrence``-th hit from the end; 0 if there are fewer."""
    backwards = hits.flip(1)
    found = backwards & (backwards.cumsum(1) == occurrence)
    return torch.where(found.any(1), found.int().argmax(1) + 1, 0)
