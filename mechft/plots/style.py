"""One look for every figure: colour-blind-safe colours, the same model in the same colour."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

# Okabe & Ito (2008), told apart under every common colour blindness.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "#8A8A8A"
_FIXED = {
    "base": "#0072B2",
    "C_Tr = 1": "#D55E00",
    "reFT after C_Tr = 1": "#D55E00",
    "C_Tr = 0": "#009E73",
    "Scr.+FT": "#CC79A7",
    "Scr.": "#E69F00",
}


TASK_NAMES = {
    "acc_pt": "O_PT, uncorrelated",
    "acc_pt_cte0": "O_PT, uncorrelated",
    "acc_pt_cte1": "O_PT, correlated",
    "acc_ft_cte0": "O_FT, uncorrelated",
    "acc_ft_cte1": "O_FT, correlated",
}
"""Questions in words; O_PT and O_FT are the pretraining and the fine-tuning operand."""


def colour(model: str, place: int = 0) -> str:
    """A model's colour: fixed for the names the demo uses, by place for others."""
    return _FIXED.get(model, PALETTE[place % len(PALETTE)])


def translucent(hex_colour: str, opacity: float) -> str:
    """A colour for bands behind lines."""
    red, green, blue = (int(hex_colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def figure(title: str, x: str, y: str, **layout: Any) -> go.Figure:
    """An empty figure in the common style."""
    made = go.Figure()
    made.update_layout(
        template="simple_white",
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
    **where: Any,
) -> None:
    """A line with its interval as a band; both hide together when the legend entry is clicked."""
    made.add_scatter(
        x=[*x, *reversed(list(x))],
        y=[*high, *reversed(list(low))],
        mode="lines",
        fill="toself",
        fillcolor=translucent(line_colour, 0.15),
        line={"width": 0},
        hoverinfo="skip",
        showlegend=False,
        legendgroup=name,
        **where,
    )
    made.add_scatter(
        x=x,
        y=y,
        name=name,
        legendgroup=name,
        mode="lines+markers",
        line={"color": line_colour, "dash": dash, "width": 2},
        marker={"size": 5},
        customdata=[[a, b] for a, b in zip(low, high, strict=True)],
        hovertemplate=f"<b>{name}</b><br>{hover}%{{x}}<br>%{{y:.1%}} "
        "[%{customdata[0]:.1%}, %{customdata[1]:.1%}]<extra></extra>",
        **where,
    )


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
    kept: list[int] = []
    for tick in (tick for tick in ticks if tick < last * 0.8):
        far = not kept or spread_steps(tick) - spread_steps(kept[-1]) >= least
        if far and spread_steps(last) - spread_steps(tick) >= least:
            kept.append(tick)
    kept.append(last)
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


def diff_panels(frame: pd.DataFrame, value: str, label: str, legend: str) -> go.Figure:
    """A grid of blocks × components, a panel per model."""
    models = list(dict.fromkeys(frame["model"]))
    made = figure("", "", "")
    made.set_subplots(
        1, len(models), shared_yaxes=True, subplot_titles=models, horizontal_spacing=0.06
    )
    for column, model in enumerate(models, 1):
        here = frame[frame["model"] == model]
        order = list(dict.fromkeys(here["component"]))
        grid = here.pivot(index="block", columns="component", values=value)[order]
        names = here.pivot(index="block", columns="component", values=label)[order]
        made.add_trace(
            go.Heatmap(
                z=grid.values,
                x=[c.removeprefix("attn.").removeprefix("mlp.") for c in grid.columns],
                y=["outside" if b < 0 else f"block {b}" for b in grid.index],
                coloraxis="coloraxis",
                customdata=names.values,
                texttemplate="%{z:.2g}",
                textfont={"size": 10},
                hovertemplate=f"<b>{model}</b><br>%{{customdata}}<br>%{{z:.3g}}<extra></extra>",
                hoverongaps=False,
            ),
            row=1,
            col=column,
        )
    top = float(frame[value].max())
    made.update_layout(
        coloraxis={
            "colorscale": "Cividis",
            "cmin": 0,  # without cmax plotly would start at the smallest value
            "cmax": top if top > 0 else 1.0,  # NaN is not above 0 either
            "colorbar": {"title": legend},
        },
        height=340,
    )
    return made
