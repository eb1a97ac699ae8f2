"""Figures of training and of reverse fine-tuning, over steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mechft.plots.colours import GREY, model_colours, question_colours
from mechft.plots.style import (
    accuracy_axis,
    count_label,
    figure,
    legend_below,
    line_with_band,
    reference_line,
    spread_steps,
    step_axis,
    task_name,
)

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from mechft.analysis.revival import Revival
    from mechft.analysis.untaught import UntaughtReturn
    from mechft.training.trained import Trained


def revival(result: Revival) -> go.Figure:
    """Accuracy on O_PT over reverse fine-tuning steps, from 0 on a scale that spreads the first ones.

    Of several runs of a model the mean, with a band from the lowest to the highest; a run that stopped is
    taken to have stayed where it was.
    """
    frame = _over_runs(result.frame)
    made = figure("", "reverse fine-tuning steps", f"accuracy on O_PT ({count_label(frame)})")
    inks = model_colours(frame["model"], first=1)
    for model, rows in frame.groupby("model", sort=False):
        _over_steps(made, rows, str(model), inks[str(model)])
    reference_line(made, 0.95)
    accuracy_axis(made)
    step_axis(made, int(frame["step"].max()))
    legend_below(made)
    return made


def untaught_return(result: UntaughtReturn) -> go.Figure:
    """Accuracy on other prompts over steps of training on shuffled answers; dotted, the commonest answer."""
    frame = result.frame
    made = figure("", "steps of training on shuffled answers", f"accuracy ({count_label(frame)})")
    inks = model_colours(frame["model"], first=1)
    for model, rows in frame.groupby("model", sort=False):
        _over_steps(made, rows, str(model), inks[str(model)])
    commonest = float(frame["commonest"].iloc[0])
    steps = [float(spread_steps(step)) for step in (0, int(frame["step"].max()))]
    made.add_scatter(
        x=steps, y=[commonest] * 2, mode="lines", name="always the commonest answer",
        line={"width": 1.5, "dash": "dot", "color": GREY},
        hovertemplate="always the commonest answer: %{y:.1%}<extra></extra>",
    )  # fmt: skip
    accuracy_axis(made)
    step_axis(made, int(frame["step"].max()))
    legend_below(made)
    return made


def _over_runs(frame: pd.DataFrame) -> pd.DataFrame:
    """One curve a model: its run's, or the mean over its runs with their range."""
    import pandas as pd

    parts = []
    for model, rows in frame.groupby("model", sort=False):
        if rows["run"].nunique() > 1:
            runs = rows.pivot(index="step", columns="run", values="accuracy").sort_index().ffill()
            rows = pd.DataFrame(
                {
                    "model": model,
                    "step": runs.index,
                    "accuracy": runs.mean(axis=1).values,
                    "ci_low": runs.min(axis=1).values,
                    "ci_high": runs.max(axis=1).values,
                    "n": int(rows["n"].max()),
                }
            )
        parts.append(rows)
    return pd.concat(parts, ignore_index=True)


def history(trained: Trained) -> go.Figure:
    """Accuracy of every evaluation over the last training's steps, and beside it the loss it descended."""
    frame = trained.history
    losses = frame.dropna(subset=["train_loss"]).drop_duplicates("step")
    made = figure(trained.name, "steps", "")
    if len(losses):
        made.set_subplots(1, 2, column_widths=[0.64, 0.36], horizontal_spacing=0.13)
    where: dict[str, Any] = {"row": 1, "col": 1} if len(losses) else {}
    inks = question_colours(frame["evaluation"])
    for evaluation, rows in frame.groupby("evaluation", sort=False):
        name = task_name(evaluation)
        _over_steps(made, rows, name, inks[str(evaluation)], **where)
    if len(losses):
        made.add_scatter(
            x=losses["step"].map(spread_steps), y=losses["train_loss"], name="training loss",
            legendgroup="training loss", mode="lines+markers",
            line={"color": GREY, "width": 2, "dash": "dash"}, marker={"size": 5, "symbol": "x"},
            text=[f"step {step:,}" for step in losses["step"]],
            hovertemplate="<b>training loss</b><br>%{text}: %{y:.4g} nats<extra></extra>", row=1, col=2,
        )  # fmt: skip
        made.update_yaxes(title="loss (nats)", rangemode="tozero", showgrid=True, row=1, col=2)
        made.update_xaxes(title="steps")
    accuracy_axis(made, **where)
    made.update_yaxes(title=f"accuracy ({count_label(frame)})", **where)
    step_axis(made, int(frame["step"].max()), 0.12 if len(losses) else 0)
    legend_below(made)
    return made


def _over_steps(made: go.Figure, rows: pd.DataFrame, name: str, ink: str, **where: Any) -> None:
    """A line of accuracies over steps, with its band."""
    line_with_band(
        made, rows["step"].map(spread_steps), rows["accuracy"], rows["ci_low"], rows["ci_high"],
        name=name, line_colour=ink,
        line={
            "text": [f"step {step:,}" for step in rows["step"]],
            "hovertemplate": f"<b>{name}</b><br>%{{text}}: %{{y:.1%}} "
            "[%{customdata[0]:.1%}, %{customdata[1]:.1%}]<extra></extra>",
        },
        **where,
    )  # fmt: skip
