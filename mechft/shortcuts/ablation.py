"""One-liners of ablation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mechft.analysis import ablation, ablation_comparison
from mechft.analysis.interventions.replacements import Kind
from mechft.analysis.interventions.sites import Component, Site
from mechft.analysis.metrics import Metric
from mechft.shortcuts.common import behaviour, joined, together
from mechft.tasks.contrast import Contrast
from mechft.training.trained import Trained


def ablate_heads(
    *models: Trained,
    contrast: Contrast | None = None,
    kinds: Sequence[Kind] = ("zero", "mean"),
    sites: Component | Sequence[Site] = "head",
    metric: Metric = "accuracy",
    size: int = 300,
    seed: int = 0,
) -> ablation.Ablation:
    """Ablate every attention head alone and watch O_PT and O_FT; ``sites`` asks for others.

    Cost: at tiny, about 2 s a model on 2 cores.
    """
    named, contrast = together(models, contrast)
    results = [
        ablation.ablation_sweep(
            trained.model,
            behaviour(trained, contrast, size, seed),
            sites,
            kinds=kinds,
            metric=metric,
            seed=seed,
            name=name,
        )
        for name, trained in named.items()
    ]
    sets = {name: sites for result in results for name, sites in result.sets.items()}
    changes = {key: rows for result in results for key, rows in result.changes.items()}
    return replace(joined(results), sets=sets, changes=changes)


def compare_ablations(
    base: Trained,
    finetuned: Trained,
    *,
    contrast: Contrast | None = None,
    kinds: Sequence[Kind] = ("mean",),
    sites: Component | Sequence[Site] = "head",
    metric: Metric = "accuracy",
    size: int = 500,
    seed: int = 0,
) -> ablation_comparison.AblationComparison:
    """Which heads did fine-tuning make matter, or stop mattering, for O_PT and O_FT?"""
    _, contrast = together((base, finetuned), contrast)
    return ablation_comparison.compare_ablations(
        base,
        finetuned,
        behaviour(base, contrast, size, seed),
        sites,
        kinds=kinds,
        metric=metric,
        seed=seed,
    )
