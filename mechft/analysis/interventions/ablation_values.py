"""Sweeps of ablations over sets of sites, tasks and kinds: the part that comparing models shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mechft.analysis.interventions.edits import Edits
from mechft.analysis.interventions.replacements import (
    Kind,
    Values,
    ablating,
    check_kinds,
    hooks_of,
    mean_values,
    partners,
    values_at,
)
from mechft.analysis.interventions.sites import SiteSet
from mechft.analysis.interventions.sweeps import SweepValues, sweep
from mechft.errors import require, unknown_name
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
