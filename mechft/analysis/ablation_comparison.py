"""Two models' ablations against each other: what did fine-tuning make matter, or stop mattering?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mechft.analysis.interventions.ablation_values import ablation_values, described, site_sets
from mechft.analysis.interventions.replacements import Kind, SiteSet
from mechft.analysis.interventions.sites import Component, Site
from mechft.analysis.metrics import Metric, metric_function
from mechft.analysis.result import Result
from mechft.models.hook_points import ModelLike, as_model
from mechft.statistics import mean_estimate
from mechft.tasks.batch import TokenBatch


@dataclass(frozen=True)
class AblationComparison(Result):
    """What ablating a site changes in two models, on the same rows: did it come to matter, or cease to?

    Columns: sites, component, block, index, position, kind, task, metric, base (change in the base model),
    base_low, base_high, finetuned (change in the fine-tuned one), finetuned_low, finetuned_high, difference
    (finetuned − base), difference_low, difference_high, verdict, n. Intervals are 95%, normal, over rows,
    paired between the models. The verdict speaks where the difference's interval excludes 0: "matters
    more" or "matters less" by which change is larger, else "same". Over many sites one in twenty
    differs by chance.
    """


def compare_ablations(
    base: ModelLike,
    finetuned: ModelLike,
    tasks: Mapping[str, TokenBatch],
    sites: Component | Sequence[Site | SiteSet] = "head",
    *,
    kinds: Sequence[Kind] = ("mean",),
    metric: Metric = "accuracy",
    reference: Mapping[str, TokenBatch] | None = None,
    seed: int = 0,
) -> AblationComparison:
    """Which heads (or other sites) did fine-tuning make matter, or stop mattering?

    Args:
        base, finetuned: Two models with the same blocks and heads.
        tasks, sites, kinds, metric, reference, seed: As in ``ablation_sweep``; both models on the same rows.

    Raises:
        ConfigError: As ``ablation_sweep``; also if only one of the models has a site.
    """
    models = [as_model(base), as_model(finetuned)]
    label, function = metric_function(metric)
    sets = site_sets(models[0], sites, tasks)
    site_sets(models[1], [list(chosen) for chosen in sets.values()], tasks)
    found = [
        ablation_values(m, tasks, sets, kinds, {label: function}, reference, seed) for m in models
    ]
    rows = []
    for (task, kind, first), (_, _, second) in zip(*found, strict=True):
        for place, chosen in enumerate(sets.items()):
            changes = [
                v.cells[place, 0].double() - v.untouched[0].double() for v in (first, second)
            ]
            ours, theirs = (mean_estimate(change) for change in changes)
            gap = mean_estimate(changes[1] - changes[0])
            verdict = "same"
            if gap.low > 0 or gap.high < 0:
                more = abs(theirs.value) > abs(ours.value)
                verdict = "matters more" if more else "matters less"
            row = described(*chosen)
            del row["size"]
            rows.append(
                {
                    **row,
                    "kind": kind,
                    "task": task,
                    "metric": label,
                    **_named("base", ours),
                    **_named("finetuned", theirs),
                    **_named("difference", gap),
                    "verdict": verdict,
                    "n": gap.n,
                }
            )
    import pandas as pd

    frame = pd.DataFrame(rows).astype({"index": "Int64", "position": "Int64"})
    return AblationComparison(frame)


def _named(what: str, found: Any) -> dict[str, float]:
    return {what: found.value, f"{what}_low": found.low, f"{what}_high": found.high}
