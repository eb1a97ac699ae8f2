"""Planting the correlation r(x, O_FT) − r(x, O_PT) = q in grammar strings, by the fewest edits.

Only occurrences of the pretraining operand are edited, and they trade places with the third letter:
the fine-tuning label r(x, O_FT) stays what the grammar made it. So fine-tuning data with and without
the correlation have nearly the same labels, as the paper requires. It says it *adds* target tokens;
doing so (or swapping a and b, which takes fewer edits still) moves the label's distribution by 0.36
to 0.57 in total variation, because counts in grammar strings vary so little.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mechft.errors import require
from mechft.tasks.families import index_of_occurrence


@dataclass(frozen=True)
class Correlation:
    """How often, and between which operands, the spurious correlation holds.

    Attributes:
        probability: Probability that a string carries the correlation (C_Tr or C_Te), in 0..1. A
            string that does not carry it is a grammar string, unedited, for which it is false.
        offset: q in r(x, O_FT) − r(x, O_PT) = q.
        pretraining_operand: O_PT.
        finetuning_operand: O_FT.
        distinct: Whether strings without the correlation must have two different answers. Where r(x, O_PT) =
            r(x, O_FT), a right answer does not tell which of the two was given: at tiny 37% of
            grammar strings have as many a as b, and whoever counts one seems to count the other. The
            paper has models with 99.9% on O_FT and 9.7% on O_PT at C_Te = 0, so that its test strings cannot
            have had more than that.

    Raises:
        ConfigError: If the probability is outside 0..1 or the operands are the same.

    Source: Jain et al. (2024), Sec. 4.

    Example:
        >>> import mechft as mf
        >>> task = mf.load("pcfg-tiny-low").task
        >>> rows = task.query("C", "b", mf.Correlation(1.0)).sample(50, mf.generator(0))
        >>> (rows.labels["C(b)"] - rows.labels["C(a)"]).unique().tolist()
        [1]
        >>> rows = task.query("C", "b", mf.Correlation(0.0)).sample(50, mf.generator(0))
        >>> rows.correlated.any().item()
        False
    """

    probability: float
    offset: int = 1
    pretraining_operand: str = "a"
    finetuning_operand: str = "b"
    distinct: bool = False

    def __post_init__(self) -> None:
        require(
            0 <= self.probability <= 1,
            f"A correlation's probability lies in 0..1; got {self.probability}.",
        )
        require(
            self.pretraining_operand != self.finetuning_operand,
            "A correlation needs two different operands; both are "
            f"{self.pretraining_operand!r}. Choose another finetuning_operand.",
        )


def plant_count(
    text: Int[Tensor, "batch pos"],
    pretraining: int,
    finetuning: int,
    offset: int,
    window: int,
    generator: torch.Generator,
) -> Int[Tensor, "batch pos"]:
    """Make count(finetuning) − count(pretraining) = offset in the last ``window`` positions.

    Edits |count(finetuning) − count(pretraining) − offset| letters per row, at random places: the
    fewest that leave count(finetuning) alone. Rows where that is impossible come back unplanted.
    """
    tail = text[:, -window:]
    is_pretraining, is_finetuning = tail == pretraining, tail == finetuning
    wanted = is_finetuning.sum(1) - offset - is_pretraining.sum(1)
    editable = torch.where((wanted > 0)[:, None], ~is_pretraining & ~is_finetuning, is_pretraining)
    possible = editable.sum(1) >= wanted.abs()
    chosen = _choose(editable, wanted.abs() * possible, generator)
    return torch.cat([text[:, :-window], _flip(tail, chosen, pretraining, finetuning)], 1)


def plant_index(
    text: Int[Tensor, "batch pos"],
    pretraining: int,
    finetuning: int,
    offset: int,
    occurrence: int,
    generator: torch.Generator,
) -> Int[Tensor, "batch pos"]:
    """Make index(finetuning) − index(pretraining) = offset for the ``occurrence``-th occurrences.

    Puts O_PT where its occurrence belongs and turns as few others as needed on or off between there
    and the end of the text. Rows where that cannot be done without moving O_FT's occurrence come
    back unplanted.
    """
    length = text.shape[1]
    target = index_of_occurrence(text == finetuning, occurrence) - offset  # position from the end
    position = torch.arange(length, 0, -1)
    at_target = position == target[:, None]
    nearer = position < target[:, None]  # strictly between the target and the end
    is_pretraining, is_finetuning = text == pretraining, text == finetuning
    wanted = occurrence - 1 - (is_pretraining & nearer).sum(1)
    editable = nearer & torch.where(
        (wanted > 0)[:, None], ~is_pretraining & ~is_finetuning, is_pretraining
    )
    exists = index_of_occurrence(is_finetuning, occurrence) > 0
    possible = exists & (at_target & ~is_finetuning).any(1) & (editable.sum(1) >= wanted.abs())
    chosen = _choose(editable, wanted.abs() * possible, generator)
    # The target itself becomes O_PT if it is the third letter.
    chosen |= at_target & ~is_pretraining & possible[:, None]
    return _flip(text, chosen, pretraining, finetuning)


def _choose(
    among: Bool[Tensor, "batch pos"], count: Int[Tensor, " batch"], generator: torch.Generator
) -> Bool[Tensor, "batch pos"]:
    """``count`` places of each row, drawn at random from those marked in ``among``."""
    order = torch.rand(among.shape, generator=generator).masked_fill(~among, 2.0)
    rank = order.argsort(1).argsort(1)
    return among & (rank < count[:, None])


def _flip(
    text: Int[Tensor, "batch pos"],
    chosen: Bool[Tensor, "batch pos"],
    pretraining: int,
    finetuning: int,
) -> Int[Tensor, "batch pos"]:
    """Swap O_PT and the third letter at the chosen places (none of which holds O_FT)."""
    third = 3 - pretraining - finetuning  # letters are 0, 1, 2
    return torch.where(chosen, pretraining + third - text, text)
