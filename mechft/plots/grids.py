"""Grids of numbers as heatmaps: one orientation, one scale, numbers in the cells where there is room."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mechft.plots.flow import Flow
from mechft.plots.style import PAGE

_ROOM = PAGE - 170  # pixels across all cells: the rest is for blocks, gaps and the scale


def numbers(form: str, columns: int, values: Iterable[float]) -> str | None:
    """The text of a heatmap's cells, or None where so many columns leave no room for it on a page.

    Args:
        form: How numbers are written.
        columns: Cells across the whole figure.
        values: The numbers.
    """
    return f"%{{z:{form}}}" if columns * _cell(form, values) <= _ROOM else None


def _cell(form: str, values: Iterable[float]) -> int:
    """Pixels that a cell needs for its number."""
    shown = (
        format(int(value) if form == "d" else value, form) for value in values if value == value
    )
    return 4 + 6 * max(map(len, shown), default=1)


def diff_panels(
    frame: pd.DataFrame,
    value: str,
    legend: str,
    *,
    columns: str = "component",
    form: str = ".2g",
    told: Sequence[str],
    hover: str,
    x: str = "",
) -> go.Figure:
    """Grids of numbers, block 0 on top: a panel per model, beside each other as far as there is room.

    Args:
        frame: A row a cell, with the columns model, block, and those named below.
        value: The column of the number.
        legend: What it is, beside the scale of colours.
        columns: The column that tells a block's cells apart.
        form: How numbers are written.
        told: Columns for the hover text, as ``customdata``.
        hover: What it says under the model's name.
        x: Title of the lowest panels' axes.
    """
    models = list(dict.fromkeys(frame["model"]))
    order = list(dict.fromkeys(frame[columns]))
    wide = max(len(order) * _cell(form, frame[value]), 7 * max(map(len, models)))
    side = max(1, min(len(models), _ROOM // wide))
    panels = Flow(len(models), 34 * frame["block"].nunique() + 16, between=66, most=side)
    made = panels.figure(models)
    for place, model in enumerate(models):
        here = frame[frame["model"] == model]
        grid = here.pivot(index="block", columns=columns, values=value)
        grid = grid[[name for name in order if name in grid]]
        made.add_trace(
            go.Heatmap(
                z=grid.values,
                x=[str(c).removeprefix("attn.").removeprefix("mlp.") for c in grid.columns],
                y=["outside" if b < 0 else f"block {b}" for b in grid.index],
                coloraxis="coloraxis",
                customdata=stacked(here, "block", columns, told, grid),
                texttemplate=numbers(form, len(order) * panels.columns, frame[value]),
                textfont={"size": 10},
                hovertemplate=f"<b>{model}</b><br>{hover}<extra></extra>",
                hoverongaps=False,
            ),
            **panels.cell(place),
        )
    made.update_xaxes(type="category")
    made.update_yaxes(autorange="reversed")
    made.update_layout(height=56 + panels.inside + 60, margin={"l": 76})
    for place in panels.lowest():
        made.update_xaxes(title=x, **panels.cell(place))
    colour_scale(made, legend, float(frame[value].max()))
    return made


def stacked(frame: pd.DataFrame, down: str, across: str, told: Sequence[str], like: Any) -> Any:
    """Columns of a frame as a table of tuples, for the hover text of a heatmap's cells.

    Args:
        frame: A row a cell.
        down, across: The columns that tell a cell's row and column.
        told: The columns to tell.
        like: The heatmap's table, whose order is kept.
    """
    found = [frame.pivot(index=down, columns=across, values=name) for name in told]
    found = [table.reindex(index=like.index, columns=like.columns) for table in found]
    return np.stack([table.to_numpy(dtype=object) for table in found], -1)


def colour_scale(made: go.Figure, title: str, top: float) -> None:
    """The common scale of colours from 0, whose brightness rises evenly, so that print keeps its order."""
    made.update_layout(
        coloraxis={
            "colorscale": "Cividis",
            "cmin": 0,  # without cmax plotly would start at the smallest value
            "cmax": top if top > 0 else 1.0,  # NaN is not above 0 either
            "colorbar": {"title": {"text": title}},
        }
    )
