"""Figures of how activations differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mechft.plots.style import diff_panels

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from mechft.analysis.activation_diff import ActivationDiff


def activation_diff(result: ActivationDiff) -> go.Figure:
    """Relative change of every activation site, blocks down, components across, a panel per model."""
    return diff_panels(result.frame, "relative_change", "hook", "mean ‖Δ‖ / mean ‖base‖")
