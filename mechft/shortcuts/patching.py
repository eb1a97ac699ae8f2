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
        batch: Rows of your own; by default O_PT without the correlation ("acc_pt") and O_FT with it
            ("acc_ft_cte1").
        metric, sites, positions: As in ``mechft.analysis.patching.patch_across``.
        contrast, size, seed: What is asked, how many rows, and which.

    Returns:
        One row a direction, site and task: the share of the gap between the models that the patch recovers
        (``mechft.analysis.patching.Patching`` lists the columns).

    Raises:
        ConfigError: If models share a name or answer different tasks; if they differ in shape, or a site does
            not exist.
        PatchingError: If patching a model with itself changes what it computes.

    Cost: a forward of the donor, and of what comes after the site for every site, direction and task.

    Example:
        >>> import mechft as mf
        >>> base, ft = mf.load("pcfg-tiny-low"), mf.load("pcfg-tiny-low-to-b")
        >>> found = mf.patch_across(base, ft, sites=["attn_out"], size=50)
        >>> sorted(set(found.frame["site"]))
        ['attn_out 0', 'attn_out 1', 'attn_out 2', 'readout']
        >>> found.frame["direction"].unique().tolist()
        ['base→finetuned', 'finetuned→base']
    """
    _, contrast = together((base, finetuned), contrast)
    tasks = behaviour(base, contrast, size, seed) if batch is None else batch
    return patching.patch_across(
        base, finetuned, tasks, sites, positions=positions, metric=metric, seed=seed
    )
