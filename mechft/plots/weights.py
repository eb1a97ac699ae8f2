"""Figures of how weights differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mechft.plots.style import diff_panels

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from mechft.analysis.weight_diff import WeightDiff


def weight_diff(result: WeightDiff) -> go.Figure:
    """Relative change of every weight matrix, blocks down, components across, a panel per model."""
    frame = result.frame[result.frame["component"].str.contains("W_")]
    return diff_panels(frame, "relative_change", "parameter", "‖Δ‖ / ‖base‖")
