"""Figures of training and of reverse fine-tuning, over steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mechft.plots.style import (
    PALETTE,
    TASK_NAMES,
    accuracy_axis,
    colour,
    count_label,
    figure,
    line_with_band,
    reference_line,
    spread_steps,
    step_axis,
)

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from mechft.analysis.revival import Revival
    from mechft.training.trained import Trained


def revival(result: Revival) -> go.Figure:
    """Accuracy on O_PT over reverse fine-tuning steps, from 0 on a scale that spreads the first ones.

    Of several runs of a model the mean, with a band from the lowest to the highest; a run that stopped is
    taken to have stayed where it was.
    """
    frame = _over_runs(result.frame)
    made = figure("", "reverse fine-tuning steps", f"accuracy on O_PT ({count_label(frame)})")
    for place, (model, rows) in enumerate(frame.groupby("model", sort=False)):
        line_with_band(
            made,
            rows["step"].map(spread_steps),
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
    step_axis(made, int(frame["step"].max()))
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
    """Accuracy of every evaluation over the last training's steps."""
    frame = trained.history
    made = figure(trained.name, "steps", f"accuracy ({count_label(frame)})")
    for place, (evaluation, rows) in enumerate(frame.groupby("evaluation", sort=False)):
        name = TASK_NAMES.get(str(evaluation), str(evaluation))
        line_with_band(
            made,
            rows["step"].map(spread_steps),
            rows["accuracy"],
            rows["ci_low"],
            rows["ci_high"],
            name=name,
            line_colour=PALETTE[place % len(PALETTE)],
        )
        made.data[-1].text = [f"step {step}" for step in rows["step"]]
        made.data[-1].hovertemplate = f"<b>{name}</b><br>%{{text}}: %{{y:.1%}}<extra></extra>"
    accuracy_axis(made)
    step_axis(made, int(frame["step"].max()))
    return made
