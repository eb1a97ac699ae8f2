"""Neurons as Jain et al. (2024, App. D) prune them: rows of weight matrices.

A row is an output unit with all weights that lead to it. TransformerLens keeps its matrices as inputs
× outputs, so the paper's rows are columns here: W_in[:, j] is neuron j, W_Q[h, :, d] one query
channel. Biases are left alone, as is the embedding and the unembedding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mechft.errors import ConfigError, unknown_name
from mechft.models.hook_points import ModelLike, as_model

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

# Axes that a unit's incoming weights run over; the other axes index units.
_INPUT_AXES = {
    "W_Q": (1,),  # [head, d_model, d_head]
    "W_K": (1,),
    "W_V": (1,),
    "W_O": (0, 1),  # [head, d_head, d_model]
    "W_in": (0,),  # [d_model, d_mlp]
    "W_out": (0,),  # [d_mlp, d_model]
}


def prunable_parameters(model: HookedTransformer) -> dict[str, Tensor]:
    """The weight matrices whose units can be pruned, by parameter name."""
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if name.startswith("blocks.") and name.split(".")[-1] in _INPUT_AXES
    }


def unit_count(name: str, parameter: Tensor) -> int:
    """Number of output units of a weight matrix."""
    inputs = _INPUT_AXES[name.split(".")[-1]]
    return math.prod(size for axis, size in enumerate(parameter.shape) if axis not in inputs)


def sum_over_inputs(name: str, values: Tensor) -> Float[Tensor, " unit"]:
    """Sum a matrix-shaped quantity over each unit's incoming weights."""
    return values.sum(_INPUT_AXES[name.split(".")[-1]]).flatten()


@dataclass(frozen=True)
class UnitMask:
    """A set of units of one model: which output units of which weight matrices.

    Attributes:
        chosen: For each weight matrix, which of its units are in the set. Bool["unit"].
    """

    chosen: dict[str, Bool[Tensor, " unit"]]

    def __len__(self) -> int:
        return sum(int(units.sum()) for units in self.chosen.values())

    def counts(self) -> dict[str, int]:
        """Number of chosen units by weight matrix, where there are any."""
        counted = {name: int(units.sum()) for name, units in self.chosen.items()}
        return {name: count for name, count in counted.items() if count}

    def weights(self, name: str, shape: torch.Size) -> Bool[Tensor, ...]:
        """The mask of one matrix, broadcastable to its weights."""
        axes = _INPUT_AXES[name.split(".")[-1]]
        return self.chosen[name].view([1 if i in axes else n for i, n in enumerate(shape)])


@contextmanager
def pruned(model: ModelLike, mask: UnitMask) -> Iterator[HookedTransformer]:
    """Set the weights of the chosen units to zero inside the block; restored bit for bit after it.

    Raises:
        UnknownNameError: If the mask names a matrix the model does not have.
        ConfigError: If it was made for a model of another shape.
    """
    model = as_model(model)
    parameters = prunable_parameters(model)
    for name, units in mask.chosen.items():
        if name not in parameters:
            raise unknown_name("weight matrix", name, parameters)
        expected = unit_count(name, parameters[name])
        if len(units) != expected:
            raise ConfigError(
                f"The mask has {len(units)} units for {name}, the model {expected}: it was made "
                "for another model. Score this model's units."
            )
    saved = {name: parameters[name].detach().clone() for name in mask.counts()}
    try:
        with torch.no_grad():
            for name in saved:
                parameter = parameters[name]
                parameter.masked_fill_(mask.weights(name, parameter.shape), 0.0)
        yield model
    finally:
        with torch.no_grad():
            for name, value in saved.items():
                parameters[name].copy_(value)
