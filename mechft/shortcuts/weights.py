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
    """How far each weight matrix moved from the base model's.

    Args:
        base, finetuned: Trained models of one shape.

    Returns:
        One row a model and parameter, and in ``heads`` one a head
        (``mechft.analysis.weight_diff.WeightDiff`` lists the columns).

    Raises:
        ConfigError: If models share a name or answer different tasks; else as
            ``mechft.analysis.weight_diff.diff_weights``.

    Cost: under a second a model at tiny.

    Example:
        >>> import mechft as mf
        >>> base, ft = mf.load("pcfg-tiny-low"), mf.load("pcfg-tiny-low-to-b")
        >>> found = mf.diff_weights(base, ft)
        >>> found.by_block()["block"].tolist()  # -1: outside the blocks
        [-1, 0, 1, 2]
        >>> found.frame["share"].sum().round(6).item()  # of the squared change of the whole model
        1.0
    """
    together((base, *finetuned))
    results = [weight_diff.diff_weights(base.model, t.model, name=t.name) for t in finetuned]
    return replace(joined(results), heads=_stacked([r.heads for r in results]))


def spectrum(
    base: Trained, *finetuned: Trained, parameters: Sequence[str] | None = None
) -> spectra.Spectrum:
    """Singular values of what fine-tuning added to each matrix of the blocks, beside the base's.

    Args:
        base, finetuned: Trained models of one shape.
        parameters: Matrices by name; by default those of the blocks.

    Returns:
        One row a model, matrix and singular value (``mechft.analysis.spectrum.Spectrum`` lists the columns).

    Raises:
        ConfigError: If models share a name or answer different tasks; else as
            ``mechft.analysis.spectrum.spectrum``.

    Cost: under a second a model at tiny.

    Example:
        >>> import mechft as mf
        >>> base, ft = mf.load("pcfg-tiny-low"), mf.load("pcfg-tiny-low-to-b")
        >>> found = mf.spectrum(base, ft, parameters=["blocks.0.attn.W_Q"])
        >>> found.frame.groupby("of")["index"].max().to_dict()
        {'base': 128, 'change': 128}
    """
    together((base, *finetuned))
    return joined(
        [
            spectra.spectrum(base.model, t.model, parameters=parameters, name=t.name)
            for t in finetuned
        ]
    )


def diff_circuits(base: Trained, *finetuned: Trained) -> circuits.CircuitDiff:
    """How far each head's QK and OV circuit moved.

    Args:
        base, finetuned: Trained models of one shape.

    Returns:
        One row a model, head and circuit (``mechft.analysis.circuits.CircuitDiff`` lists the columns).

    Raises:
        ConfigError: If models share a name or answer different tasks; else as
            ``mechft.analysis.circuits.diff_circuits``.

    Source: Elhage et al. (2021), A Mathematical Framework for Transformer Circuits.

    Cost: under a second a model at tiny.

    Example:
        >>> import mechft as mf
        >>> base, ft = mf.load("pcfg-tiny-low"), mf.load("pcfg-tiny-low-to-b")
        >>> found = mf.diff_circuits(base, ft)
        >>> len(found)  # QK and OV of 3 blocks of 4 heads
        24
        >>> (found.frame["effective_rank"] <= 64).all().item()  # twice the width of a head
        True
    """
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

    Args:
        base, finetuned: Trained models of one shape.
        alphas: Places on the line: 0 is the base, 1 the fine-tuned model; both are always added.
        metrics: Of ``mechft.analysis.metrics.METRICS``, or functions; barriers come with "loss" and
            "accuracy".
        contrast: What is asked; by default what the last model was fine-tuned on.
        size, seed: Rows of each task ("acc_pt": O_PT without the correlation, "acc_ft_cte1": O_FT with it),
            and which.

    Returns:
        One row a model, alpha, task and metric, and ``barriers``
        (``mechft.analysis.interpolation.Interpolation`` lists the columns).

    Raises:
        ConfigError: If models share a name or answer different tasks; else as
            ``mechft.analysis.interpolation.interpolate``.

    Source: Frankle et al. (2020), Linear Mode Connectivity.

    Cost: an evaluation an alpha and task; at tiny, about 15 s a model on one core.

    Example:
        >>> import mechft as mf
        >>> base, ft = mf.load("pcfg-tiny-low"), mf.load("pcfg-tiny-low-to-b")
        >>> found = mf.interpolate(base, ft, alphas=[0.5], metrics=["accuracy"], size=50)
        >>> found.frame["alpha"].unique().tolist()
        [0.0, 0.5, 1.0]
        >>> count_a = found.frame.query("task == 'acc_pt'")["value"].tolist()
        >>> count_a[0] > 0.9 > 0.5 > count_a[2]  # the base counts a, the fine-tuned model does not
        True
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

    Args:
        base, finetuned: Trained models of one shape.
        ranks, metric, keep, rest, random_draws: As in ``mechft.analysis.low_rank.low_rank``.
        contrast: What is asked; by default what the last model was fine-tuned on.
        size, seed: Rows of each task ("acc_pt": O_PT without the correlation, "acc_ft_cte1": O_FT with it),
            and which.

    Returns:
        One row a model, change, rank and task (``mechft.analysis.low_rank.LowRank`` lists the columns).

    Raises:
        ConfigError: If models share a name or answer different tasks; else as
            ``mechft.analysis.low_rank.low_rank``.

    Source: low rank of fine-tuning, Aghajanyan et al. (2021), Hu et al. (2022).

    Cost: (1 + random_draws) evaluations a rank and task; at tiny, about 30 s a model on one core.

    Example:
        >>> import mechft as mf
        >>> base, ft = mf.load("pcfg-tiny-low"), mf.load("pcfg-tiny-low-to-b")
        >>> found = mf.low_rank(base, ft, ranks=[0, 8], random_draws=1, size=50)
        >>> sorted(set(found.frame["change"]))  # "random": as large, in random directions
        ['base', 'finetuned', 'own', 'random']
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
