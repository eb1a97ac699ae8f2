"""What takes the place of an ablated value: nothing, the mean over reference rows, or another row's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor

from mechft.analysis.activations import chunks
from mechft.analysis.interventions.edits import Edits, New, constant, edits_for, from_rows, zero
from mechft.analysis.interventions.sites import SiteSet
from mechft.errors import require, unknown_name
from mechft.models.hook_points import device_of
from mechft.randomness import generator
from mechft.tasks.batch import TokenBatch

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

Kind = Literal["zero", "mean", "resample"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""zero: nothing. mean: the mean over reference rows, position by position. resample: another row's value."""
Values = Mapping[str, Tensor]
"""By hook point: Float["pos ..."] (means) or Float["row pos ..."]."""


def check_kinds(kinds: Sequence[Kind]) -> None:
    """Raise UnknownNameError for a kind that is not known, ConfigError if there is none."""
    require(bool(kinds), f"Name at least one kind of ablation, of {', '.join(KINDS)}; got none.")
    for kind in kinds:
        if kind not in KINDS:
            raise unknown_name("kind of ablation", kind, KINDS)


def hooks_of(sites: SiteSet) -> list[str]:
    """The hook points of some sites, each once."""
    return list(dict.fromkeys(site.hook for site in sites))


@torch.no_grad()
def values_at(model: HookedTransformer, hooks: Sequence[str], batch: TokenBatch) -> Values:
    """Values at some hook points on some rows. Float["row pos ..."] each."""
    wanted = set(hooks)
    parts: dict[str, list[Tensor]] = {hook: [] for hook in hooks}
    for chunk in chunks(batch):
        prompt = chunk.prompt.to(device_of(model))
        _, cache = model.run_with_cache(prompt, names_filter=lambda name: name in wanted)
        for hook in hooks:
            parts[hook].append(cache[hook])
    return {hook: torch.cat(found) for hook, found in parts.items()}


def mean_values(model: HookedTransformer, hooks: Sequence[str], reference: TokenBatch) -> Values:
    """Mean values over rows, position by position. Float["pos ..."] each."""
    totals: dict[str, Tensor] = {}
    for chunk in chunks(reference):
        for hook, value in values_at(model, hooks, chunk).items():
            total = value.double().sum(0)
            totals[hook] = totals[hook] + total if hook in totals else total
    return {hook: total / len(reference) for hook, total in totals.items()}


def partners(n: int, seed: int) -> Tensor:
    """For each row another: a cycle through a random order, so none is its own. Int["row"]."""
    order = torch.randperm(n, generator=generator(seed, "resample"))
    partner = torch.empty_like(order)
    partner[order] = order.roll(1)
    return partner


def ablating(sites: SiteSet, kind: Kind, values: Values, length: int) -> Edits:
    """The changes that ablate a set of sites."""

    def new(hook: str, units: list[int]) -> New:
        if kind == "zero":
            return zero
        return (constant if kind == "mean" else from_rows)(values[hook], units)

    return edits_for(sites, new, length)
