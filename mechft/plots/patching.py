"""Figures of cross-model patching."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mechft.plots.colours import GREY, INKS, marker
from mechft.plots.style import (
    count_label,
    error_bars,
    figure,
    legend_below,
    note,
    panel_titles,
    task_name,
)

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from mechft.analysis.patching import Patching

_INTO = {
    "base→finetuned": "base's activation<br>in the fine-tuned model",
    "finetuned→base": "fine-tuned activation<br>in the base",
}


def patching(result: Patching) -> go.Figure:
    """Share of the gap recovered: a dot with its interval per site, or a grid over positions.

    A panel per task and direction; 0 is no effect, 100% the other model's score.
    """
    frame = result.frame
    patched = frame[frame["component"] != "readout"]
    sets = patched["site"].str.contains(" + ", regex=False).any()
    if patched["position"].notna().all() and not sets:
        return _over_positions(patched)
    panels = list(dict.fromkeys(zip(frame["task"], frame["direction"], strict=True)))
    sites = list(dict.fromkeys(frame["site"]))
    components = list(dict.fromkeys(frame["component"]))
    made = figure("", "", "")
    made.set_subplots(
        1, len(panels), shared_yaxes=True, subplot_titles=_titles(frame, panels),
        horizontal_spacing=0.05,
    )  # fmt: skip
    panel_titles(made, len(panels))
    for column, (task, direction) in enumerate(panels, 1):
        here = frame[(frame["task"] == task) & (frame["direction"] == direction)]
        if here["recovered"].isna().all():
            note(
                made, "the models score alike here:<br>no gap to recover", x=0.5, y=len(sites) / 2,
                row=1, col=column,
            )  # fmt: skip
        for component, rows in here.groupby("component", sort=False):
            ink = INKS[components.index(component) % len(INKS)]
            made.add_scatter(
                x=rows["recovered"],
                y=rows["site"],
                mode="markers",
                name=str(component),
                legendgroup=str(component),
                marker={"color": ink, "symbol": marker(ink), "size": 8},
                error_x=error_bars(rows, "recovered", "recovered_low", "recovered_high"),
                customdata=rows[["value", "receiver", "donor", "recovered_low", "recovered_high"]],
                hovertemplate="<b>%{y}</b><br>recovered %{x:.1%} "
                "[%{customdata[3]:.1%}, %{customdata[4]:.1%}]<br>"
                f"{frame['metric'].iloc[0]} %{{customdata[1]:.3g}} → %{{customdata[0]:.3g}} "
                "(donor %{customdata[2]:.3g})<extra></extra>",
                row=1,
                col=column,
            )
        for line in (0, 1):
            made.add_vline(
                x=line, line={"color": GREY, "dash": "dot", "width": 1.5}, row=1, col=column
            )
    made.update_xaxes(title="gap recovered", tickformat=".0%")
    made.update_yaxes(title=f"activation put in ({count_label(frame)})", col=1)
    made.update_yaxes(categoryorder="array", categoryarray=sites[::-1])
    made.update_layout(height=max(360, 150 + 22 * len(sites)), margin={"t": 80, "l": 110})
    legend_below(made)
    return made


def _titles(frame: pd.DataFrame, panels: list[tuple[str, str]]) -> list[str]:
    several = frame["task"].nunique() > 1
    return [
        f"{task_name(task) + '<br>' if several else ''}{_INTO[direction]}"
        for task, direction in panels
    ]


def _over_positions(frame: pd.DataFrame) -> go.Figure:
    """Sites down, positions across, coloured by the share recovered."""
    import plotly.graph_objects as go

    panels = list(dict.fromkeys(zip(frame["task"], frame["direction"], strict=True)))
    made = figure("", "", "")
    made.set_subplots(
        len(panels), 1, shared_xaxes=True, vertical_spacing=0.28 / len(panels),
        subplot_titles=[
            f"{task_name(task)}: {_INTO[direction].replace('<br>', ' ')}"
            for task, direction in panels
        ],
    )  # fmt: skip
    names = frame["site"].str.replace(r" @ .*", "", regex=True)
    frame = frame.assign(name=names)
    order = list(dict.fromkeys(names))
    for row, (task, direction) in enumerate(panels, 1):
        here = frame[(frame["task"] == task) & (frame["direction"] == direction)]
        grid = here.pivot(index="name", columns="position", values="recovered").loc[order]
        made.add_trace(
            go.Heatmap(
                z=grid.values.astype(float),
                x=[str(x) for x in grid.columns],
                y=order,
                coloraxis="coloraxis",
                hovertemplate="<b>%{y}</b>, position %{x}<br>recovered %{z:.1%}<extra></extra>",
            ),
            row=row,
            col=1,
        )
    made.update_layout(
        coloraxis={
            "colorscale": "RdBu",
            "cmid": 0,
            "cmin": -1,
            "cmax": 1,
            "colorbar": {"title": "share of<br>the gap", "tickformat": ".0%"},
        },
        height=120 + (60 + 22 * len(order)) * len(panels),
        margin={"l": 110, "t": 80},
    )
    made.update_yaxes(autorange="reversed")
    made.update_xaxes(title=f"position ({count_label(frame)})", row=len(panels), type="category")
    return made
