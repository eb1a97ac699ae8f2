"""From a result to a plotly figure; drawing never computes and never saves (``export`` writes files)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import plotly.graph_objects as go

_FIGURES = {
    "ProbeResult": "probing.probes",
    "DescriptionLength": "probing.description_length",
    "ProbeTransfer": "probing.probe_transfer",
    "Erasure": "probing.erasure",
    "PruneCurve": "pruning.prune_curve",
    "UnitPlaces": "pruning.unit_places",
    "GenerationScore": "generation_score.generation_score",
    "PredictedAnswers": "predicted_answers.predicted_answers",
    "LearnedMask": "learned_masks.learned_mask",
    "Ablation": "ablation.ablation",
    "AblationComparison": "ablation.comparison",
    "Patching": "patching.patching",
    "WeightDiff": "weights.weight_diff",
    "Spectrum": "weights.spectrum",
    "CircuitDiff": "weights.circuit_diff",
    "Interpolation": "weight_paths.interpolation",
    "LowRank": "weight_paths.low_rank",
    "ActivationDiff": "activations.activation_diff",
    "DifferenceSpectrum": "activations.difference_spectrum",
    "LogitLens": "activations.logit_lens",
    "OutputDiff": "activations.output_diff",
    "AttentionDiff": "attention.attention_diff",
    "AttentionMass": "attention.attention_mass",
    "AttentionMaps": "attention.attention_maps",
    "NeuronMaps": "neuron_maps.neuron_maps",
    "FinetuningGrid": "finetuning_grid.finetuning_grid",
    "Revival": "training.revival",
    "UntaughtReturn": "training.untaught_return",
    "Diagnosis": "diagnosis.diagnosis",
    "Trained": "training.history",
}
"""For each kind of result, the function that draws it."""


def plot(result: Any) -> go.Figure:
    """The figure that fits a result of any analysis, or the history of a trained model.

    Args:
        result: What an analysis returned, or a ``Trained``.

    Raises:
        TypeError: If there is no figure for this kind of result; lists those there are.

    Example:
        >>> import mechft as mf
        >>> base, ft = mf.load("pcfg-tiny-low"), mf.load("pcfg-tiny-low-to-b")
        >>> figure = mf.plot(mf.diff_weights(base, ft))  # shown by a notebook, or by figure.show()
        >>> path = mf.save_figure(figure, "weights.html")
        >>> mf.plot(base.task)
        Traceback (most recent call last):
        TypeError: There is no figure for PCFGTask; there is one for ...
    """
    for kind in type(result).__mro__:
        if kind.__name__ in _FIGURES and kind.__module__.startswith("mechft."):
            module, function = _FIGURES[kind.__name__].split(".")
            made: go.Figure = getattr(import_module(f"mechft.plots.{module}"), function)(result)
            return made
    raise TypeError(
        f"There is no figure for {type(result).__name__}; there is one for {', '.join(_FIGURES)}."
    )
