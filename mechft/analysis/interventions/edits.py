"""Changing activations: what to put at a site, as a function of what is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mechft.analysis.interventions.sites import Site
from mechft.errors import ConfigError
from mechft.models.fused import EDITABLE, Edit
from mechft.models.hook_points import attention_out, block_of, component_of, resid_pre
from mechft.models.weights import is_hooked_transformer

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

New = Callable[[Tensor, Tensor], Tensor]
"""(value at the site, its positions) → what takes its place; broadcastable.

Values are Float["row pos head d_head"] for heads, Float["row pos width"] for all else, cut to the site's
positions and units.
"""


def edit(sites: Sequence[Site], new: New, length: int) -> Edit:
    """The change of one hook point's value at some sites, as the fused forward and hooks take it.

    Args:
        sites: Sites of one hook point, all with the same position or none.
        new: What takes the place of the value.
        length: Tokens of the prompt, to count negative positions from.
    """
    units = [site.index for site in sites if site.index is not None]
    position = sites[0].position

    def change(value: Tensor, at: Tensor | None) -> Tensor:
        there = torch.arange(value.shape[1], device=value.device) if at is None else at
        if position is None:
            places = torch.arange(value.shape[1], device=value.device)
        else:
            wanted = position % length
            if at is None and wanted >= value.shape[1]:
                raise ConfigError(
                    f"This input has {value.shape[1]} positions, from 0; there is no {wanted}."
                )
            places = (there == wanted).nonzero()[:, 0]
            if len(places) == 0:  # the last block, where only the asked positions are computed
                return value
        chosen = torch.tensor(units, device=value.device) if units else None
        part = value[:, places] if chosen is None else value[:, places][:, :, chosen]
        replacement = new(part, there[places])
        if position is None and chosen is None:
            return replacement.to(value.dtype).expand_as(value)
        changed = value.clone()
        if chosen is None:
            changed[:, places] = replacement.to(value.dtype)
        else:
            changed[:, places[:, None], chosen[None, :]] = replacement.to(value.dtype)
        return changed

    return change


Edits = Mapping[str, Edit]
"""Changes by the hook point they are made at."""


def place_of(hook: str) -> tuple[int, int]:
    """Block, and place in the block's order, of a hook point that can be edited."""
    _, block, point = hook.split(".", 2)
    return int(block), EDITABLE.index(point)


def edits_for(
    sites: Sequence[Site], new: Callable[[str, list[int]], New], length: int
) -> dict[str, Edit]:
    """The changes of a set of sites together.

    Args:
        sites: The sites.
        new: From a hook point and the heads or neurons there to what takes their place.
        length: As in ``edit``.
    """
    groups: dict[tuple[str, int | None], list[Site]] = {}
    for site in sites:
        groups.setdefault((site.hook, site.position), []).append(site)
    edits: dict[str, Edit] = {}
    for (hook, _), group in groups.items():
        units = [site.index for site in group if site.index is not None]
        change = edit(group, new(hook, units), length)
        edits[hook] = _then(edits[hook], change) if hook in edits else change
    return edits


def _then(first: Edit, second: Edit) -> Edit:
    return lambda value, at: second(first(value, at), at)


@contextmanager
def intervened(model: HookedTransformer, edits: Edits) -> Iterator[HookedTransformer]:
    """Hooks that make the changes inside the block; gone after it, also when it is left by an error.

    A bridge's hook_resid_mid shows the stream but does not feed it, so a change there is made where it
    does: at the attention's output, by as much.
    """
    hooks: list[Any] = []
    # In the block's order, whatever order they are given in.
    for name in sorted(edits, key=place_of):
        change = edits[name]
        if component_of(name) == "resid_mid" and not is_hooked_transformer(model):
            hooks += _through_attention(block_of(name), change)
        else:
            hooks.append((name, _hook(change)))
    with model.hooks(fwd_hooks=hooks):
        yield model


def _hook(change: Edit) -> Callable[..., Tensor]:
    def run(value: Tensor, hook: Any) -> Tensor:
        if not isinstance(value, Tensor) or value.dim() < 3:
            raise ConfigError(
                f"{hook.name} gives no activations with rows and positions to change."
            )
        return change(value, None)

    return run


def _through_attention(block: int, change: Edit) -> list[tuple[str, Callable[..., Tensor]]]:
    seen: list[Tensor] = []

    def keep(value: Tensor, hook: Any) -> Tensor:
        seen[:] = [value]
        return value

    def run(value: Tensor, hook: Any) -> Tensor:
        return change(seen[0] + value, None) - seen[0]

    return [(resid_pre(block), keep), (attention_out(block), run)]


def zero(value: Tensor, positions: Tensor) -> Tensor:
    """Nothing."""
    return value.new_zeros(())


def constant(values: Tensor, units: Sequence[int] = ()) -> New:
    """The same values in every row: means. Float["pos ..."], all of the site's hook point."""

    def new(value: Tensor, positions: Tensor) -> Tensor:
        if int(positions.max()) >= len(values):
            raise ConfigError(
                f"The means reach {len(values)} positions, the reference's length; this input has "
                f"{int(positions.max()) + 1}. Take them from rows at least as long."
            )
        picked = values[positions.to(values.device)]
        return picked[:, list(units)] if units else picked

    return new


def from_rows(values: Tensor, units: Sequence[int] = (), basis: Tensor | None = None) -> New:
    """Each row's own values: Float["row pos ..."], all of the site's hook point.

    Args:
        values: From another model on the same rows, or the same model on others; row i's are
            ``values[i % rows]``.
        units: The site's heads or neurons.
        basis: Orthonormal directions, Float["k width"]: only the part along them is replaced.
    """

    def new(value: Tensor, positions: Tensor) -> Tensor:
        if int(positions.max()) >= values.shape[1]:
            raise ConfigError(
                f"The values to put in reach {values.shape[1]} positions; this input has "
                f"{int(positions.max()) + 1}. Take them from rows at least as long."
            )
        rows = torch.arange(len(value), device=values.device) % len(values)
        picked = values[rows][:, positions.to(values.device)]
        picked = (picked[:, :, list(units)] if units else picked).to(value)
        if basis is None:
            return picked
        directions = basis.to(value)
        return value + (picked - value) @ directions.T @ directions

    return new
