"""One look for every figure: its frame, axes, legend, lines with bands and grids of numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from mechft.plots.colours import GREY, marker, translucent

TASK_NAMES = {
    "acc_pt": "O_PT, uncorrelated",
    "acc_pt_cte0": "O_PT, uncorrelated",
    "acc_pt_cte1": "O_PT, correlated",
    "acc_ft_cte0": "O_FT, uncorrelated",
    "acc_ft_cte1": "O_FT, correlated",
}
"""Questions in words; O_PT and O_FT are the pretraining and the fine-tuning operand."""


PAGE = 700
"""Pixels across the page that figures are made for: a notebook's, or a report's."""


def task_name(task: object) -> str:
    """A question in words; one of your own as it is called."""
    return TASK_NAMES.get(str(task), str(task))


def figure(title: str, x: str, y: str, **layout: Any) -> go.Figure:
    """An empty figure in the common style."""
    made = go.Figure()
    made.update_layout(
        template=_template(),
        title={"text": title, "font": {"size": 15}, "x": 0, "xanchor": "left", "xref": "paper"},
        xaxis_title=x,
        yaxis_title=y,
        font={"family": "Helvetica, Arial, sans-serif", "size": 13},
        margin={"l": 64, "r": 24, "t": 56, "b": 56},
        height=400,
        legend={"orientation": "v", "x": 1.02, "y": 1},
        hoverlabel={"align": "left"},
    )
    made.update_layout(**layout)
    return made


@lru_cache(maxsize=1)
def _template() -> go.layout.Template:
    """Plotly's plain one, with titles of axes and scales no larger than their numbers."""
    import plotly.io

    found = go.layout.Template(plotly.io.templates["simple_white"])
    for axis in (found.layout.xaxis, found.layout.yaxis):
        axis.title.font.size = 13
    found.layout.coloraxis.colorbar.update(title_font_size=12, tickfont_size=12, thickness=16)
    return found


def panel_titles(made: go.Figure, across: int) -> None:
    """Titles of panels in a size that fits so many side by side; before any note is added."""
    made.update_annotations(font_size={1: 14, 2: 13, 3: 12}.get(across, 11))


def note(made: go.Figure, text: str, **where: Any) -> None:
    """A word inside a figure, in a grey that can be read."""
    made.add_annotation(text=text, showarrow=False, font={"color": GREY, "size": 11}, **where)


def error_bars(rows: pd.DataFrame, name: str, low: str, high: str) -> dict[str, Any]:
    """A column's interval as plotly's asymmetric error bars."""
    return {
        "type": "data",
        "symmetric": False,
        "array": rows[high] - rows[name],
        "arrayminus": rows[name] - rows[low],
        "thickness": 1,
        "width": 2,
    }


def accuracy_axis(made: go.Figure, **where: Any) -> None:
    """A y axis for accuracies: 0 to 100%, with light lines to read values by."""
    made.update_yaxes(range=[-0.03, 1.05], tickformat=".0%", showgrid=True, **where)


def reference_line(made: go.Figure, y: float, **where: Any) -> None:
    """A dotted horizontal line to compare with (the template would draw it without width)."""
    made.add_hline(y=y, line={"color": GREY, "dash": "dot", "width": 1.5}, opacity=1, **where)


def line_with_band(
    made: go.Figure,
    x: Any,
    y: Any,
    low: Any,
    high: Any,
    *,
    name: str,
    line_colour: str,
    dash: str = "solid",
    hover: str = "",
    opacity: float = 0.15,
    line: Mapping[str, Any] | None = None,
    **where: Any,
) -> None:
    """A line with its interval as a band; both hide together when the legend entry is clicked.

    Args:
        made: The figure.
        x, y, low, high: Places from left to right, values, and the ends of their intervals.
        name: The legend's entry.
        line_colour, dash: How it is drawn; the colour brings its marker.
        hover: Words before the place in the hover text.
        opacity: Of the band; less where many overlap.
        line: Properties of the line's trace that are not as here; setting them afterwards takes plotly as
            long as everything else.
        where: The panel.
    """
    made.add_scatter(
        x=[*x, *reversed(list(x))],
        y=[*high, *reversed(list(low))],
        mode="lines",
        fill="toself",
        fillcolor=translucent(line_colour, opacity),
        line={"width": 0},
        hoverinfo="skip",
        showlegend=False,
        legendgroup=name,
        **where,
    )
    drawn = {
        "x": x,
        "y": y,
        "name": name,
        "legendgroup": name,
        "mode": "lines+markers",
        "line": {"color": line_colour, "dash": dash, "width": 2},
        "marker": {"size": 6, "symbol": marker(line_colour)},
        "customdata": [[a, b] for a, b in zip(low, high, strict=True)],
        "hovertemplate": f"<b>{name}</b><br>{hover}%{{x}}<br>%{{y:.1%}} "
        "[%{customdata[0]:.1%}, %{customdata[1]:.1%}]<extra></extra>",
    }
    made.add_scatter(**drawn | dict(line or {}), **where)


