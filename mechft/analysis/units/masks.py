"""Sets of units as values: combined with ``|``, ``&``, ``-`` and ``~``, counted, compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch
from jaxtyping import Bool
from torch import Tensor

from mechft.analysis.result import Result
from mechft.analysis.units.layout import UnitLayout, unit_layout
from mechft.errors import ConfigError, require, unknown_name
from mechft.models.hook_points import ModelLike

if TYPE_CHECKING:
    import pandas as pd

Key = TypeVar("Key", int, str)


@dataclass(frozen=True, eq=False)
class UnitMask:
    """A set of units of one kind, in models of one shape.

    ``a | b`` is the union, ``a & b`` the intersection, ``a - b`` what is in a and not in b, ``~a`` all other
    units; ``len(a)`` counts units and ``a == b`` compares.

    Attributes:
        chosen: For each group of units, which of them are in the set. Bool["unit"].
        layout: The units it is a set of.

    Raises:
        ConfigError: If ``chosen`` does not fit the layout.
    """

    chosen: Mapping[str, Bool[Tensor, " unit"]]
    layout: UnitLayout

    def __post_init__(self) -> None:
        sizes = self.layout.sizes
        got = {group: tuple(units.shape) for group, units in self.chosen.items()}
        require(
            got == {group: (size,) for group, size in sizes.items()}
            and all(units.dtype == torch.bool for units in self.chosen.values()),
            f"A mask of {self.layout.unit} units says yes or no for each of "
            f"{_shortened(sizes.items())}; got {_shortened(got.items())}. Make masks with unit_mask() or "
            "scores.top().",
        )

    def __len__(self) -> int:
        return sum(int(units.sum()) for units in self.chosen.values())

    def __bool__(self) -> bool:
        return any(bool(units.any()) for units in self.chosen.values())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, UnitMask):
            return NotImplemented
        return self.layout == other.layout and all(
            torch.equal(units, other.chosen[group]) for group, units in self.chosen.items()
        )

    __hash__ = None  # type: ignore[assignment]  # tensors inside

    def __or__(self, other: UnitMask) -> UnitMask:
        return self._with(other, torch.logical_or)

    def __and__(self, other: UnitMask) -> UnitMask:
        return self._with(other, torch.logical_and)

    def __sub__(self, other: UnitMask) -> UnitMask:
        return self & ~other

    def __invert__(self) -> UnitMask:
        return UnitMask({group: ~units for group, units in self.chosen.items()}, self.layout)

    def _with(self, other: UnitMask, combine: Callable[[Tensor, Tensor], Tensor]) -> UnitMask:
        if not isinstance(other, UnitMask):
            raise ConfigError(
                f"A mask combines with another mask; got {type(other).__name__}. Name units with unit_mask()."
            )
        self.layout.check_same(other.layout)
        both = {group: combine(units, other.chosen[group]) for group, units in self.chosen.items()}
        return UnitMask(both, self.layout)

    def __repr__(self) -> str:
        places = ", ".join(f"{group}: {count}" for group, count in self.counts().items())
        kind = self.layout.unit
        return (
            f"UnitMask({len(self):,} of {len(self.layout):,} {kind} units{places and '; '}{places})"
        )

    def counts(self) -> dict[str, int]:
        """Number of chosen units by group (matrix, attention or MLP), where there are any."""
        counted = {group: int(units.sum()) for group, units in self.chosen.items()}
        return {group: count for group, count in counted.items() if count}

    def units(self) -> dict[str, list[int]]:
        """The numbers of the chosen units by group, where there are any; ``unit_mask`` undoes it."""
        return {
            group: units.nonzero().flatten().tolist()
            for group, units in self.chosen.items()
            if bool(units.any())
        }

    def singles(self) -> list[UnitMask]:
        """The chosen units one by one, each as a mask of its own."""
        nothing = {group: torch.zeros_like(units) for group, units in self.chosen.items()}
        return [
            UnitMask(nothing | {group: torch.arange(len(nothing[group])) == number}, self.layout)
            for group, numbers in self.units().items()
            for number in numbers
        ]

    def by_block(self) -> dict[int, int]:
        """Number of chosen units in each block, zeros included."""
        return self._added(lambda group: int(group.split(".")[1]))

    def by_component(self) -> dict[str, int]:
        """Number of chosen units in each component ("attn.W_Q"), all blocks together."""
        return self._added(lambda group: group.split(".", 2)[2])

    def _added(self, key: Callable[[str], Key]) -> dict[Key, int]:
        found: dict[Key, int] = {}
        for group, units in self.chosen.items():
            found[key(group)] = found.get(key(group), 0) + int(units.sum())
        return found


def unit_mask(
    model: ModelLike, units: Mapping[str, Iterable[int]] | None = None, unit: str = "neuron"
) -> UnitMask:
    """A mask of units named one by one; of none where none are named (``~`` of it is all).

    Args:
        model: The model whose units they are.
        units: Numbers of units by group: ``{"blocks.0.mlp.W_in": [3, 5]}``, and for heads and MLP neurons
            ``{"blocks.1.attn": [0]}``.
        unit: The kind of units.

    Raises:
        UnknownNameError: If a group or kind does not exist.
        ConfigError: If a unit does not exist.
    """
    layout = unit_layout(model, unit)
    chosen = {group: torch.zeros(size, dtype=torch.bool) for group, size in layout.sizes.items()}
    for group, numbers in (units or {}).items():
        if group not in chosen:
            raise unknown_name(f"group of {unit} units", group, chosen)
        for number in numbers:
            require(
                0 <= number < len(chosen[group]),
                f"{group} has {unit} units 0..{len(chosen[group]) - 1}; got {number}.",
            )
            chosen[group][number] = True
    return UnitMask(chosen, layout)


@dataclass(frozen=True)
class UnitPlaces(Result):
    """Where the units of masks lie: how many in each component of each block.

    Columns: model, block, matrix (the component: "attn.W_Q"; "attn" for heads), unit (the kind), units
    (chosen), total (units there), share (chosen of total).
    """


def unit_places(masks: Mapping[str, UnitMask]) -> UnitPlaces:
    """Count the units of masks by block and component, zeros included.

    Args:
        masks: Masks by what the column ``model`` calls them.

    Raises:
        ConfigError: If there is no mask.
    """
    require(bool(masks), "There is no mask to look at; give at least one.")
    import pandas as pd

    return UnitPlaces(
        pd.concat([_places(name, mask) for name, mask in masks.items()], ignore_index=True)
    )


def _places(name: str, mask: UnitMask) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(
        [
            {
                "model": name,
                "block": int(group.split(".")[1]),
                "matrix": group.split(".", 2)[2],
                "unit": mask.layout.unit,
                "units": int(units.sum()),
                "total": len(units),
                "share": int(units.sum()) / len(units),
            }
            for group, units in mask.chosen.items()
        ]
    )


def _shortened(items: Iterable[tuple[str, object]]) -> str:
    shown = [f"{name}: {value}" for name, value in items]
    return ", ".join(shown[:3]) + (f", … ({len(shown)} groups)" if len(shown) > 3 else "")
