"""Figures of ablation sweeps."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from mechft.plots.colours import GREY, INKS, marker, model_colours, question_colours
from mechft.plots.grids import numbers, stacked
from mechft.plots.style import (
    accuracy_axis,
    count_label,
    error_bars,
    figure,
    legend_below,
    line_with_band,
    panel_titles,
    task_name,
)

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from mechft.analysis.ablation import Ablation
    from mechft.analysis.ablation_comparison import AblationComparison


def ablation(result: Ablation) -> go.Figure:
    """Single sites as a grid, growing sets as lines with bands, pairs as a square, any others as dots."""
    if result.frame["size"].max() == 1:
        return _grid(result.frame) if _fits_a_grid(result.frame) else _dots(result.frame)
    growing = [set(result.sets[name]) for name in dict.fromkeys(result.frame["sites"])]
    if all(small < large for small, large in pairwise(growing)):
        return _growing(result.frame)
    singles = {site.label for (site, *rest) in result.sets.values() if not rest}
    within = all(len(s) <= 2 and {x.label for x in s} <= singles for s in result.sets.values())
    return _pairs(result) if within else _dots(result.frame)


def _across(frame: pd.DataFrame) -> str:
    """What tells a block's sites apart: heads or neurons, positions, or components."""
    return next((c for c in ("index", "position") if frame[c].notna().all()), "component")


def _fits_a_grid(frame: pd.DataFrame) -> bool:
    across = _across(frame)
    mixed = across != "component" and frame["component"].nunique() > 1
    return not mixed and not frame.duplicated(["model", "task", "kind", "block", across]).any()


def _dots(frame: pd.DataFrame) -> go.Figure:
    """A dot with its interval for every site or set; a panel per model, task and kind."""
    panels = list(dict.fromkeys(zip(frame["model"], frame["task"], frame["kind"], strict=True)))
    names = list(dict.fromkeys(frame["sites"]))
    made = figure("", "", "")
    made.set_subplots(
        1, len(panels), shared_yaxes=True, horizontal_spacing=0.05,
        subplot_titles=[f"{m}<br>{task_name(t)}, {k}" for m, t, k in panels],
    )  # fmt: skip
    change, _ = _format(frame)
    inks = model_colours(frame["model"])
    for column, (model, task, kind) in enumerate(panels, 1):
        rows = frame[(frame["model"] == model) & (frame["task"] == task) & (frame["kind"] == kind)]
        made.add_scatter(
            x=rows["change"],
            y=rows["sites"],
            mode="markers",
            marker={"color": inks[model], "symbol": marker(inks[model]), "size": 7},
            error_x=error_bars(rows, "change", "change_low", "change_high"),
            hovertemplate=f"<b>%{{y}}</b><br>change %{{x:{change}}}<extra></extra>",
            showlegend=False,
            row=1,
            col=column,
        )
        made.add_vline(x=0, line={"color": GREY, "dash": "dot", "width": 1}, row=1, col=column)
    made.update_xaxes(tickformat=change.replace("+", ""))
    made.update_xaxes(title=f"change of {frame['metric'].iloc[0]} ({count_label(frame)})", col=1)
    made.update_yaxes(categoryorder="array", categoryarray=names[::-1])
    made.update_layout(height=max(320, 150 + 20 * len(names)), margin={"l": 140, "t": 80})
    return made


def _titles(frame: pd.DataFrame, kinds: list[str], columns: list[tuple[str, str]]) -> list[str]:
    several = frame["model"].nunique() > 1 or frame["model"].iloc[0] != "model"
    return [
        f"{model + '<br>' if several else ''}{task_name(task).split(',')[0]}, {kind}"
        for kind in kinds
        for model, task in columns
    ]


def _scale(frame: pd.DataFrame) -> dict[str, object]:
    """A colour axis around no change; accuracies always from −100 to +100 points."""
    accuracy = frame["metric"].iloc[0] == "accuracy"
    largest = 1.0 if accuracy else float(frame["change"].abs().max()) or 1.0
    return {
        "colorscale": "RdBu" if accuracy else "RdBu_r",
        "cmin": -largest,
        "cmax": largest,
        "colorbar": {
            "title": "change" if accuracy else f"change of<br>{frame['metric'].iloc[0]}",
            "tickformat": "+.0%" if accuracy else "+.2g",
        },
    }


def _format(frame: pd.DataFrame) -> tuple[str, str]:
    return ("+.0%", ".1%") if frame["metric"].iloc[0] == "accuracy" else ("+.2g", ".3g")


