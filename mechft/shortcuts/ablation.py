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

    Args:
        models: Trained models.
        contrast: What is asked; by default what the last model was fine-tuned on.
        kinds, sites, metric: As in ``mechft.ablation_sweep``.
        size, seed: Rows of each task ("acc_pt": O_PT without the correlation, "acc_ft_cte1": O_FT with it),
            and which.

    Returns:
        One row a model, site, kind and task (``mechft.analysis.ablation.Ablation`` lists the columns).

    Raises:
        ConfigError: If models share a name or answer different tasks; else as ``mechft.ablation_sweep``.

    Cost: at tiny, about 2 s a model on 2 cores.

    Example:
        >>> import mechft as mf
        >>> base = mf.load("pcfg-tiny-low")
        >>> found = mf.ablate_heads(base, kinds=["zero"], size=50)
        >>> len(found)  # 3 blocks of 4 heads, 2 tasks
        24
        >>> sorted(set(found.frame["sites"]))[:2]
        ['head 0.0', 'head 0.1']
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
    """Which heads did fine-tuning make matter, or stop mattering, for O_PT and O_FT?

    Args:
        base, finetuned: The two models.
        contrast: What is asked; by default what the last model was fine-tuned on.
        kinds, sites, metric: As in ``mechft.ablation_sweep``.
        size, seed: Rows of each task ("acc_pt": O_PT without the correlation, "acc_ft_cte1": O_FT with it),
            and which; both models see the same.

    Returns:
        One row a site, kind and task, with both models' changes and a verdict
        (``mechft.analysis.ablation_comparison.AblationComparison`` lists the columns).

    Raises:
        ConfigError: If models share a name or answer different tasks; else as ``mechft.ablation_sweep``.

    Cost: as ``mechft.ablate_heads``, for two models.

    Example:
        >>> import mechft as mf
        >>> base, ft = mf.load("pcfg-tiny-low"), mf.load("pcfg-tiny-low-to-b")
        >>> found = mf.compare_ablations(base, ft, size=50)
        >>> len(found)  # 3 blocks of 4 heads, 2 tasks
        24
        >>> set(found.frame["verdict"]) <= {"matters more", "matters less", "reverses", "same"}
        True
    """
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
