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
from mechft.statistics import Estimate, mean_estimate, paired_difference
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
        require(len(source) > 0, f"The reference of {task} needs at least one row; got none.")
        require(
            "resample" not in kinds or source is not batch or len(batch) > 1,
            "Resampling gives each row the values of another; one row alone has none. Pass a reference.",
        )
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
    sites: Component | Sequence[Component | Site | SiteSet],
    tasks: Mapping[str, TokenBatch],
    positions: Sequence[int] | None = None,
) -> dict[str, tuple[Site, ...]]:
    """Sets of sites by name, once it is sure that the model and all prompts have them.

    Args:
        model: The model.
        sites: Components (each site of it alone), sites, and sets of sites.
        tasks: The rows they will be used on.
        positions: For the components: one site for each of these positions.
    """
    if not tasks:
        raise ConfigError("A sweep needs at least one task; got none.")
    sets: list[tuple[Site, ...]] = []
    for one in [sites] if isinstance(sites, str) else sites:
        if isinstance(one, str):
            sets += [(site,) for site in all_sites(model, one, positions=positions)]
        else:
            sets.append((one,) if isinstance(one, Site) else tuple(one))
    require(bool(sets), "A sweep needs at least one site; got none.")
    for batch in tasks.values():
        require(len(batch) > 0, "A batch needs at least one row; got none.")
        length = batch.prompt.shape[1]
        for group in sets:
            check_sites(model, group, length)
        # Two names of one place (the last, −1) are the same site.
        places = [
            frozenset((s.hook, s.index, s.position and s.position % length) for s in group)
            for group in sets
        ]
        twice = len(set(places)) < len(places)
        twice = twice or any(len(p) < len(g) for p, g in zip(places, sets, strict=True))
        require(not twice, "A site is given twice in a set, or the same set twice; give each once.")
    return {" + ".join(site.label for site in group): group for group in sets}


def named_tasks(tasks: Mapping[str, TokenBatch] | TokenBatch) -> dict[str, TokenBatch]:
    """Tasks by name; a single batch is called "task"."""
    return {"task": tasks} if isinstance(tasks, TokenBatch) else dict(tasks)


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


def paired_change(values: Tensor, untouched: Tensor, label: str) -> Estimate:
    """How far a metric moved, row by row: Newcombe's interval for an accuracy, else the normal one."""
    if label == "accuracy":
        return paired_difference(values > 0.5, untouched > 0.5)
    return mean_estimate(values.double() - untouched.double())
