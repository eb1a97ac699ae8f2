"""Ablating sites in pairs, and ever more of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import torch

from mechft.analysis.ablation import Ablation, ablation_sweep
from mechft.analysis.interventions.sites import Component, Site, all_sites
from mechft.errors import require
from mechft.models.hook_points import ModelLike, as_model
from mechft.statistics import mean_estimate
from mechft.tasks.batch import TokenBatch

if TYPE_CHECKING:
    import pandas as pd


def ablate_pairs(
    model: ModelLike,
    tasks: Mapping[str, TokenBatch] | TokenBatch,
    sites: Component | Sequence[Site] = "head",
    **options: Any,
) -> Ablation:
    """Ablate sites alone and in all pairs; ``interactions`` says which pairs do more than their sum.

    Args:
        model, tasks, sites: As in ``ablation_sweep``.
        **options: The keyword options of ``ablation_sweep``.

    Cost: n (n + 1) / 2 interventions for n sites.
    """
    singles = all_sites(as_model(model), sites) if isinstance(sites, str) else list(sites)
    pairs = [list(pair) for pair in combinations(singles, 2)]
    return ablation_sweep(model, tasks, [*singles, *pairs], **options)


def ablate_cumulatively(
    model: ModelLike,
    tasks: Mapping[str, TokenBatch] | TokenBatch,
    order: Sequence[Site],
    **options: Any,
) -> Ablation:
    """Ablate the first site, the first two, … in the order given; column ``size`` says how many.

    Args:
        model, tasks: As in ``ablation_sweep``.
        order: The sites, such as ``Ablation.ranking`` gives from other rows.
        **options: The keyword options of ``ablation_sweep``.
    """
    return ablation_sweep(
        model, tasks, [list(order[: count + 1]) for count in range(len(order))], **options
    )


def interactions(pairs: Ablation) -> pd.DataFrame:
    """How much more a pair changes than its two sites alone together, from ``ablate_pairs``.

    Returns:
        first, second, kind, task, metric, change (of the pair), alone (sum of the two), interaction
        (change − alone), interaction_low, interaction_high (95% normal, paired over rows), n. Positive for
        an accuracy: the second site adds less harm once the first is gone.

    Raises:
        ConfigError: If there are no pairs, or a site of one was not ablated alone.
    """
    import pandas as pd

    rows = []
    for row in pairs.frame[pairs.frame["size"] == 2].to_dict("records"):
        place = (row["model"], row["kind"], row["task"])
        names = [site.label for site in pairs.sets[row["sites"]]]
        for name in names:
            require(
                (*place, name) in pairs.changes, f"{name} was not ablated alone; see ablate_pairs."
            )
        alone = torch.stack([pairs.changes[(*place, name)].double() for name in names]).sum(0)
        found = mean_estimate(pairs.changes[(*place, row["sites"])].double() - alone)
        rows.append(
            {
                "first": names[0],
                "second": names[1],
                **{key: row[key] for key in ("model", "kind", "task", "metric", "change")},
                "alone": float(alone.mean()),
                "interaction": found.value,
                "interaction_low": found.low,
                "interaction_high": found.high,
                "n": found.n,
            }
        )
    require(bool(rows), "Interactions are of pairs; this sweep has none. See ablate_pairs.")
    return pd.DataFrame(rows)
