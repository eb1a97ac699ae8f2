"""Two models' ablations against each other: what did fine-tuning make matter, or stop mattering?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mechft.analysis.batches import named_tasks
from mechft.analysis.interventions.ablation_values import ablation_values, described, paired_change
from mechft.analysis.interventions.replacements import Kind
from mechft.analysis.interventions.sites import Component, Site, SiteSet, site_sets
from mechft.analysis.metrics import Metric, metric_function
from mechft.analysis.result import Result
from mechft.models.hook_points import ModelLike, as_model
from mechft.statistics import Estimate, mean_estimate
from mechft.tasks.batch import TokenBatch


@dataclass(frozen=True)
class AblationComparison(Result):
    """What ablating a site changes in two models, on the same rows: did it come to matter, or cease to?

    Columns: sites, component, block, index, position, kind, task, metric, base (change in the base model),
    base_low, base_high, finetuned (change in the fine-tuned one), finetuned_low, finetuned_high, difference
    (finetuned − base), difference_low, difference_high, base_untouched, finetuned_untouched (the metric with
    nothing ablated), verdict, n. Intervals are 95%: of the two changes as in ``Ablation``, of the
    difference normal over rows, paired between the models. The verdict speaks where the difference's
    interval excludes 0: "reverses" if both changes exclude 0 on opposite sides, "matters more" or
    "matters less" by which change is larger; else "same". Over many sites one in twenty differs by
    chance, and a model that is at chance already has nothing to lose: look at the untouched columns.
    """


def compare_ablations(
    base: ModelLike,
    finetuned: ModelLike,
    tasks: Mapping[str, TokenBatch] | TokenBatch,
    sites: Component | Sequence[Component | Site | SiteSet] = "head",
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
    tasks = named_tasks(tasks)
    sets = site_sets(models[0], sites, tasks)
    site_sets(models[1], [list(chosen) for chosen in sets.values()], tasks)
    found = [
        ablation_values(m, tasks, sets, kinds, {label: function}, reference, seed) for m in models
    ]
    rows = []
    for (task, kind, first), (_, _, second) in zip(*found, strict=True):
        for place, chosen in enumerate(sets.items()):
            both = [(v.cells[place, 0], v.untouched[0]) for v in (first, second)]
            ours, theirs = (paired_change(*pair, label) for pair in both)
            changes = [touched.double() - plain.double() for touched, plain in both]
            gap = mean_estimate(changes[1] - changes[0])
            levels = [float(plain.double().mean()) for _, plain in both]
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
                    "base_untouched": levels[0],
                    "finetuned_untouched": levels[1],
                    "verdict": _verdict(ours, theirs, gap),
                    "n": gap.n,
                }
            )
    import pandas as pd

    frame = pd.DataFrame(rows).astype({"index": "Int64", "position": "Int64"})
    return AblationComparison(frame)


def _verdict(ours: Estimate, theirs: Estimate, gap: Estimate) -> str:
    if not (gap.low > 0 or gap.high < 0):
        return "same"
    if (ours.high < 0 and theirs.low > 0) or (ours.low > 0 and theirs.high < 0):
        return "reverses"
    return "matters more" if abs(theirs.value) > abs(ours.value) else "matters less"


def _named(what: str, found: Any) -> dict[str, float]:
    return {what: found.value, f"{what}_low": found.low, f"{what}_high": found.high}
