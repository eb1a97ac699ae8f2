"""Figures of pruning."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mechft.plots.style import (
    PALETTE,
    TASK_NAMES,
    accuracy_axis,
    figure,
    legend_once,
    line_with_band,
)

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from mechft.analysis.pruning import PruneCurve


def prune_curve(result: PruneCurve) -> go.Figure:
    """Accuracy over K: scored removal as lines, random removal dashed, a panel per model."""
    frame = result.frame
    models = list(dict.fromkeys(frame["model"]))
    made = figure("", "", "")
    made.set_subplots(1, len(models), shared_yaxes=True, subplot_titles=models)
    for column, model in enumerate(models, 1):
        here = frame[frame["model"] == model]
        tasks = list(dict.fromkeys(here["task"]))
        for (task, score), rows in here.groupby(["task", "score"], sort=False):
            random = score == "random"
            line_with_band(
                made,
                rows["k"],
                rows["accuracy"],
                rows["ci_low"],
                rows["ci_high"],
                name=f"{TASK_NAMES.get(str(task), task)}{', random removal' if random else ''}",
                line_colour=PALETTE[tasks.index(task) % len(PALETTE)],
                dash="dot" if random else "solid",
                hover=f"{model}, {score}, K = ",
                row=1,
                col=column,
            )
    legend_once(made)
    accuracy_axis(made)
    counts = sorted(set(frame["k"]))
    made.update_xaxes(title="neurons removed (K)", tickvals=_sparse(counts))
    made.update_yaxes(title="accuracy", col=1)
    made.update_layout(legend={"orientation": "h", "x": 0, "y": -0.22}, height=460)
    return made


def _sparse(counts: list[int]) -> list[int]:
    """Tick places that do not run into each other."""
    kept: list[int] = []
    for count in counts:
        if not kept or count - kept[-1] >= max(counts) / 12:
            kept.append(count)
    return kept
