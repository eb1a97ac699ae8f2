"""From a result to a plotly figure; never computes, never saves."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import plotly.graph_objects as go


def plot(result: Any) -> go.Figure:
    """The figure that fits a result: probes, pruning curve, ablation, diffs, revival, or a history.

    Raises:
        TypeError: If there is no figure for this kind of result; lists those there are.
    """
    from mechft.analysis.ablation import HeadAblation
    from mechft.analysis.diffing import ActivationDiff, WeightDiff
    from mechft.analysis.probing import ProbeResult
    from mechft.analysis.pruning import PruneCurve
    from mechft.analysis.revival import Revival
    from mechft.plots import figures
    from mechft.training.trained import Trained

    known: dict[type, Callable[[Any], go.Figure]] = {
        ProbeResult: figures.probes,
        PruneCurve: figures.prune_curve,
        HeadAblation: figures.head_ablation,
        WeightDiff: figures.weight_diff,
        ActivationDiff: figures.activation_diff,
        Revival: figures.revival,
        Trained: figures.history,
    }
    for kind, draw in known.items():
        if isinstance(result, kind):
            return draw(result)
    names = ", ".join(kind.__name__ for kind in known)
    raise TypeError(f"There is no figure for {type(result).__name__}; there is one for {names}.")
