"""Figure of learned masks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mechft.plots.pruning import PLURALS
from mechft.plots.style import PALETTE, TASK_NAMES, accuracy_axis, count_label, figure

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from mechft.analysis.learned_masks import LearnedMask


def learned_mask(result: LearnedMask) -> go.Figure:
    """Accuracy with each mask in place, a bar a task; beside it how the gates were trained."""
    frame, trace = result.frame, result.trace
    tasks = list(dict.fromkeys(frame["task"]))
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
    for place, task in enumerate(tasks):
        rows = frame[frame["task"] == task]
        name = TASK_NAMES.get(str(task), str(task))
        made.add_bar(
            x=[
                mask if mask == "none" else f"{mask}<br>K = {k}"
                for mask, k in zip(rows["mask"], rows["k"], strict=True)
            ],
            y=rows["accuracy"], name=name, marker_color=PALETTE[place % len(PALETTE)],
            error_y={
                "array": rows["ci_high"] - rows["accuracy"],
                "arrayminus": rows["accuracy"] - rows["ci_low"],
                "thickness": 1.5, "width": 4, "color": "#333333",
            },
            customdata=rows[["ci_low", "ci_high", "interval"]],
            hovertemplate=f"<b>{name}</b>, %{{x}}<br>%{{y:.1%}} [%{{customdata[0]:.1%}}, "
            "%{customdata[1]:.1%}] (%{customdata[2]})<extra></extra>",
            row=1, col=1,
        )  # fmt: skip
    steps = list(range(1, len(trace) + 1))  # prices one after the other
    for name, column, line_colour, row in (
        ("loss on rows to revive", "loss_revive", PALETTE[2], 1),
        ("loss on rows to keep", "loss_keep", PALETTE[4], 1),
        (f"{unit} {done}, expected", "expected_removed", PALETTE[3], 2),
    ):
        if trace[column].notna().any():
            made.add_scatter(
                x=steps, y=trace[column], name=name, mode="lines",
                line={"color": line_colour, "width": 2},
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
    made.update_layout(
        legend={"orientation": "h", "x": 0, "y": -0.22, "yanchor": "top"},
        height=480,
        margin={"b": 110},
    )
    return made
