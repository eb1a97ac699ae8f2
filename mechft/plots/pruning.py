"""Figures of pruning: curves over K, and where units lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mechft.plots.style import (
    PALETTE,
    TASK_NAMES,
    accuracy_axis,
    count_label,
    figure,
    legend_once,
    line_with_band,
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
    """Accuracy over K: a colour a task, a dash a score, random removal dotted; a panel per model."""
    frame = result.frame
    models = list(dict.fromkeys(frame["model"]))
    tasks = list(dict.fromkeys(frame["task"]))
    scores = [score for score in dict.fromkeys(frame["score"]) if score != "random"]
    done = "grafted" if frame["mode"].iloc[0] == "graft" else "removed"
    random_name = "random removal" if done == "removed" else "random grafting"
    made = figure("", "", "")
    made.set_subplots(
        1, len(models), shared_yaxes=True, subplot_titles=models, horizontal_spacing=0.04
    )
    for column, model in enumerate(models, 1):
        here = frame[frame["model"] == model]
        for (task, score), rows in here.groupby(["task", "score"], sort=False):
            what = random_name if score == "random" else score if len(scores) > 1 else ""
            line_with_band(
                made,
                rows["k"],
                rows["accuracy"],
                rows["ci_low"],
                rows["ci_high"],
                name=f"{TASK_NAMES.get(str(task), task)}{', ' if what else ''}{what}",
                line_colour=PALETTE[tasks.index(task) % len(PALETTE)],
                dash="dot" if score == "random" else _DASHES[scores.index(score) % len(_DASHES)],
                hover=f"{model}, {score}, K = ",
                row=1,
                col=column,
            )
    legend_once(made)
    accuracy_axis(made)
    counts = sorted(set(frame["k"]))
    units = PLURALS.get(frame["unit"].iloc[0], "units")
    made.update_xaxes(title=f"{units} {done} (K)", tickvals=_sparse(counts))
    made.update_yaxes(title=f"accuracy ({count_label(frame)})", col=1)
    lines = 1 + (len(scores) + 1) * len(tasks) // 3
    made.update_layout(
        legend={"orientation": "h", "x": 0, "y": -0.22, "yanchor": "top"},
        height=420 + 22 * lines,
        margin={"b": 76 + 22 * lines},
    )
    return made


def unit_places(result: UnitPlaces) -> go.Figure:
    """How many of the chosen units lie in each component of each block, a panel per model."""
    frame = result.frame
    models = list(dict.fromkeys(frame["model"]))
    made = figure("", "", "")
    made.set_subplots(
        1, len(models), shared_yaxes=True, horizontal_spacing=0.04,
        subplot_titles=[
            f"{model}: {int(frame.loc[frame['model'] == model, 'units'].sum()):,} of "
            f"{int(frame.loc[frame['model'] == model, 'total'].sum()):,} "
            f"{PLURALS.get(frame['unit'].iloc[0], 'units')}"
            for model in models
        ],
    )  # fmt: skip
    for column, model in enumerate(models, 1):
        here = frame[frame["model"] == model]
        order = sorted(dict.fromkeys(here["matrix"]), key=lambda name: _ORDER.get(name, 0))
        units, total, share = (
            here.pivot(index="block", columns="matrix", values=value)[order]
            for value in ("units", "total", "share")
        )
        made.add_heatmap(
            z=units.values,
            x=[name.removeprefix("attn.").removeprefix("mlp.") for name in order],
            y=[f"block {block}" for block in units.index],
            coloraxis="coloraxis",
            customdata=[
                [list(pair) for pair in zip(*both, strict=True)]
                for both in zip(total.values, share.values, strict=True)
            ],
            texttemplate="%{z}",
            hovertemplate=f"<b>{model}</b>, %{{y}}, %{{x}}<br>%{{z}} of %{{customdata[0]:,}} units "
            "(%{customdata[1]:.2%})<extra></extra>",
            row=1,
            col=column,
        )
    made.update_yaxes(autorange="reversed")
    made.update_layout(
        coloraxis={
            "colorscale": "Cividis",
            "cmin": 0,
            "colorbar": {"title": "units", "tickformat": "d"},
        },
        height=180 + 48 * frame["block"].nunique(),
        margin={"l": 76},
    )
    return made


def _sparse(counts: list[int]) -> list[int]:
    """Tick places that do not run into each other."""
    kept: list[int] = []
    for count in counts:
        if not kept or count - kept[-1] >= max(counts) / 12:
            kept.append(count)
    return kept