def spread_steps(step: float) -> float:
    """Cube root: shows step 0, which a logarithm cannot, and still spreads the first steps."""
    return math.pow(step, 1 / 3)


def step_axis(made: go.Figure, last: int, apart: float = 0.0) -> None:
    """Ticks in steps on x axes whose places are ``spread_steps``, from 0 to the last step.

    Args:
        made: The figure.
        last: The last step shown.
        apart: Least distance between ticks, as a share of the axis: narrow panels have room for few.
    """
    ticks = [0, 1, 5, 20, 50, 100, 200, 400, 1000, 2500, 5000, 10_000, 50_000, 200_000]
    least = apart * spread_steps(last)
    ticks = [t for t in ticks if t < last * 0.8 and spread_steps(last) - spread_steps(t) >= least]
    kept = [ticks[i] for i in kept_apart([spread_steps(tick) for tick in ticks], least)] + [last]
    made.update_xaxes(tickvals=[spread_steps(t) for t in kept], ticktext=[f"{t:,}" for t in kept])


def count_label(frame: pd.DataFrame) -> str:
    """How many cases the numbers of a frame rest on, from its column n."""
    low, high = int(frame["n"].min()), int(frame["n"].max())
    return f"n = {low:,}" if low == high else f"n = {low:,} to {high:,}"


def token_ticks(labels: Sequence[str], *, across: bool = True) -> dict[str, Any]:
    """An axis whose places are the tokens of a prompt; of long prompts every second token, or fewer.

    Args:
        labels: What the tokens are called.
        across: Whether the axis is the horizontal one, where only single letters stand upright.
    """
    step = 1 if len(labels) <= 60 else len(labels) // 50 + 1
    upright = not across or all(len(label) == 1 for label in labels)
    return {
        "tickvals": list(range(len(labels)))[::step],
        "ticktext": list(labels[::step]),
        "tickfont": {"size": 9 if len(labels) <= 40 else 8 if len(labels) <= 50 else 7},
        "tickangle": 0 if upright else -90,
        "ticks": "",
        "showline": False,
    }


def legend_once(made: go.Figure) -> None:
    """One legend entry a group, however many panels draw it."""
    seen: set[str] = set()
    for trace in made.data:
        if trace.showlegend is not False:
            trace.showlegend = trace.legendgroup not in seen
            seen.add(trace.legendgroup)


def legend_below(made: go.Figure) -> None:
    """The legend under the axes, in as many lines as it needs on a page; call it last.

    The panels keep their height, the figure grows. A figure with a single entry has no legend.
    """
    legend_once(made)
    names = [str(trace.name) for trace in made.data if trace.showlegend is not False]
    if len(names) < 2:
        made.update_layout(showlegend=False)
        return
    wide = [46 + 7 * len(name) for name in names]
    room = PAGE - made.layout.margin.l - made.layout.margin.r
    lines = 1 if sum(wide) <= room else -(-len(names) // max(1, room // max(wide)))
    more = 14 + 21 * lines
    made.update_layout(
        legend={"orientation": "h", "x": 0, "y": 0, "yref": "container", "yanchor": "bottom"},
        height=made.layout.height + more,
        margin={"b": made.layout.margin.b + more},
    )


def kept_apart(places: Sequence[float], least: float) -> list[int]:
    """Which of the places, from the left, are at least so far from the last that was kept."""
    kept: list[int] = []
    for i, place in enumerate(places):
        if not kept or place - places[kept[-1]] >= least:
            kept.append(i)
    return kept
