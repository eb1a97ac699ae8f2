"""Weights of a model replaced unit by unit in place, and put back bit for bit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from mechft.analysis.units.layout import UnitLayout, first_difference
from mechft.analysis.units.masks import UnitMask
from mechft.errors import ConfigError
from mechft.models.weights import Weight, all_weights

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer


class WeightEdit:
    """Weights of a model replaced unit by unit, and the means to put them back.

    Only matrices whose units change are written to, so stepping through a growing set costs little.

    Args:
        model: The model to write to.
        layout: Its units.
        base: A model of the same shape whose values replace the model's own; zeros if None.
    """

    def __init__(
        self, model: HookedTransformer, layout: UnitLayout, base: HookedTransformer | None = None
    ) -> None:
        self.layout = layout
        self.weights = all_weights(model)
        self.replacement = None if base is None else matching_weights(model, base)
        self._original: dict[str, Tensor] = {}
        # Which units of a group are replaced: none where it is missing, None for some in part.
        self._now: dict[str, Tensor | None] = {}

    def replace(self, mask: UnitMask) -> None:
        """Have exactly the units of ``mask`` replaced, whichever were before."""
        for group, units in mask.chosen.items():
            before = self._now.get(group, torch.zeros_like(units))
            if before is not None and torch.equal(units, before):
                continue
            self._now[group] = units
            for name, chosen in self.layout.spread(group, units).items():
                tensor = self.weights[name].tensor
                new, chosen = self._new(name), chosen.to(tensor.device)
                self._write(name, torch.where(chosen, new, self.original(name)))

    def blend(self, amounts: Mapping[str, Float[Tensor, " unit"]]) -> None:
        """Have every unit replaced in part: 0 leaves it, 1 replaces it."""
        for group, amount in amounts.items():
            self._now[group] = None
            for name, part in self.layout.spread(group, amount).items():
                original = self.original(name)
                part = part.to(original.device, original.dtype)
                self._write(name, original + part * self.step(name))

    def replace_other_weights(self, kept: Iterable[str]) -> None:
        """Replace whole weights: all but the named ones."""
        for name in self.weights.keys() - set(kept):
            self._write(name, self._new(name).expand_as(self.weights[name].tensor))

    def original(self, name: str) -> Tensor:
        """A weight as it was before any edit."""
        return self._original.get(name, self.weights[name].tensor)

    def step(self, name: str) -> Tensor:
        """What replacing a whole weight adds to it."""
        return self._new(name) - self.original(name)

    def _new(self, name: str) -> Tensor:
        tensor = self.weights[name].tensor
        if self.replacement is None:
            return tensor.new_zeros(())
        return self.replacement[name].tensor.to(tensor.device, tensor.dtype)

    @torch.no_grad()
    def _write(self, name: str, value: Tensor) -> None:
        if name not in self._original:
            self._original[name] = self.weights[name].tensor.clone()
        self.weights[name].tensor.copy_(value)

    @torch.no_grad()
    def undo(self) -> None:
        """Put every weight back as it was; may be called again if it was interrupted."""
        for name, value in self._original.items():
            self.weights[name].tensor.copy_(value)
        self._original.clear()
        self._now.clear()


@contextmanager
def editing(
    model: HookedTransformer, layout: UnitLayout, base: HookedTransformer | None = None
) -> Iterator[WeightEdit]:
    """A ``WeightEdit`` that is undone when the block ends, however it ends."""
    edit = WeightEdit(model, layout, base)
    try:
        try:
            yield edit
        finally:
            edit.undo()
    finally:  # Ctrl-C while the weights were put back: put back the rest before it goes on
        edit.undo()


def matching_weights(model: HookedTransformer, base: HookedTransformer) -> dict[str, Weight]:
    """The base's weights by name.

    Raises:
        ConfigError: If the two models' weights differ in name or shape.
    """
    ours, theirs = (
        {name: weight.tensor for name, weight in all_weights(m).items()} for m in (model, base)
    )
    shapes = [{name: tuple(t.shape) for name, t in part.items()} for part in (ours, theirs)]
    if shapes[0] != shapes[1]:
        raise ConfigError(
            "A base has the same weights as the model, in name and shape; first difference: "
            f"{first_difference(*shapes)}. Give the model this one was fine-tuned from."
        )
    return all_weights(base)
