"""Scores of units: which are to be removed, or put back, first.

Every score is a number a unit, and the largest comes first. ``-scores`` turns the order round:
``(-magnitude(model)).top(10)`` is classical magnitude pruning. ``abs(scores)`` drops the sign.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechft.analysis.batches import Data
from mechft.analysis.units.gradients import exact, loss_gradients, row_gradients
from mechft.analysis.units.layout import UnitLayout, unit_layout
from mechft.analysis.units.masks import UnitMask
from mechft.analysis.units.weight_edit import matching_weights
from mechft.errors import ConfigError, require
from mechft.models.hook_points import ModelLike, as_model
from mechft.models.weights import block_matrices
from mechft.randomness import generator

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer


@dataclass(frozen=True)
class UnitScores:
    """A score for every unit of a model; the larger, the sooner it is removed.

    Attributes:
        scores: For each group of units (see ``UnitLayout``). Float["unit"].
        layout: The units.
        name: What frames and figures call the score.

    Raises:
        ConfigError: If the scores do not fit the layout, or one is NaN.
    """

    scores: Mapping[str, Float[Tensor, " unit"]]
    layout: UnitLayout
    name: str = "custom"

    def __post_init__(self) -> None:
        got = {group: len(values) for group, values in self.scores.items()}
        require(
            got == self.layout.sizes,
            f"Scores give one number for each {self.layout.unit} unit, in the groups "
            f"{', '.join(list(self.layout.sizes)[:3])}, …; got {len(got)} groups with "
            f"{sum(got.values())} numbers in place of {len(self.layout.sizes)} with {len(self.layout)}.",
        )
        for group, values in self.scores.items():
            require(
                not bool(values.isnan().any()),
                f"The {self.name} scores of {group} hold NaN; the model has diverged or overflowed.",
            )

    def __len__(self) -> int:
        return sum(len(values) for values in self.scores.values())

    def __neg__(self) -> UnitScores:
        return self._each(torch.neg, f"−{self.name}")

    def __abs__(self) -> UnitScores:
        return self._each(torch.abs, f"|{self.name}|")

    def _each(self, function: Callable[[Tensor], Tensor], name: str) -> UnitScores:
        return UnitScores({g: function(v) for g, v in self.scores.items()}, self.layout, name)

    @cached_property
    def order(self) -> Int[Tensor, " unit"]:
        """All units, best first, numbered through the groups (ties: the earlier group and unit first)."""
        return torch.cat(list(self.scores.values())).argsort(descending=True, stable=True)

    def of(self, mask: UnitMask) -> list[float]:
        """The scores of the units of a mask, in the mask's order."""
        self.layout.check_same(mask.layout)
        return [
            float(value)
            for group, units in mask.chosen.items()
            for value in self.scores[group][units]
        ]

    def top(self, count: int) -> UnitMask:
        """The ``count`` units with the largest scores.

        Raises:
            ConfigError: If there are fewer units.
        """
        if not 0 <= count <= len(self):
            raise ConfigError(
                f"The number of units to remove lies in 0..{len(self)}, all there are; got {count}."
            )
        chosen = torch.zeros(len(self), dtype=torch.bool)
        chosen[self.order[:count]] = True
        sizes = [len(values) for values in self.scores.values()]
        return UnitMask(dict(zip(self.scores, chosen.split(sizes), strict=True)), self.layout)


def gradient_times_weight(model: ModelLike, data: Data, *, unit: str = "neuron") -> UnitScores:
    """Signed gradient × weight of the answer loss on ``data``, summed over each unit's weights.

    Setting a unit's weights to zero changes the loss by minus its score, to first order.

    Args:
        model: The model; left as it is.
        data: Rows of the capability to revive.
        unit: The kind of units, of ``UNIT_KINDS``.

    Raises:
        ConfigError: If the batch is empty, or a gradient is not finite.

    Source: Jain et al. 2024, App. D.
    Cost: one forward and backward to the answer position, fused where the model allows it.

    Example:
        >>> import mechft as mf
        >>> ft = mf.load("pcfg-tiny-low-to-b")
        >>> rows = ft.task.query("C", "a", mf.Correlation(0.0)).sample(100, mf.generator(0))
        >>> mask = mf.gradient_times_weight(ft, rows).top(15)  # what hurts most, to first order
        >>> len(mask), len(~mask)
        (15, 3441)
    """
    model = as_model(model)
    layout = unit_layout(model, unit)
    _, gradients = loss_gradients(model, data)
    products = {
        name: gradient * weight.tensor
        for (name, weight), gradient in zip(
            block_matrices(model).items(), gradients.values(), strict=True
        )
    }
    return _scores(layout, products, "gradient×weight")