def _grid(frame: pd.DataFrame) -> go.Figure:
    """Blocks down; heads, neurons, positions or components across; a panel per model, task and kind."""
    import plotly.graph_objects as go

    across = _across(frame)
    columns = list(dict.fromkeys(zip(frame["model"], frame["task"], strict=True)))
    kinds = list(dict.fromkeys(frame["kind"]))
    order = list(dict.fromkeys(frame[across]))
    made = figure("", "", "")
    made.set_subplots(
        len(kinds), len(columns), subplot_titles=_titles(frame, kinds, columns),
        horizontal_spacing=0.04, vertical_spacing=0.2, shared_yaxes=True,
    )  # fmt: skip
    change, value = _format(frame)
    for row, kind in enumerate(kinds, 1):
        for column, (model, task) in enumerate(columns, 1):
            cells = frame[
                (frame["kind"] == kind) & (frame["model"] == model) & (frame["task"] == task)
            ]
            grid = cells.pivot(index="block", columns=across, values="change")[order]
            made.add_trace(
                go.Heatmap(
                    z=grid.values,
                    x=[str(x) for x in grid.columns],
                    y=[str(b) for b in grid.index],
                    coloraxis="coloraxis",
                    customdata=stacked(
                        cells, "block", across, ("value", "ci_low", "ci_high", "sites"), grid
                    ),
                    texttemplate=numbers(change, len(order) * len(columns), frame["change"]),
                    textfont={"size": 10},
                    hovertemplate=f"<b>{model}</b>, {kind} ablation of %{{customdata[3]}}<br>"
                    f"{frame['metric'].iloc[0]} %{{customdata[0]:{value}}} "
                    f"[%{{customdata[1]:{value}}}, %{{customdata[2]:{value}}}]<br>"
                    f"change %{{z:{change}}}<extra></extra>",
                ),
                row=row,
                col=column,
            )
    made.update_layout(coloraxis=_scale(frame), height=150 + 230 * len(kinds))
    name = {"index": frame["component"].iloc[0]}.get(across, across)
    made.update_xaxes(title=f"{name} ({count_label(frame)})", row=len(kinds), type="category")
    made.update_yaxes(title="block", col=1)
    made.update_yaxes(type="category", autorange="reversed")
    panel_titles(made, len(columns))
    return made


def _growing(frame: pd.DataFrame) -> go.Figure:
    """The metric over the number of sites ablated; a panel per model, a line per task and kind."""
    models = list(dict.fromkeys(frame["model"]))
    kinds = list(dict.fromkeys(frame["kind"]))
    inks = question_colours(frame["task"])
    made = figure("", "", "")
    made.set_subplots(1, len(models), shared_yaxes=True, subplot_titles=models)
    for column, model in enumerate(models, 1):
        here = frame[frame["model"] == model]
        for (task, kind), rows in here.groupby(["task", "kind"], sort=False):
            line_with_band(
                made,
                [0, *rows["size"]],
                [rows["untouched"].iloc[0], *rows["value"]],
                [rows["untouched"].iloc[0], *rows["ci_low"]],
                [rows["untouched"].iloc[0], *rows["ci_high"]],
                name=f"{task_name(task)}, {kind}",
                line_colour=inks[task],
                dash=("solid", "dot", "dash")[kinds.index(kind) % 3],
                line={
                    "text": ["nothing", *rows["sites"].str.replace(" + ", "<br>")],
                    "hovertemplate": "%{text}<br>%{y:.3g}<extra></extra>",
                },
                row=1,
                col=column,
            )
    metric = frame["metric"].iloc[0]
    if metric == "accuracy":
        accuracy_axis(made)
    made.update_xaxes(title="sites ablated")
    made.update_yaxes(title=f"{metric} ({count_label(frame)})", col=1)
    legend_below(made)
    return made


