"""Units of a model set to zero (pruned) or back to another model's values (grafted), for a while.

The context managers write to the parameters themselves and put the old values back bit for bit, whatever
happens inside; the copies leave the model alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mechft.analysis.units.layout import UnitLayout, first_difference, unit_layout
from mechft.analysis.units.masks import UnitMask
from mechft.analysis.units.weight_edit import WeightEdit, editing
from mechft.errors import ConfigError
from mechft.models.build import clone
from mechft.models.hook_points import ModelLike, as_model

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer


@contextmanager
def pruned(model: ModelLike, mask: UnitMask) -> Iterator[HookedTransformer]:
    """Set the weights of the chosen units to zero inside the block; restored bit for bit after it.

    Args:
        model: The model to prune, in place.
        mask: Its units to remove.

    Raises:
        ConfigError: If the mask was made for a model of another shape.

    Cost: a copy of the matrices in which units change, while the block lasts.

    Example:
        >>> import mechft as mf
        >>> ft = mf.load("pcfg-tiny-low-to-b")
        >>> rows = ft.task.query("C", "a", mf.Correlation(0.0)).sample(200, mf.generator(0))
        >>> before = mf.accuracy(ft, rows)
        >>> with mf.pruned(ft, mf.gradient_times_weight(ft, rows).top(15)):
        ...     during = mf.accuracy(ft, rows)
        >>> during.low > before.high  # fifteen of 3,456 neurons hid the count of a, or part of it
        True
        >>> mf.accuracy(ft, rows) == before
        True
    """
    model = as_model(model)
    check_fits(model, mask)
    with editing(model, mask.layout) as edit:
        edit.replace(mask)
        yield model


@contextmanager
def grafted(
    model: ModelLike, mask: UnitMask, base: ModelLike, *, everything: bool = False
) -> Iterator[HookedTransformer]:
    """Give the chosen units the weights they have in ``base`` inside the block; restored after it.

    Source: Jain et al. 2024, Sec. 5 (Tracr: base weights put back beside pruning).

    Args:
        model: The model to change, in place.
        mask: Its units to put back.
        base: A model of the same shape, such as the one before fine-tuning; only read.
        everything: Put back what belongs to no unit as well: biases, norms, embedding, unembedding. With
            all units in the mask the model then computes what the base computes, bit for bit.

    Raises:
        ConfigError: If mask or base are of another shape than the model.

    Cost: as ``pruned``; with ``everything`` a copy of all weights.

    Example:
        >>> import mechft as mf
        >>> base, ft = mf.load("pcfg-tiny-low"), mf.load("pcfg-tiny-low-to-b")
        >>> rows = base.task.query("C", "a").sample(50, mf.generator(0))
        >>> everything = ~mf.random_scores(ft, seed=0).top(0)
        >>> with mf.grafted(ft, everything, base, everything=True):
        ...     mf.predictions(ft, rows).equal(mf.predictions(base, rows))
        True
    """
    model, base = as_model(model), as_model(base)
    check_fits(model, mask)
    with editing(model, mask.layout, base) as edit:
        edit.replace(mask)
        if everything:
            edit.replace_other_weights(_in_units(mask.layout))
        yield model


def pruned_copy(model: ModelLike, mask: UnitMask) -> HookedTransformer:
    """A copy of the model whose chosen units have zero weights; ``pruned`` for good.

    Raises:
        ConfigError: As ``pruned``.
    """
    model = as_model(model)
    check_fits(model, mask)
    twin = clone(model)
    WeightEdit(twin, mask.layout).replace(mask)
    return twin


def grafted_copy(
    model: ModelLike, mask: UnitMask, base: ModelLike, *, everything: bool = False
) -> HookedTransformer:
    """A copy of the model with the base's weights in the chosen units; ``grafted`` for good.

    Raises:
        ConfigError: As ``grafted``.
    """
    model, base = as_model(model), as_model(base)
    check_fits(model, mask)
    twin = clone(model)
    edit = WeightEdit(twin, mask.layout, base)
    edit.replace(mask)
    if everything:
        edit.replace_other_weights(_in_units(mask.layout))
    return twin


def check_fits(model: HookedTransformer, mask: UnitMask) -> None:
    """Raise ConfigError unless a mask was made for a model of this shape."""
    own = unit_layout(model, mask.layout.unit)
    if own != mask.layout:
        raise ConfigError(
            "The mask was made for another model (first difference: "
            f"{first_difference(own.shapes, mask.layout.shapes)}). Score this model's units."
        )


def _in_units(layout: UnitLayout) -> list[str]:
    return [name for matrices in layout.members.values() for name in matrices]
