"""How a model's weights group into units that are scored, removed or put back together.

A kind of unit says, for each weight matrix, which axes tell units apart; all weights along the other
axes belong to one unit. With W_in Float["d_model d_mlp"], a "neuron" is a column W_in[:, j] (all weights
that lead to output j, what Jain et al. call a row), a "column" a row W_in[i, :] (all weights that input i
feeds), a "weight" a single entry. Biases, norms, embedding and unembedding belong to no unit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from mechft.errors import ConfigError, unknown_name
from mechft.models.hook_points import ModelLike, as_model
from mechft.models.weights import block_matrices

_ORDER = ("W_Q", "W_O", "W_K", "W_V", "W_in", "W_gate", "W_out")  # in which units are numbered


@dataclass(frozen=True)
class UnitKind:
    """One way to group weights into units.

    Attributes:
        name: "neuron" and the like.
        axes: For each matrix, its axes that tell units apart. Matrices that are left out have no units.
        across: Whether a unit reaches across the matrices of its attention or MLP (a head), or each
            matrix has units of its own.
    """

    name: str
    axes: Mapping[str, tuple[int, ...]]
    across: bool = False

    def group(self, matrix: str) -> str:
        """What the units of a matrix are counted under: itself, or its attention or MLP."""
        return matrix.rpartition(".")[0] if self.across else matrix


# W_Q, W_K, W_V: [head, d_model, d_head]; W_O: [head, d_head, d_model]; W_in, W_gate: [d_model, d_mlp];
# W_out: [d_mlp, d_model].
UNIT_KINDS: Mapping[str, UnitKind] = {
    kind.name: kind
    for kind in (
        UnitKind(
            "neuron",
            {"W_Q": (0, 2), "W_K": (0, 2), "W_V": (0, 2), "W_O": (2,)}
            | {"W_in": (1,), "W_gate": (1,), "W_out": (1,)},
        ),
        UnitKind(
            "column",
            {"W_Q": (1,), "W_K": (1,), "W_V": (1,), "W_O": (0, 1)}
            | {"W_in": (0,), "W_gate": (0,), "W_out": (0,)},
        ),
        UnitKind(
            "weight",
            {"W_Q": (0, 1, 2), "W_K": (0, 1, 2), "W_V": (0, 1, 2), "W_O": (0, 1, 2)}
            | {"W_in": (0, 1), "W_gate": (0, 1), "W_out": (0, 1)},
        ),
        UnitKind("head", {"W_Q": (0,), "W_K": (0,), "W_V": (0,), "W_O": (0,)}, across=True),
        UnitKind("mlp_neuron", {"W_in": (1,), "W_gate": (1,), "W_out": (0,)}, across=True),
    )
}
"""The kinds of units by name.

neuron: an output unit of one matrix with all weights that lead to it (Jain et al. 2024, App. D); the
default everywhere. column: an input unit of one matrix with all weights it feeds. weight: one entry. head:
W_Q, W_K, W_V and W_O of an attention head; where query heads share keys and values (grouped-query
attention) a head is its W_Q and W_O alone, because other heads need the shared W_K and W_V. mlp_neuron: a
hidden unit of an MLP with the weights into it (W_in, W_gate) and out of it (W_out)."""


@dataclass(frozen=True)
class UnitLayout:
    """The units of one kind in models of one shape: what scores and masks are about.

    Attributes:
        unit: The kind of units, of ``UNIT_KINDS``.
        shapes: Shape of every block matrix by name.

    Raises:
        UnknownNameError: If the kind is not known.
    """

    unit: str
    shapes: Mapping[str, tuple[int, ...]]

    def __post_init__(self) -> None:
        if self.unit not in UNIT_KINDS:
            raise unknown_name("kind of unit", self.unit, UNIT_KINDS)

    @cached_property
    def members(self) -> dict[str, dict[str, tuple[int, ...]]]:
        """For each group of units the matrices their weights lie in, with the axes of units."""
        kind = UNIT_KINDS[self.unit]
        found: dict[str, dict[str, tuple[int, ...]]] = {}
        for name, shape in self.shapes.items():
            prefix, _, matrix = name.rpartition(".")
            if matrix not in kind.axes or (kind.across and self._is_shared(prefix, matrix, shape)):
                continue
            found.setdefault(kind.group(name), {})[name] = kind.axes[matrix]
        return found

    def _is_shared(self, prefix: str, matrix: str, shape: tuple[int, ...]) -> bool:
        """Whether several query heads share this key or value matrix's heads."""
        return matrix in ("W_K", "W_V") and shape[0] != self.shapes[f"{prefix}.W_Q"][0]

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Number of units in each group: each matrix, or each attention or MLP."""
        sizes = {}
        for group, matrices in self.members.items():
            name, axes = next(iter(matrices.items()))
            sizes[group] = math.prod(self.shapes[name][axis] for axis in axes)
        return sizes

    def __len__(self) -> int:
        return sum(self.sizes.values())

    def totals(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Sum matrix-shaped quantities over each unit's weights. Float["unit"] for each group."""
        found: dict[str, Tensor] = {}
        for group, matrices in self.members.items():
            for name, axes in matrices.items():
                within = [i for i in range(len(self.shapes[name])) if i not in axes]
                summed = (values[name].sum(within) if within else values[name]).flatten()
                found[group] = found[group] + summed if group in found else summed
        return found

    def spread(self, group: str, values: Tensor) -> dict[str, Tensor]:
        """One value a unit of a group, shaped to broadcast over the matrices its weights lie in."""
        return {
            name: values.view([n if i in axes else 1 for i, n in enumerate(self.shapes[name])])
            for name, axes in self.members[group].items()
        }

    def check_same(self, other: UnitLayout) -> None:
        """Raise ConfigError unless two scores or masks are about the same units."""
        if self.unit != other.unit:
            raise ConfigError(
                f"Masks and scores combine when they are of one kind of unit; got {self.unit!r} and "
                f"{other.unit!r}. Make both with the same unit=."
            )
        if self != other:
            raise ConfigError(
                f"Masks and scores combine when they are of models of one shape; these were made for "
                f"different models (first difference: {first_difference(self.shapes, other.shapes)})."
            )


def unit_layout(model: ModelLike, unit: str = "neuron") -> UnitLayout:
    """The units of one kind in a model.

    Raises:
        UnknownNameError: If the kind is not known.
        ConfigError: If the model does not show its weight matrices, or has no unit of this kind.
    """
    if unit not in UNIT_KINDS:
        raise unknown_name("kind of unit", unit, UNIT_KINDS)
    weights = block_matrices(as_model(model)).values()
    ranked = sorted(weights, key=lambda weight: (weight.block, _ORDER.index(weight.kind)))
    layout = UnitLayout(unit, {w.name: tuple(w.tensor.shape) for w in ranked})
    if not layout.members:
        raise ConfigError(f"This model has no unit of kind {unit!r}; choose another unit=.")
    return layout


def first_difference(
    ours: Mapping[str, tuple[int, ...]], theirs: Mapping[str, tuple[int, ...]]
) -> str:
    """Where two models' shapes part, in words."""
    for name in [*ours, *theirs]:
        if ours.get(name) != theirs.get(name):
            return f"{name} is {ours.get(name, 'missing')} and {theirs.get(name, 'missing')}"
    return "none"