def _pairs(result: Ablation) -> go.Figure:
    """Sites against sites, coloured by the pair's change; a panel per task, for the first kind."""
    import plotly.graph_objects as go

    frame = result.frame[result.frame["kind"] == result.frame["kind"].iloc[0]]
    tasks = list(dict.fromkeys(frame["task"]))
    names = [site.label for (site, *rest) in result.sets.values() if not rest]
    made = figure("", "", "")
    titles = [f"{task_name(task)}, {frame['kind'].iloc[0]}" for task in tasks]
    made.set_subplots(1, len(tasks), subplot_titles=titles, shared_yaxes=True)
    change, _ = _format(frame)
    for column, task in enumerate(tasks, 1):
        found = frame[frame["task"] == task].set_index("sites")["change"]
        grid = [
            [found.get(a if a == b else f"{a} + {b}", found.get(f"{b} + {a}")) for b in names]
            for a in names
        ]
        made.add_trace(
            go.Heatmap(
                z=grid,
                x=names,
                y=names,
                coloraxis="coloraxis",
                texttemplate=numbers(change, len(names) * len(tasks), frame["change"]),
                textfont={"size": 10},
                hovertemplate=f"%{{x}} and %{{y}}<br>change %{{z:{change}}}<extra></extra>",
            ),
            row=1,
            col=column,
        )
    made.update_layout(coloraxis=_scale(frame), height=420)
    made.update_yaxes(autorange="reversed")
    made.update_xaxes(title=f"the diagonal: alone ({count_label(frame)})")
    return made


_LABELLED = 4  # sites named in the figure; all are in the hover text
_VERDICTS = {
    "matters more": (INKS[2], "triangle-up"),
    "matters less": (INKS[3], "triangle-down"),
    "reverses": (INKS[1], "diamond"),
    "same": (GREY, "circle"),
}


def comparison(result: AblationComparison) -> go.Figure:
    """A site's change in the base across, in the fine-tuned model up; off the diagonal it differs."""
    frame = result.frame
    panels = list(dict.fromkeys(zip(frame["task"], frame["kind"], strict=True)))
    made = figure("", "", "")
    titles = [f"{task_name(task)}, {kind}" for task, kind in panels]
    made.set_subplots(1, len(panels), subplot_titles=titles, horizontal_spacing=0.1)
    accuracy = frame["metric"].iloc[0] == "accuracy"
    change = "+.1%" if accuracy else "+.3g"
    for column, (task, kind) in enumerate(panels, 1):
        here = frame[(frame["task"] == task) & (frame["kind"] == kind)]
        low = min(here["base_low"].min(), here["finetuned_low"].min())
        high = max(here["base_high"].max(), here["finetuned_high"].max())
        made.add_scatter(
            x=[low, high], y=[low, high], mode="lines", hoverinfo="skip", showlegend=False,
            line={"color": GREY, "dash": "dot", "width": 1}, row=1, col=column,
        )  # fmt: skip
        shown = _to_label(here, high - low)
        for verdict, rows in here.groupby("verdict", sort=False):
            ink, symbol = _VERDICTS[str(verdict)]
            made.add_scatter(
                x=rows["base"],
                y=rows["finetuned"],
                mode="markers+text",
                text=[row.sites if row.Index in shown else "" for row in rows.itertuples()],
                textposition="top center",
                textfont={"size": 10},
                name=str(verdict),
                legendgroup=str(verdict),
                marker={"color": ink, "symbol": symbol, "size": 9},
                error_x=error_bars(rows, "base", "base_low", "base_high"),
                error_y=error_bars(rows, "finetuned", "finetuned_low", "finetuned_high"),
                customdata=rows[["sites", "difference", "difference_low", "difference_high"]],
                hovertemplate=f"<b>%{{customdata[0]}}</b><br>base %{{x:{change}}}, fine-tuned "
                f"%{{y:{change}}}<br>difference %{{customdata[1]:{change}}} "
                f"[%{{customdata[2]:{change}}}, %{{customdata[3]:{change}}}]<extra></extra>",
                row=1,
                col=column,
            )
    for update in (made.update_xaxes, made.update_yaxes):
        update(
            tickformat="+.0%" if accuracy else "+.2g",
            zeroline=True,
            zerolinecolor=GREY,
            zerolinewidth=1,
        )
    made.update_xaxes(title=f"change of {frame['metric'].iloc[0]}, base ({count_label(frame)})")
    made.update_yaxes(title=f"change of {frame['metric'].iloc[0]}, fine-tuned", col=1)
    made.update_layout(height=430)
    legend_below(made)
    return made


def _to_label(rows: pd.DataFrame, across: float) -> set[object]:
    """The sites that differ most, but for those that differ little or are too near to a labelled one."""
    found: list[Any] = []
    least = 0.1 * rows["difference"].abs().max()
    differing = rows[(rows["verdict"] != "same") & (rows["difference"].abs() >= least)]
    for row in differing.loc[differing["difference"].abs().sort_values().index[::-1]].itertuples():
        near = any(
            abs(row.base - other.base) < 0.3 * across
            and abs(row.finetuned - other.finetuned) < 0.09 * across
            for other in found
        )
        if not near and len(found) < _LABELLED:
            found.append(row)
    return {row.Index for row in found}
