"""Figures of pruning: curves over K, and where units lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mechft.plots.colours import question_colours
from mechft.plots.flow import Flow
from mechft.plots.grids import colour_scale, numbers, stacked
from mechft.plots.style import (
    accuracy_axis,
    count_label,
    kept_apart,
    legend_below,
    line_with_band,
    task_name,
)

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from mechft.analysis.pruning import PruneCurve
    from mechft.analysis.units.masks import UnitPlaces

PLURALS = {
    "neuron": "neurons",
    "column": "columns",
    "weight": "weights",
    "head": "heads",
    "mlp_neuron": "MLP neurons",
}
_ORDER = {
    name: place
    for place, name in enumerate(
        ("attn.W_Q", "attn.W_K", "attn.W_V", "attn.W_O", "mlp.W_in", "mlp.W_gate", "mlp.W_out")
    )
}
_DASHES = ("solid", "dash", "dashdot", "longdash", "longdashdot")


def prune_curve(result: PruneCurve) -> go.Figure:
    """Accuracy over K: a colour a task, a dash a score, random removal dotted; a panel per model.

    At most four panels stand side by side; further models come in rows below.
    """
    frame = result.frame
    models = list(dict.fromkeys(frame["model"]))
    inks = question_colours(frame["task"])
    scores = [score for score in dict.fromkeys(frame["score"]) if score != "random"]
    done = "grafted" if frame["mode"].iloc[0] == "graft" else "removed"
    random_name = "random removal" if done == "removed" else "random grafting"
    panels = Flow(len(models), height=288, between=70)
    made = panels.figure(models)
    for place, model in enumerate(models):
        here = frame[frame["model"] == model]
        for (task, score), rows in here.groupby(["task", "score"], sort=False):
            what = random_name if score == "random" else score if len(scores) > 1 else ""
            line_with_band(
                made,
                rows["k"],
                rows["accuracy"],
                rows["ci_low"],
                rows["ci_high"],
                name=f"{task_name(task)}{', ' if what else ''}{what}",
                line_colour=inks[task],
                dash="dot" if score == "random" else _DASHES[scores.index(score) % len(_DASHES)],
                hover=f"{model}, {score}, K = ",
                **panels.cell(place),
            )
        for task in dict.fromkeys(here["task"]):
            if (share := result.commonest.get((model, task))) is not None:
                made.add_scatter(
                    x=[here["k"].min(), here["k"].max()],
                    y=[share] * 2,
                    mode="lines",
                    line={"width": 1, "dash": "dot", "color": inks[task]},
                    name="always the commonest answer",
                    legendgroup="always the commonest answer",
                    hovertemplate=f"{task_name(task)}: always the commonest answer, %{{y:.1%}}"
                    "<extra></extra>",
                    **panels.cell(place),
                )
    accuracy_axis(made)
    counts = sorted(set(frame["k"]))
    units = PLURALS.get(frame["unit"].iloc[0], "units")
    made.update_xaxes(tickvals=_sparse(counts, panels.columns), tickangle=0)
    for place in panels.lowest():
        made.update_xaxes(title=f"{units} {done} (K)", **panels.cell(place))
    made.update_yaxes(title=f"accuracy ({count_label(frame)})", col=1)
    made.update_layout(height=132 + panels.inside, margin={"b": 60})
    legend_below(made)
    return made


def unit_places(result: UnitPlaces) -> go.Figure:
    """How many of the chosen units lie in each component of each block, a panel per model.

    At most four panels stand side by side; further models come in rows below.
    """
    frame = result.frame
    models = list(dict.fromkeys(frame["model"]))
    panels = Flow(len(models), height=48 * frame["block"].nunique() + 48, between=100)
    made = panels.figure(
        [
            f"{model}<br>{int(frame.loc[frame['model'] == model, 'units'].sum()):,} of "
            f"{int(frame.loc[frame['model'] == model, 'total'].sum()):,} "
            f"{PLURALS.get(frame['unit'].iloc[0], 'units')}"
            for model in models
        ]
    )
    for place, model in enumerate(models):
        here = frame[frame["model"] == model]
        order = sorted(dict.fromkeys(here["matrix"]), key=lambda name: _ORDER.get(name, 0))
        units = here.pivot(index="block", columns="matrix", values="units")[order]
        made.add_heatmap(
            z=units.values,
            x=[name.removeprefix("attn.").removeprefix("mlp.") for name in order],
            y=[f"block {block}" for block in units.index],
            coloraxis="coloraxis",
            customdata=stacked(here, "block", "matrix", ("total", "share"), units),
            texttemplate=numbers("d", len(order) * panels.columns, here["units"]),
            hovertemplate=f"<b>{model}</b>, %{{y}}, %{{x}}<br>%{{z}} of %{{customdata[0]:,}} units "
            "(%{customdata[1]:.2%})<extra></extra>",
            **panels.cell(place),
        )
    made.update_yaxes(autorange="reversed")
    colour_scale(made, "units", float(frame["units"].max()))
    made.update_coloraxes(
        colorbar={
            "tickformat": "d",
            "nticks": min(6, int(frame["units"].max()) + 1),  # whole numbers only
            "lenmode": "pixels",
            "len": panels.height + 30,
            "y": 1,
            "yanchor": "top",
        }
    )
    made.update_layout(height=132 + panels.inside, margin={"l": 76, "t": 72, "b": 60})
    return made


def _sparse(counts: list[int], columns: int) -> list[int]:
    """Tick places whose labels do not run into each other in one of several panels.

    A page is some 700 pixels wide; a digit takes 7, and labels want 10 between them.
    """
    largest = max(counts)
    label = 7 * len(f"{largest:,}") + 10
    apart = largest * max(1 / 12, label * columns / 560)
    return [counts[i] for i in kept_apart(counts, apart)]
