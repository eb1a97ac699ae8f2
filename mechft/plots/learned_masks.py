"""Figure of learned masks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mechft.plots.colours import INKS, question_colours
from mechft.plots.pruning import PLURALS
from mechft.plots.style import (
    accuracy_axis,
    count_label,
    error_bars,
    figure,
    legend_below,
    task_name,
)

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from mechft.analysis.learned_masks import LearnedMask


def learned_mask(result: LearnedMask) -> go.Figure:
    """Accuracy with each mask in place, a bar a task; beside it how the gates were trained."""
    frame, trace = result.frame, result.trace
    unit = PLURALS.get(frame["unit"].iloc[0], "units")
    done = "grafted" if frame["mode"].iloc[0] == "graft" else "removed"
    made = figure("", "", "", barmode="group", bargap=0.25)
    made.set_subplots(
        2,
        2,
        column_widths=[0.62, 0.38],
        horizontal_spacing=0.12,
        vertical_spacing=0.08,
        specs=[[{"rowspan": 2}, {}], [None, {}]],
        shared_xaxes="columns",
        subplot_titles=[
            f"{frame['model'].iloc[0]}: {len(result.mask)} {unit} {done}",
            "training of the gates",
        ],
    )
    for task, ink in question_colours(frame["task"]).items():
        rows = frame[frame["task"] == task]
        name = task_name(task)
        made.add_bar(
            x=[
                mask if mask == "none" else f"{mask}<br>K = {k}"
                for mask, k in zip(rows["mask"], rows["k"], strict=True)
            ],
            y=rows["accuracy"], name=name, legendgroup=name, marker_color=ink,
            error_y=error_bars(rows, "accuracy", "ci_low", "ci_high") | {"color": "#333333"},
            customdata=rows[["ci_low", "ci_high", "interval"]],
            hovertemplate=f"<b>{name}</b>, %{{x}}<br>%{{y:.1%}} [%{{customdata[0]:.1%}}, "
            "%{customdata[1]:.1%}] (%{customdata[2]})<extra></extra>",
            row=1, col=1,
        )  # fmt: skip
    steps = list(range(1, len(trace) + 1))  # prices one after the other
    for name, column, line_colour, dash, row in (
        ("loss on rows to revive", "loss_revive", INKS[3], "solid", 1),
        ("loss on rows to keep", "loss_keep", INKS[4], "dash", 1),
        (f"{unit} {done}, expected", "expected_removed", INKS[6], "solid", 2),
    ):
        if trace[column].notna().any():
            made.add_scatter(
                x=steps, y=trace[column], name=name, legendgroup=name, mode="lines",
                line={"color": line_colour, "width": 2, "dash": dash},
                customdata=trace[["l0", "step"]],
                hovertemplate=f"{name}: %{{y:.3g}}<br>step %{{customdata[1]}} at l0 = %{{customdata[0]}}"
                "<extra></extra>",
                row=row, col=2,
            )  # fmt: skip
    accuracy_axis(made, row=1, col=1)
    made.update_yaxes(title=f"accuracy ({count_label(frame)})", row=1, col=1)
    made.update_xaxes(title="step", row=2, col=2)
    made.update_yaxes(title="loss (nats)", rangemode="tozero", row=1, col=2)
    made.update_yaxes(title=f"{unit} {done}", rangemode="tozero", row=2, col=2)
    legend_below(made)
    return made
