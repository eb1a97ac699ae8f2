"""Figures of models between the base and the fine-tuned one: on the line, and rank by rank."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mechft.plots.colours import GREY, question_colours
from mechft.plots.style import (
    accuracy_axis,
    count_label,
    figure,
    legend_below,
    line_with_band,
    task_name,
)

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from mechft.analysis.interpolation import Interpolation
    from mechft.analysis.low_rank import LowRank

_AXES = {"accuracy": "accuracy", "loss": "loss (nats)"}


def interpolation(result: Interpolation) -> go.Figure:
    """Each metric along the line, the ends marked, the line between them dotted, barriers in words."""
    frame = result.frame
    models, metrics = list(dict.fromkeys(frame["model"])), list(dict.fromkeys(frame["metric"]))
    colours = question_colours(frame["task"])
    made = figure("", "", "")
    lines = 1 + max(
        (len(rows) for _, rows in result.barriers.groupby(["model", "metric"])), default=0
    )
    gap = 70 + 22 * lines  # pixels between rows of panels: tick labels, then the next one's titles
    top, bottom = 20 + 22 * lines, 80
    inner = len(metrics) * 230 + (len(metrics) - 1) * gap
    made.set_subplots(
        len(metrics),
        len(models),
        shared_xaxes=True,
        horizontal_spacing=0.09,
        vertical_spacing=gap / inner,
        subplot_titles=[
            _barrier_title(result.barriers, model, metric, colours)
            for metric in metrics
            for model in models
        ],
    )
    for (model, metric, task), rows in frame.groupby(["model", "metric", "task"], sort=False):
        where: dict[str, Any] = {"row": metrics.index(metric) + 1, "col": models.index(model) + 1}
        name = task_name(task)
        plain = _plain(f"{name}</b><br>{model}, alpha = ", str(metric))
        line_with_band(
            made, rows["alpha"], rows["value"], rows["ci_low"], rows["ci_high"], name=name,
            line_colour=colours[task], hover=f"{model}, alpha = ",
            line=None if metric == "accuracy" else {"hovertemplate": plain}, **where,
        )  # fmt: skip
        ends = rows[rows["alpha"].isin([0, 1])]
        made.add_scatter(
            x=ends["alpha"], y=ends["value"], mode="lines", legendgroup=name, showlegend=False,
            line={"color": colours[task], "dash": "dot", "width": 1}, hoverinfo="skip", **where,
        )  # fmt: skip
    for row, metric in enumerate(metrics, 1):
        if metric == "accuracy":
            accuracy_axis(made, row=row)
        made.update_yaxes(title=_AXES.get(metric, metric), row=row, col=1)
    for alpha in (0, 1):
        made.add_vline(x=alpha, line={"color": GREY, "width": 1.5, "dash": "dash"}, opacity=1)
    ticks = _ticks(frame["alpha"].min(), frame["alpha"].max())
    named = {0.0: "0<br>base", 1.0: "1<br>fine-tuned"}
    made.update_xaxes(
        tickvals=ticks, ticktext=[named.get(t, f"{t:g}") for t in ticks], showticklabels=True
    )
    made.update_xaxes(title=f"alpha ({count_label(frame)})", row=len(metrics))
    made.update_layout(height=inner + top + bottom, margin={"t": top, "b": bottom})
    legend_below(made)
    return made


def _barrier_title(barriers: pd.DataFrame, model: str, metric: str, colours: dict[str, str]) -> str:
    """The model's name over its barriers, each in its task's colour."""
    here = barriers[(barriers["model"] == model) & (barriers["metric"] == metric)]
    form = ".1%" if metric == "accuracy" else ".2g"
    what = "error barrier" if metric == "accuracy" else "barrier"
    size = 11 if barriers["model"].nunique() == 1 else 10
    said = [
        f"<span style='font-size:{size}px;color:{colours[row.task]}'>"
        f"{task_name(row.task)}: {what} {row.barrier:{form}} "
        f"[{row.ci_low:{form}}, {row.ci_high:{form}}]"
        f"{f' at {row.alpha:g}' if row.barrier else ''}</span>"
        for row in here.itertuples()
    ]
    return "<br>".join([f"<b>{model}</b>, {metric}", *said])


def low_rank(result: LowRank) -> go.Figure:
    """A metric over the rank the change is cut to; random directions dashed, both whole models marked."""
    frame = result.frame
    models, colours = list(dict.fromkeys(frame["model"])), question_colours(frame["task"])
    metric, keep = str(frame["metric"].iloc[0]), str(frame["keep"].iloc[0])
    ranks = sorted(set(frame["rank"].dropna()))
    # Evenly spaced, which for powers of two is a logarithm that has room for 0 and both models.
    first, last = ("base", "finetuned") if keep == "top" else ("finetuned", "base")
    place = {rank: i + 1 for i, rank in enumerate(ranks)}
    ends = {first: 0, last: len(ranks) + 1}
    words = {"base": "base", "finetuned": "fine-<br>tuned"}
    made = figure("", "", "")
    made.set_subplots(
        1, len(models), shared_yaxes=True, subplot_titles=models, horizontal_spacing=0.05
    )
    for (model, task, change), rows in frame.groupby(["model", "task", "change"], sort=False):
        colour = colours[task]
        name = task_name(task)
        where: dict[str, Any] = {"row": 1, "col": models.index(model) + 1}
        if change in ends:
            row = rows.iloc[0]
            made.add_scatter(
                x=[ends[change]], y=[row["value"]], mode="markers", legendgroup=name, name=name,
                marker={"color": colour, "size": 9, "symbol": "diamond"}, showlegend=False,
                error_y={"array": [row["ci_high"] - row["value"]],
                         "arrayminus": [row["value"] - row["ci_low"]], "thickness": 1.5},
                hovertemplate=f"<b>{name}</b><br>{model}, {change} itself<br>%{{y:.3g}}<extra></extra>",
                **where,
            )  # fmt: skip
            continue
        rows = rows.sort_values("rank")
        random = change == "random"
        label = f"{name}, random directions" if random else name
        shape = ".1%" if metric == "accuracy" else ".3g"
        told = {
            "text": [
                f"{model}, rank {rank}, {energy:.0%} of ‖Δ‖²"
                for rank, energy in zip(rows["rank"], rows["energy"], strict=True)
            ],
            "hovertemplate": f"<b>{label}</b><br>%{{text}}<br>%{{y:{shape}}} "
            f"[%{{customdata[0]:{shape}}}, %{{customdata[1]:{shape}}}]<extra></extra>",
        }
        line_with_band(
            made, [place[rank] for rank in rows["rank"]], rows["value"], rows["ci_low"],
            rows["ci_high"], name=label, line_colour=colour, dash="dash" if random else "solid",
            line=told, **where,
        )  # fmt: skip
    if metric == "accuracy":
        accuracy_axis(made)
    for line in (0.5, len(ranks) + 0.5):
        made.add_vline(x=line, line={"color": GREY, "width": 1, "dash": "dot"}, opacity=1)
    made.update_xaxes(
        tickvals=[ends[first], *place.values(), ends[last]],
        ticktext=[words[first], *map(str, ranks), words[last]],
        tickangle=0,
        tickfont_size=13 if len(models) == 1 else 11,
        range=[-0.4, len(ranks) + 1.4],
        title=f"ranks {'kept' if keep == 'top' else 'removed'} a matrix ({count_label(frame)})",
    )
    made.update_yaxes(title=_AXES.get(metric, metric), col=1)
    made.update_layout(margin={"b": 76})
    legend_below(made)
    return made


def _plain(before: str, metric: str) -> str:
    """Hover text of a line whose values are not shares."""
    return (
        f"<b>{before}%{{x}}<br>{metric} %{{y:.3g}} [%{{customdata[0]:.3g}}, %{{customdata[1]:.3g}}]"
        "<extra></extra>"
    )


def _ticks(low: float, high: float) -> list[float]:
    """Round places between two alphas, the ends among them and nothing too near to those."""
    step = next((s for s in (0.5, 1, 2, 5, 10) if (high - low) / s <= 6), (high - low) / 4)
    places = {round(low / step) * step + i * step for i in range(9)}
    return sorted({0.0, 1.0} | {p for p in places if low <= p <= high and not 0 < abs(p - 0.5) < 1})
