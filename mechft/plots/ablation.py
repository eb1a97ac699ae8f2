"""Figures of ablation sweeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mechft.plots.style import TASK_NAMES, figure

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from mechft.analysis.ablation import HeadAblation


def head_ablation(result: HeadAblation) -> go.Figure:
    """Heads as cells, coloured by the change of accuracy; a row per kind, a column per model and task."""
    import plotly.graph_objects as go

    frame = result.frame
    columns = list(dict.fromkeys(zip(frame["model"], frame["task"], strict=True)))
    kinds = list(dict.fromkeys(frame["kind"]))
    made = figure("", "", "")
    titles = [
        f"{model}<br>{TASK_NAMES.get(task, task).split(',')[0]}, {kind}"
        for kind in kinds
        for model, task in columns
    ]
    made.set_subplots(
        len(kinds), len(columns), subplot_titles=titles, horizontal_spacing=0.04,
        vertical_spacing=0.2, shared_yaxes=True,
    )  # fmt: skip
    for row, kind in enumerate(kinds, 1):
        for column, (model, task) in enumerate(columns, 1):
            cells = frame[
                (frame["kind"] == kind) & (frame["model"] == model) & (frame["task"] == task)
            ]
            grid = cells.pivot(index="block", columns="head", values="change")
            absolute = cells.pivot(index="block", columns="head", values="accuracy")
            made.add_trace(
                go.Heatmap(
                    z=grid.values,
                    x=[str(h) for h in grid.columns],
                    y=[str(b) for b in grid.index],
                    coloraxis="coloraxis",
                    customdata=absolute.values,
                    texttemplate="%{z:+.0%}",
                    textfont={"size": 10},
                    hovertemplate=f"<b>{model}</b>, {kind} ablation<br>block %{{y}}, head %{{x}}<br>"
                    "accuracy %{customdata:.1%} (%{z:+.1%})<extra></extra>",
                ),
                row=row,
                col=column,
            )
    made.update_layout(
        coloraxis={
            "colorscale": "RdBu",
            "cmin": -1,
            "cmax": 1,
            "colorbar": {"title": "change", "tickformat": "+.0%"},
        },
        height=150 + 230 * len(kinds),
    )
    made.update_xaxes(title="head", row=len(kinds))
    made.update_yaxes(title="block", col=1)
    for annotation in made.layout.annotations:
        annotation.font.size = 12
    return made
