"""One-liners that compare weights, and models on the way from one to the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mechft.analysis import circuits, interpolation, weight_diff
from mechft.analysis import low_rank as cutting
from mechft.analysis import spectrum as spectra
from mechft.analysis.metrics import Metric
from mechft.analysis.weights.rank_cut import Keep, Rest
from mechft.shortcuts.common import behaviour, joined, together
from mechft.tasks.contrast import Contrast
from mechft.training.trained import Trained

if TYPE_CHECKING:
    import pandas as pd


def diff_weights(base: Trained, *finetuned: Trained) -> weight_diff.WeightDiff:
    """How far each weight matrix moved from the base model's. Cost: under a second a model at tiny."""
    together((base, *finetuned))
    results = [weight_diff.diff_weights(base.model, t.model, name=t.name) for t in finetuned]
    return replace(joined(results), heads=_stacked([r.heads for r in results]))


def spectrum(
    base: Trained, *finetuned: Trained, parameters: Sequence[str] | None = None
) -> spectra.Spectrum:
    """Singular values of what fine-tuning added to each matrix of the blocks, beside the base's.

    Cost: under a second a model at tiny.
    """
    together((base, *finetuned))
    return joined(
        [
            spectra.spectrum(base.model, t.model, parameters=parameters, name=t.name)
            for t in finetuned
        ]
    )


def diff_circuits(base: Trained, *finetuned: Trained) -> circuits.CircuitDiff:
    """How far each head's QK and OV circuit moved. Cost: under a second a model at tiny."""
    together((base, *finetuned))
    return joined([circuits.diff_circuits(base.model, t.model, name=t.name) for t in finetuned])


def interpolate(
    base: Trained,
    *finetuned: Trained,
    alphas: Sequence[float] = interpolation.DEFAULT_ALPHAS,
    metrics: Sequence[Metric] = ("accuracy", "loss"),
    contrast: Contrast | None = None,
    size: int = 500,
    seed: int = 0,
) -> interpolation.Interpolation:
    """Accuracy and loss on O_PT and O_FT on the straight line through base and fine-tuned weights.

    Cost: an evaluation an alpha and task; at tiny, about 15 s a model on one core.
    """
    _, contrast = together((base, *finetuned), contrast)
    results = [
        interpolation.interpolate(
            base.model,
            trained.model,
            behaviour(trained, contrast, size, seed),
            alphas=alphas,
            metrics=metrics,
            name=trained.name,
            seed=seed,
        )
        for trained in finetuned
    ]
    return replace(joined(results), barriers=_stacked([r.barriers for r in results]))


def low_rank(
    base: Trained,
    *finetuned: Trained,
    ranks: Sequence[int] | None = None,
    metric: Metric = "accuracy",
    keep: Keep = "top",
    rest: Rest = "finetuned",
    random_draws: int = 3,
    contrast: Contrast | None = None,
    size: int = 500,
    seed: int = 0,
) -> cutting.LowRank:
    """How many ranks of the change carry O_FT, and how many cost O_PT?

    Cost: (1 + random_draws) evaluations a rank and task; at tiny, about 30 s a model on one core.
    """
    _, contrast = together((base, *finetuned), contrast)
    return joined(
        [
            cutting.low_rank(
                base.model,
                trained.model,
                behaviour(trained, contrast, size, seed),
                ranks=ranks,
                metric=metric,
                keep=keep,
                rest=rest,
                random_draws=random_draws,
                seed=seed,
                name=trained.name,
            )
            for trained in finetuned
        ]
    )


def _stacked(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """A result's second tables under each other, as ``joined`` puts the first ones."""
    import pandas as pd

    return pd.concat(list(frames), ignore_index=True)
