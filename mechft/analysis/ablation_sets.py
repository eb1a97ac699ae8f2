"""Ablating sites in pairs, and ever more of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

from mechft.analysis.ablation import Ablation, ablation_sweep
from mechft.analysis.interventions.sites import Component, Site, all_sites
from mechft.models.hook_points import ModelLike, as_model
from mechft.tasks.batch import TokenBatch

if TYPE_CHECKING:
    import pandas as pd


def ablate_pairs(
    model: ModelLike,
    tasks: Mapping[str, TokenBatch],
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
    model: ModelLike, tasks: Mapping[str, TokenBatch], order: Sequence[Site], **options: Any
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
        (change − alone). Positive for an accuracy: the second site adds less harm once the first is gone.
    """
    import pandas as pd

    keys = ["model", "kind", "task", "metric"]
    single = pairs.frame[pairs.frame["size"] == 1].set_index([*keys, "sites"])["change"]
    rows = []
    for row in pairs.frame[pairs.frame["size"] == 2].to_dict("records"):
        names = [site.label for site in pairs.sets[row["sites"]]]
        alone = sum(float(single.loc[(*(row[key] for key in keys), name)]) for name in names)
        rows.append(
            {
                "first": names[0],
                "second": names[1],
                **{key: row[key] for key in keys},
                "change": row["change"],
                "alone": alone,
                "interaction": row["change"] - alone,
            }
        )
    return pd.DataFrame(rows)
