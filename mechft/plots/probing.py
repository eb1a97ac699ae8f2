"""Figures of probes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mechft.plots.style import (
    GREY,
    accuracy_axis,
    colour,
    count_label,
    figure,
    legend_once,
    line_with_band,
    reference_line,
)

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from mechft.analysis.probing import ProbeResult


def probes(result: ProbeResult) -> go.Figure:
    """Accuracy by block, a panel per target, a line per model, the majority baseline dotted."""
    frame = result.frame
    targets = list(dict.fromkeys(frame["target"]))
    made = figure("", "block", f"held-out probe accuracy ({count_label(frame)})")
    made.set_subplots(1, len(targets), shared_yaxes=True, subplot_titles=targets)
    for column, target in enumerate(targets, 1):
        for place, (model, rows) in enumerate(
            frame[frame["target"] == target].groupby("model", sort=False)
        ):
            line_with_band(
                made,
                rows["block"],
                rows["accuracy"],
                rows["ci_low"],
                rows["ci_high"],
                name=str(model),
                line_colour=colour(str(model), place),
                hover="block ",
                row=1,
                col=column,
            )
        majority = frame.loc[frame["target"] == target, "majority"].mean()
        reference_line(made, majority, row=1, col=column)
        made.add_annotation(
            text="commonest class", x=0, y=majority, yshift=9, showarrow=False, xanchor="left",
            font={"color": GREY, "size": 11}, row=1, col=column,
        )  # fmt: skip
    legend_once(made)
    accuracy_axis(made)
    made.update_xaxes(title="block", dtick=1)
    made.update_yaxes(title=f"held-out probe accuracy ({count_label(frame)})", col=1)
    return made
