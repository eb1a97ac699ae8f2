"""Figure of a grid of fine-tunings: accuracy over C_Tr, a panel a learning rate."""

from __future__ import annotations

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mechft.analysis.finetuning_grid import FinetuningGrid
from mechft.plots.colours import marker, question_colours, translucent
from mechft.plots.style import accuracy_axis, error_bars, figure, legend_below, task_name


def finetuning_grid(result: FinetuningGrid) -> go.Figure:
    """Accuracies over C_Tr with their intervals; thin dotted lines are the paper's."""
    frame = result.frame
    rates = list(dict.fromkeys(frame["rate"]))
    values = dict(zip(frame["rate"], frame["learning_rate"], strict=True))
    made = make_subplots(
        cols=len(rates),
        rows=1,
        shared_yaxes=True,
        horizontal_spacing=0.03,
        subplot_titles=[f"{rate} ({values[rate]:g})" for rate in rates],
    )
    steps = int(frame["steps"].iloc[0])
    style = figure(f"After fine-tuning for {steps:,} steps, by learning rate", "", "accuracy")
    made.update_layout(style.layout)
    made.update_layout(margin={"t": 84}, height=380)
    for question, ink in question_colours(frame["question"]).items():
        name = task_name(question)
        for col, rate in enumerate(rates, 1):
            rows = frame[(frame["rate"] == rate) & (frame["question"] == question)]
            made.add_scatter(
                x=rows["c_tr"],
                y=rows["accuracy"],
                error_y=error_bars(rows, "accuracy", "ci_low", "ci_high"),
                mode="lines+markers",
                name=name,
                legendgroup=name,
                line={"color": ink, "width": 2},
                marker={"size": 7, "symbol": marker(ink)},
                customdata=rows[["paper"]],
                hovertemplate=f"<b>{name}</b><br>C_Tr = %{{x}}<br>%{{y:.1%}}<br>paper "
                "%{customdata[0]:.1%}<extra></extra>",
                row=1,
                col=col,
            )
            if rows["paper"].notna().any():
                made.add_scatter(
                    x=rows["c_tr"],
                    y=rows["paper"],
                    mode="lines",
                    name="the paper's",
                    legendgroup="the paper's",
                    line={"color": translucent(ink, 0.6), "width": 1.5, "dash": "dot"},
                    hoverinfo="skip",
                    row=1,
                    col=col,
                )
            made.update_xaxes(title_text="C_Tr", range=[-0.05, 1.05], row=1, col=col)
    accuracy_axis(made)
    made.update_yaxes(title_text="accuracy", row=1, col=1)
    legend_below(made)
    return made
