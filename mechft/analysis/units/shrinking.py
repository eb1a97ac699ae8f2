"""Making a set of units smaller as long as it does what it should."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mechft.analysis.batches import Data, one_batch
from mechft.analysis.units.layout import unit_layout
from mechft.analysis.units.masks import UnitMask
from mechft.analysis.units.ranking import Mode, replacement_model
from mechft.analysis.units.scores import UnitScores
from mechft.analysis.units.weight_edit import WeightEdit, editing
from mechft.errors import require
from mechft.models.hook_points import ModelLike, as_model
from mechft.tasks.batch import TokenBatch
from mechft.training.evaluation import accuracy

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer


def shrink_mask(
    model: ModelLike,
    mask: UnitMask,
    data: Data,
    target: float,
    *,
    mode: Mode = "zero",
    base: ModelLike | None = None,
    order: UnitScores | None = None,
) -> UnitMask:
    """Backward elimination: put units back one by one while accuracy stays at a target.

    Args:
        model: The model; unchanged afterwards.
        mask: The set to shrink.
        data: Rows whose accuracy must stay.
        target: The accuracy.
        mode, base: What becomes of a removed unit, as in ``prune_curve``.
        order: Units with the smallest scores are put back first; by number if None.

    Returns:
        A subset that reaches the target, and from which no single unit can be put back without losing it.
        Other subsets may be smaller still.

    Raises:
        ConfigError: If the whole mask does not reach the target, or was made for another model.

    Cost: one evaluation a unit and pass; passes are repeated until one puts nothing back.
    """
    model, batch = as_model(model), one_batch(data)
    with editing(
        model, unit_layout(model, mask.layout.unit), replacement_model(model, mode, base)
    ) as edit:
        edit.layout.check_same(mask.layout)
        if order is not None:
            edit.layout.check_same(order.layout)
        edit.replace(mask)
        before = accuracy(model, batch).value
        require(
            before >= target,
            f"Shrinking keeps a target that is reached; the target is {target:.1%} and the mask of "
            f"{len(mask)} units reaches {before:.1%}. Ask for less.",
        )
        return shrink(edit, model, mask, batch, target, order)


def shrink(
    edit: WeightEdit,
    model: HookedTransformer,
    mask: UnitMask,
    batch: TokenBatch,
    target: float,
    order: UnitScores | None,
) -> UnitMask:
    """``shrink_mask`` through an edit in force, of a mask that reaches the target."""
    singles = mask.singles()
    if order is not None:
        singles.sort(key=lambda single: order.of(single)[0])
    while True:
        left = []
        for single in singles:
            edit.replace(mask - single)
            if accuracy(model, batch).value >= target:
                mask = mask - single
            else:
                left.append(single)
        if len(left) == len(singles):
            return mask
        singles = left
