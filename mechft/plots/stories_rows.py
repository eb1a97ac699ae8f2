"""Shares of several models as horizontal bars: a row a model, a panel a question."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mechft.plots.colours import GREY, translucent
from mechft.plots.stories_style import MODEL, model_colour, model_name
from mechft.plots.style import error_bars, figure, legend_once

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

_ROW = 26  # pixels a model
_ABOVE, _BELOW = 90, 84  # pixels for titles; for the axis and the legend


def share_bars(panels: Mapping[str, pd.DataFrame], title: str, below: str, x: str) -> go.Figure:
    """A bar with its interval and number for each model.

    Args:
        panels: By title, rows with the labels of models, share, ci_low, ci_high, seeds, n, and, where it can
            be, unclear (a share).
        title: What is shown.
        below: What the numbers are, under the title.
        x: Title of the axis.
    """
    names = dict.fromkeys(
        model_name(*labels)
        for cells in panels.values()
        for labels in zip(*(cells[name] for name in MODEL), strict=True)
    )
    made = figure("", "", "")
    made.set_subplots(
        1, len(panels), shared_yaxes=True, subplot_titles=list(panels), horizontal_spacing=0.04
    )
    made.update_annotations(font={"size": 13})
    for column, cells in enumerate(panels.values(), 1):
        _bars(made, cells, {"row": 1, "col": column})
    legend_once(made)
    made.update_xaxes(range=[0, 1.19], tickformat=".0%", tickvals=[0, 0.25, 0.5, 0.75, 1])
    made.update_xaxes(showgrid=True, title={"text": x, "font": {"size": 13}})
    made.update_yaxes(categoryorder="array", categoryarray=[*names][::-1], ticks="")
    inside = _ROW * len(names) + 12
    made.update_layout(
        barmode="overlay",
        title={"text": f"{title}<br><span style='font-size:12px'>{below}</span>"},
        legend={"orientation": "h", "x": 0, "y": -56 / inside, "yanchor": "top"},
        height=_ABOVE + inside + _BELOW,
        margin={"l": 118, "t": _ABOVE, "b": _BELOW},
    )
    made.update_layout(title={"y": 1, "yanchor": "top", "yref": "container", "pad": {"t": 20}})
    return made


def _bars(made: go.Figure, cells: pd.DataFrame, where: Mapping[str, Any]) -> None:
    labels = [*zip(*(cells[name] for name in MODEL), strict=True)]
    names = [model_name(*model) for model in labels]
    inks = [model_colour(model, protocol) for model, protocol, _ in labels]
    if "unclear" in cells and cells["unclear"].gt(0).any():
        made.add_bar(
            x=cells["unclear"],
            base=cells["share"],
            y=names,
            orientation="h",
            width=0.72,
            name="cannot be told",
            legendgroup="unclear",
            marker={
                "color": translucent(GREY, 0.12),
                "pattern": {"shape": "/", "size": 5, "fgcolor": GREY},
            },
            hovertemplate="<b>%{y}</b>, cannot be told: %{x:.1%}<extra></extra>",
            **where,
        )
    made.add_bar(
        x=cells["share"],
        y=names,
        orientation="h",
        width=0.72,
        showlegend=False,
        marker={"color": [translucent(ink, 0.75) for ink in inks]},
        error_x=error_bars(cells, "share", "ci_low", "ci_high"),
        customdata=cells[["ci_low", "ci_high", "seeds", "n"]].to_numpy(),
        hovertemplate="<b>%{y}</b><br>%{x:.1%} [%{customdata[0]:.1%}, %{customdata[1]:.1%}]<br>seeds: "
        "%{customdata[2]}, n = %{customdata[3]:,}<extra></extra>",
        **where,
    )
    told = cells["share"] + cells["unclear"] if "unclear" in cells else cells["share"]
    made.add_scatter(
        x=told.where(told > cells["ci_high"], cells["ci_high"]) + 0.01,
        y=names,
        mode="text",
        text=[f"{share:.0%}" for share in cells["share"]],
        textposition="middle right",
        textfont={"size": 12},
        cliponaxis=False,
        showlegend=False,
        hoverinfo="skip",
        **where,
    )
