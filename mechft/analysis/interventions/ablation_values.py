"""Sweeps of ablations over sets of sites, tasks and kinds: the part that comparing models shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mechft.analysis.interventions.edits import Edits
from mechft.analysis.interventions.replacements import (
    Kind,
    SiteSet,
    Values,
    ablating,
    check_kinds,
    hooks_of,
    mean_values,
    partners,
    values_at,
)
from mechft.analysis.interventions.sites import Component, Site, all_sites, check_sites
from mechft.analysis.interventions.sweeps import SweepValues, sweep
from mechft.errors import ConfigError, require, unknown_name
from mechft.tasks.batch import TokenBatch

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer


def ablation_values(
    model: HookedTransformer,
    tasks: Mapping[str, TokenBatch],
    sets: Mapping[str, SiteSet],
    kinds: Sequence[Kind],
    metrics: Mapping[str, Any],
    reference: Mapping[str, TokenBatch] | None,
    seed: int,
) -> list[tuple[str, Kind, SweepValues]]:
    """Each task and kind with the metrics' values for every set of sites, row by row."""
    check_kinds(kinds)
    for task in reference or {}:
        if task not in tasks:
            raise unknown_name("task", task, tasks)
    hooks = hooks_of([site for chosen in sets.values() for site in chosen])
    found = []
    for task, batch in tasks.items():
        source = (reference or {}).get(task, batch)
        for kind in kinds:
            means = mean_values(model, hooks, source) if kind == "mean" else {}
            order = partners(len(source), seed)

            def cells(
                chunk: TokenBatch,
                rows: slice,
                kind: Kind = kind,
                values: Values = means,
                source: TokenBatch = source,
                order: Tensor = order,
            ) -> list[Edits]:
                if kind == "resample":
                    index = torch.arange(rows.start, rows.stop) % len(source)
                    values = values_at(model, hooks, source.rows(order[index]))
                length = chunk.prompt.shape[1]
                return [ablating(chosen, kind, values, length) for chosen in sets.values()]

            found.append((task, kind, sweep(model, batch, cells, metrics)))
    return found


def site_sets(
    model: HookedTransformer,
    sites: Component | Sequence[Site | SiteSet],
    tasks: Mapping[str, TokenBatch],
) -> dict[str, tuple[Site, ...]]:
    """Sets of sites by name, once it is sure that the model and all prompts have them."""
    if not tasks:
        raise ConfigError("An ablation sweep needs at least one task; got none.")
    chosen = all_sites(model, sites) if isinstance(sites, str) else sites
    sets = [(c,) if isinstance(c, Site) else tuple(c) for c in chosen]
    require(bool(sets), "An ablation sweep needs at least one site; got none.")
    for batch in tasks.values():
        for one in sets:
            check_sites(model, one, batch.prompt.shape[1])
    named = {" + ".join(site.label for site in one): one for one in sets}
    twice = len(named) < len(sets) or any(len(set(one)) < len(one) for one in sets)
    require(not twice, "A site is given twice in a set, or the same set twice; give each once.")
    return named


def described(name: str, sites: SiteSet) -> dict[str, Any]:
    """The columns that say what was ablated; of a set those of its last site."""
    last = sites[-1]
    return {
        "sites": name,
        "size": len(sites),
        "component": last.component,
        "block": last.block,
        "index": last.index,
        "position": last.position,
    }
