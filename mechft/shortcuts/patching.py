"""One-liners of cross-model patching."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mechft.analysis import patching
from mechft.analysis.interventions.sites import Component, Site
from mechft.analysis.metrics import Metric
from mechft.shortcuts.common import behaviour, together
from mechft.tasks.batch import TokenBatch
from mechft.tasks.contrast import Contrast
from mechft.training.trained import Trained


def patch_across(
    base: Trained,
    finetuned: Trained,
    batch: TokenBatch | Mapping[str, TokenBatch] | None = None,
    metric: Metric = "accuracy",
    *,
    sites: Component | Sequence[Component | Site] = ("resid_pre", "attn_out", "mlp_out"),
    positions: Sequence[int] | None = None,
    contrast: Contrast | None = None,
    size: int = 300,
    seed: int = 0,
) -> patching.Patching:
    """Put one model's activations into the other, both ways, and watch O_PT and O_FT.

    Args:
        base, finetuned: The two models.
        batch: Rows of your own; by default O_PT without the correlation and O_FT with it.
        metric, sites, positions: As in ``mechft.analysis.patching.patch_across``.
        contrast, size, seed: What is asked, how many rows, and which.
    """
    _, contrast = together((base, finetuned), contrast)
    tasks = behaviour(base, contrast, size, seed) if batch is None else batch
    return patching.patch_across(
        base, finetuned, tasks, sites, positions=positions, metric=metric, seed=seed
    )