def gradient_times_change(
    model: ModelLike, data: Data, base: ModelLike, *, unit: str = "neuron"
) -> UnitScores:
    """Signed gradient × change since the base, summed over each unit's weights.

    Grafting the base's weights back changes the loss on ``data`` by minus the score, to first order: what
    ``gradient_times_weight`` is to removing, this is to grafting.

    Raises:
        ConfigError: As ``gradient_times_weight``, or if the base has another shape.

    Cost: as ``gradient_times_weight``.
    """
    model = as_model(model)
    layout = unit_layout(model, unit)
    change = _change(model, as_model(base))
    _, gradients = loss_gradients(model, data)
    products = {name: gradient * change[name] for name, gradient in gradients.items()}
    return _scores(layout, products, "gradient×change")


def fisher(model: ModelLike, data: Data, *, unit: str = "neuron") -> UnitScores:
    """Empirical Fisher importance: squared gradient × squared weight, mean over rows, summed over weights.

    Each row's own gradient is squared (not the mean gradient), so rows that pull in opposite directions
    both count. Unsigned: it says how much the answers to ``data`` rest on a unit, not in which direction.

    Raises:
        ConfigError: As ``gradient_times_weight``.

    Source: Molchanov et al. 2019 ("Importance estimation for neural network pruning"), with the diagonal
    Fisher of Theis et al. 2018.
    Cost: one forward and backward a row, one row at a time, so that memory holds one gradient; about 8 ms
    a row at tiny on one core. 200 rows do for a ranking.
    """
    model = as_model(model)
    layout = unit_layout(model, unit)
    squares: dict[str, Tensor] = {}
    rows = 0
    for gradients in row_gradients(model, data):
        rows += 1
        for name, gradient in gradients.items():
            part = gradient.square()
            squares[name] = squares[name] + part if name in squares else part
    products = {
        name: squares[name] / rows * weight.tensor.to(squares[name].dtype).square()
        for name, weight in block_matrices(model).items()
    }
    return _scores(layout, products, "fisher")


def magnitude(model: ModelLike, *, unit: str = "neuron") -> UnitScores:
    """L2 norm of each unit's weights; the largest come first (``-magnitude(model)``: the smallest)."""
    model = as_model(model)
    weights = {name: exact(weight.tensor) for name, weight in block_matrices(model).items()}
    return _norms(unit_layout(model, unit), weights, "magnitude")


def movement(model: ModelLike, base: ModelLike, *, unit: str = "neuron") -> UnitScores:
    """L2 norm of each unit's change since the base: what fine-tuning moved furthest comes first.

    Raises:
        ConfigError: If the base has another shape.
    """
    model = as_model(model)
    layout = unit_layout(model, unit)
    return _norms(layout, _change(model, as_model(base)), "movement")


def random_scores(
    model: ModelLike, seed: int, draw: int = 0, *, unit: str = "neuron"
) -> UnitScores:
    """Scores that rank the units in random order: the control for any other score.

    Orders of different (seed, draw) are unrelated.

    Args:
        model: The model; only the shapes of its weights are looked at.
        seed, draw: Which order.
        unit: The kind of units, of ``UNIT_KINDS``.

    Raises:
        UnknownNameError: If the kind of units is not known.

    Cost: a random number a unit.

    Example:
        >>> import mechft as mf
        >>> ft = mf.load("pcfg-tiny-low-to-b")
        >>> mask = mf.random_scores(ft, seed=0).top(15)
        >>> mask == mf.random_scores(ft, seed=0).top(15), mask == mf.random_scores(ft, seed=1).top(15)
        (True, False)
    """
    layout = unit_layout(model, unit)
    draws = generator(seed, "random_scores", draw)
    drawn = {group: torch.rand(size, generator=draws) for group, size in layout.sizes.items()}
    return UnitScores(drawn, layout, "random")


def _change(model: HookedTransformer, base: HookedTransformer) -> dict[str, Tensor]:
    """What was added to each block matrix since the base."""
    before = matching_weights(model, base)
    return {
        name: exact(weight.tensor) - exact(before[name].tensor).to(weight.tensor.device)
        for name, weight in block_matrices(model).items()
    }


def _norms(layout: UnitLayout, values: Mapping[str, Tensor], name: str) -> UnitScores:
    squares = {key: value.square() for key, value in values.items()}
    found = _scores(layout, squares, name)
    return UnitScores({group: v.sqrt() for group, v in found.scores.items()}, layout, name)


def _scores(layout: UnitLayout, products: Mapping[str, Tensor], name: str) -> UnitScores:
    return UnitScores({g: v.cpu() for g, v in layout.totals(products).items()}, layout, name)
