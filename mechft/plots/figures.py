"""A figure for each kind of result."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd

from mechft.plots.style import (
    GREY,
    PALETTE,
    accuracy_axis,
    colour,
    figure,
    line_with_band,
    reference_line,
)

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from mechft.analysis.ablation import HeadAblation
    from mechft.analysis.diffing import ActivationDiff, WeightDiff
    from mechft.analysis.probing import ProbeResult
    from mechft.analysis.pruning import PruneCurve
    from mechft.analysis.revival import Revival
    from mechft.training.trained import Trained

TASK_NAMES = {
    "acc_pt": "O_PT, uncorrelated",
    "acc_pt_cte0": "O_PT, uncorrelated",
    "acc_pt_cte1": "O_PT, correlated",
    "acc_ft_cte0": "O_FT, uncorrelated",
    "acc_ft_cte1": "O_FT, correlated",
}
"""Questions in words; O_PT and O_FT are the pretraining and the fine-tuning operand."""


def _n(frame: pd.DataFrame) -> str:
    low, high = int(frame["n"].min()), int(frame["n"].max())
    return f"n = {low:,}" if low == high else f"n = {low:,} to {high:,}"


def probes(result: ProbeResult) -> go.Figure:
    """Accuracy by block, a panel per target, a line per model, the majority baseline dotted."""
    frame = result.frame
    targets = list(dict.fromkeys(frame["target"]))
    made = figure("", "block", f"held-out probe accuracy ({_n(frame)})")
    made.set_subplots(1, len(targets), shared_yaxes=True, subplot_titles=targets)
    for column, target in enumerate(targets, 1):
        for place, (model, rows) in enumerate(
            frame[frame["target"] == target].groupby("model", sort=False)
        ):
            line_with_band(
                made,
                rows["block"],
                rows["accuracy"],
                rows["ci_low"],
                rows["ci_high"],
                name=str(model),
                line_colour=colour(str(model), place),
                hover="block ",
                row=1,
                col=column,
            )
        majority = frame.loc[frame["target"] == target, "majority"].mean()
        reference_line(made, majority, row=1, col=column)
        made.add_annotation(
            text="commonest class", x=0, y=majority, yshift=9, showarrow=False, xanchor="left",
            font={"color": GREY, "size": 11}, row=1, col=column,
        )  # fmt: skip
    _legend_once(made)
    accuracy_axis(made)
    made.update_xaxes(title="block", dtick=1)
    made.update_yaxes(title=f"held-out probe accuracy ({_n(frame)})", col=1)
    return made


def _legend_once(made: go.Figure) -> None:
    """One legend entry a group, however many panels draw it."""
    seen: set[str] = set()
    for trace in made.data:
        if trace.showlegend is not False:
            trace.showlegend = trace.legendgroup not in seen
            seen.add(trace.legendgroup)


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
    _legend_once(made)
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


def head_ablation(result: HeadAblation) -> go.Figure:
    """Heads as cells, coloured by the change of accuracy; a row per kind, a column per model and task."""
    import plotly.graph_objects as go

    frame = result.frame
    columns = list(dict.fromkeys(zip(frame["model"], frame["task"], strict=True)))
    kinds = list(dict.fromkeys(frame["kind"]))
    made = figure("", "", "")
    titles = [
        f"{model}<br>{TASK_NAMES.get(task, task).split(',')[0]}, {kind}"
        for kind in kinds
        for model, task in columns
    ]
    made.set_subplots(
        len(kinds), len(columns), subplot_titles=titles, horizontal_spacing=0.04,
        vertical_spacing=0.2, shared_yaxes=True,
    )  # fmt: skip
    for row, kind in enumerate(kinds, 1):
        for column, (model, task) in enumerate(columns, 1):
            cells = frame[
                (frame["kind"] == kind) & (frame["model"] == model) & (frame["task"] == task)
            ]
            grid = cells.pivot(index="block", columns="head", values="change")
            absolute = cells.pivot(index="block", columns="head", values="accuracy")
            made.add_trace(
                go.Heatmap(
                    z=grid.values,
                    x=[str(h) for h in grid.columns],
                    y=[str(b) for b in grid.index],
                    coloraxis="coloraxis",
                    customdata=absolute.values,
                    texttemplate="%{z:+.0%}",
                    textfont={"size": 10},
                    hovertemplate=f"<b>{model}</b>, {kind} ablation<br>block %{{y}}, head %{{x}}<br>"
                    "accuracy %{customdata:.1%} (%{z:+.1%})<extra></extra>",
                ),
                row=row,
                col=column,
            )
    made.update_layout(
        coloraxis={
            "colorscale": "RdBu",
            "cmin": -1,
            "cmax": 1,
            "colorbar": {"title": "change", "tickformat": "+.0%"},
        },
        height=150 + 230 * len(kinds),
    )
    made.update_xaxes(title="head", row=len(kinds))
    made.update_yaxes(title="block", col=1)
    for annotation in made.layout.annotations:
        annotation.font.size = 12
    return made


def weight_diff(result: WeightDiff) -> go.Figure:
    """Relative change of every weight matrix, blocks down, components across, a panel per model."""
    frame = result.frame[result.frame["component"].str.contains("W_")]
    return _diff_panels(frame, "relative_change", "parameter", "‖Δ‖ / ‖base‖")


def activation_diff(result: ActivationDiff) -> go.Figure:
    """Relative change of every activation site, blocks down, components across, a panel per model."""
    return _diff_panels(result.frame, "relative_change", "hook", "mean ‖Δ‖ / mean ‖base‖")


def _diff_panels(frame: pd.DataFrame, value: str, label: str, legend: str) -> go.Figure:
    import plotly.graph_objects as go

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
    made.update_layout(
        coloraxis={"colorscale": "Cividis", "cmin": 0, "colorbar": {"title": legend}}, height=340
    )
    return made


def revival(result: Revival) -> go.Figure:
    """Accuracy on O_PT over reverse fine-tuning steps, from 0 on a scale that spreads the first ones."""
    frame = result.frame
    made = figure("", "reverse fine-tuning steps", f"accuracy on O_PT ({_n(frame)})")
    for place, (model, rows) in enumerate(frame.groupby("model", sort=False)):
        line_with_band(
            made,
            rows["step"].map(_spread),
            rows["accuracy"],
            rows["ci_low"],
            rows["ci_high"],
            name=str(model),
            line_colour=colour(str(model), place),
        )
        made.data[-1].text = [f"step {step}" for step in rows["step"]]
        made.data[-1].hovertemplate = (
            f"<b>{model}</b><br>%{{text}}<br>%{{y:.1%}} "
            "[%{customdata[0]:.1%}, %{customdata[1]:.1%}]<extra></extra>"
        )
    reference_line(made, 0.95)
    accuracy_axis(made)
    _step_axis(made, int(frame["step"].max()))
    return made


def history(trained: Trained) -> go.Figure:
    """Accuracy of every evaluation over the last training's steps."""
    frame = trained.history
    made = figure(trained.name, "steps", f"accuracy ({_n(frame)})")
    for place, (evaluation, rows) in enumerate(frame.groupby("evaluation", sort=False)):
        name = TASK_NAMES.get(str(evaluation), str(evaluation))
        line_with_band(
            made,
            rows["step"].map(_spread),
            rows["accuracy"],
            rows["ci_low"],
            rows["ci_high"],
            name=name,
            line_colour=PALETTE[place % len(PALETTE)],
        )
        made.data[-1].text = [f"step {step}" for step in rows["step"]]
        made.data[-1].hovertemplate = f"<b>{name}</b><br>%{{text}}: %{{y:.1%}}<extra></extra>"
    accuracy_axis(made)
    _step_axis(made, int(frame["step"].max()))
    return made


def _spread(step: float) -> float:
    """Cube root: shows step 0, which a logarithm cannot, and still spreads the first steps."""
    return math.pow(step, 1 / 3)


def _step_axis(made: go.Figure, last: int) -> None:
    ticks = [0, 1, 5, 20, 50, 100, 200, 400, 1000, 2500, 5000, 10_000, 50_000, 200_000]
    kept = [tick for tick in ticks if tick < last * 0.8] + [last]
    made.update_xaxes(tickvals=[_spread(t) for t in kept], ticktext=[f"{t:,}" for t in kept])
