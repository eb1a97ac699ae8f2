"""One-liners of ablation."""

from __future__ import annotations

from collections.abc import Sequence

from mechft.analysis import ablation
from mechft.shortcuts.common import behaviour, joined, together
from mechft.tasks.contrast import Contrast
from mechft.training.trained import Trained


def ablate_heads(
    *models: Trained,
    contrast: Contrast | None = None,
    kinds: Sequence[ablation.Kind] = ("zero", "mean"),
    size: int = 300,
    seed: int = 0,
) -> ablation.HeadAblation:
    """Ablate every attention head alone and watch O_PT and O_FT.

    Cost: at tiny, about 7 s a model on 2 cores.
    """
    named, contrast = together(models, contrast)
    return joined(
        [
            ablation.ablate_heads(
                trained.model, behaviour(trained, contrast, size, seed), kinds=kinds, name=name
            )
            for name, trained in named.items()
        ]
    )
