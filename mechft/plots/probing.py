"""Figures of probes: accuracy, description length, transfer, erasure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mechft.plots.colours import GREY, INKS, PALETTE, model_colours
from mechft.plots.style import (
    accuracy_axis,
    count_label,
    figure,
    legend_below,
    line_with_band,
    note,
    reference_line,
    task_name,
)

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from mechft.analysis.description_length import DescriptionLength
    from mechft.analysis.erasure import Erasure
    from mechft.analysis.probe_transfer import ProbeTransfer
    from mechft.analysis.probing import ProbeResult

_CONTROLS = {
    "random_model": (", random weights", "dash"),
    "shuffled_labels": (", control task", "dot"),
    "permuted_labels": (", permuted labels", "dashdot"),
}
"""What each control is called, and its dash."""


def probes(result: ProbeResult) -> go.Figure:
    """Accuracy by block, a panel per target, a line per model, controls dashed, the majority dotted."""
    frame = result.frame
    targets = list(dict.fromkeys(frame["target"]))
    made = figure("", "block", f"held-out probe accuracy ({count_label(frame)})")
    made.set_subplots(1, len(targets), shared_yaxes=True, subplot_titles=targets)
    for column, target in enumerate(targets, 1):
        here = frame[frame["target"] == target]
        _lines(made, here, ("accuracy", "ci_low", "ci_high"), row=1, col=column)
        majority = here.loc[here["control"] == "none", "majority"].mean()
        reference_line(made, majority, row=1, col=column)
        _note(made, "commonest class", majority, here, row=1, col=column)
    return _by_block(made, frame)


def description_length(result: DescriptionLength) -> go.Figure:
    """Length of the online code as a share of the uniform code's, a panel per target."""
    frame = result.frame.copy()
    for name in ("bits", "ci_low", "ci_high", "label_bits"):
        frame[name] /= frame["uniform_bits"]
    targets = list(dict.fromkeys(frame["target"]))
    made = figure("", "block", "")
    made.set_subplots(1, len(targets), shared_yaxes=True, subplot_titles=targets)
    for column, target in enumerate(targets, 1):
        here = frame[frame["target"] == target]
        _lines(made, here, ("bits", "ci_low", "ci_high"), row=1, col=column)
        labels = here.loc[here["control"] == "none", "label_bits"].mean()
        for y, text, shift in ((labels, "label frequencies", -9), (1.0, "uniform code", 9)):
            reference_line(made, y, row=1, col=column)
            _note(made, text, y, here, shift, row=1, col=column)
    made.update_xaxes(title="block", dtick=1)
    accuracy_axis(made)
    highest = max(1.1, 1.05 * float(frame["ci_high"].max()))
    made.update_yaxes(range=[0, highest])
    made.update_yaxes(title=f"code length / uniform code ({count_label(frame)})", col=1)
    legend_below(made)
    return made


def probe_transfer(result: ProbeTransfer) -> go.Figure:
    """Accuracy of each model's probes on each model, a panel per target and fine-tuned model."""
    frame = result.frame.drop_duplicates(["fitted_on", "applied_to", "readout", "hook", "target"])
    base = str(frame["fitted_on"].iloc[0])
    others = [m for m in dict.fromkeys(frame["applied_to"]) if m != base]
    inks = model_colours([base, *others])
    targets = list(dict.fromkeys(frame["target"]))
    panels = [(target, other) for target in targets for other in others]
    made = figure("", "block", "", height=420)
    made.set_subplots(
        1,
        len(panels),
        shared_yaxes=True,
        subplot_titles=[t if len(others) == 1 else f"{t}, {o}" for t, o in panels],
    )
    for column, (target, other) in enumerate(panels, 1):
        here = frame[(frame["target"] == target)]
        here = here[here["fitted_on"].isin((base, other)) & here["applied_to"].isin((base, other))]
        several = _sites(frame).nunique() > 1
        for (fitted, applied, readout, site), rows in here.assign(site=_sites(here)).groupby(
            ["fitted_on", "applied_to", "readout", "site"], sort=False
        ):
            own = fitted == applied
            suffix = ", recentred" if readout == "recentred" else ""
            suffix += f", {site}" if several else ""
            name = f"{applied}, probe of {'its own' if own else fitted}{suffix}"
            _line(
                made, rows, ("accuracy", "ci_low", "ci_high"), name,
                inks[str(applied)],
                "solid" if own else "dot" if readout == "recentred" else "dash", row=1, col=column,
            )  # fmt: skip
        majority = float(here["majority"].mean())
        reference_line(made, majority, row=1, col=column)
        _note(made, "commonest class", majority, here, row=1, col=column)
    return _by_block(made, frame)


def erasure(result: Erasure) -> go.Figure:
    """By the block erased at: probes and each task, before and after; a row of panels per model."""
    frame = result.frame
    models = list(dict.fromkeys(frame["model"]))
    panels = list(dict.fromkeys(zip(frame["measure"], frame["task"], frame["metric"], strict=True)))
    made = figure("", "", "", height=140 + 250 * len(models))
    titles = [
        f"{measure} for {task}" if measure != "behaviour" else task_name(task)
        for measure, task, _ in panels
    ]
    made.set_subplots(
        len(models), len(panels), subplot_titles=titles * len(models),
        shared_yaxes=all(metric == "accuracy" for *_, metric in panels),
        vertical_spacing=0.28 / len(models), horizontal_spacing=0.05,
    )  # fmt: skip
    looks = {
        "target": (f"{frame['target'].iloc[0]} erased", INKS[2], "solid"),
        "control": ("random labels erased", INKS[3], "dash"),
    }
    for row, model in enumerate(models, 1):
        for column, (measure, task, metric) in enumerate(panels, 1):
            here = frame[
                (frame["model"] == model) & (frame["measure"] == measure) & (frame["task"] == task)
            ]
            first = here[(here["erased"] == "target")]
            where = {"row": row, "col": column}
            several = _sites(frame).nunique() > 1
            for site, rows in first.groupby(_sites(first), sort=False):
                name = f"untouched, {site}" if several else "untouched"
                _line(made, rows, ("untouched",) * 3, name, GREY, "solid", **where)
            for erased, (told, shade, dash) in looks.items():
                ours = here[here["erased"] == erased].assign(site=lambda rows: _sites(rows))
                for (_, site), rows in ours.groupby(["draw", "site"], sort=False):
                    name = f"{told}, {site}" if several else told
                    _line(made, rows, ("value", "ci_low", "ci_high"), name, shade, dash, **where)
            if measure != "behaviour":
                reference_line(made, float(first["majority"].mean()), **where)
            if metric == "accuracy":
                accuracy_axis(made, **where)
        first_metric = f"{model}<br>accuracy" if panels[0][2] == "accuracy" else str(model)
        made.update_yaxes(title=f"{first_metric} ({count_label(frame)})", row=row, col=1)
    made.update_xaxes(dtick=1)
    made.update_xaxes(title="block erased at", row=len(models))
    made.update_annotations(font_size=12)
    legend_below(made)
    return made


def _sites(frame: pd.DataFrame) -> pd.Series[str]:
    """What each row's hook point is called inside its block: lines follow one of them over the blocks."""
    names = frame["hook"].str.replace(r"^blocks\.\d+\.", "", regex=True)
    return names.str.removeprefix("hook_")


def _lines(made: go.Figure, frame: pd.DataFrame, columns: tuple[str, ...], **where: Any) -> None:
    """A line for each model, control and component, the model's colour throughout."""
    inks, models = model_colours(frame["model"]), list(dict.fromkeys(frame["model"]))
    frame = frame.assign(site=_sites(frame))
    several = frame["site"].nunique() > 1
    for (model, control, component), rows in frame.groupby(
        ["model", "control", "site"], sort=False
    ):
        suffix, dash = _CONTROLS.get(str(control), ("", "solid"))
        name, shade = f"{model}{suffix}", inks[str(model)]
        if several:
            parts = list(dict.fromkeys(frame["site"]))
            name = f"{model}, {component}{suffix}"
            place = models.index(model) * len(parts) + parts.index(component)
            shade = PALETTE[place % len(PALETTE)]
        _line(made, rows, columns, name, shade, dash, **where)


def _line(
    made: go.Figure,
    rows: pd.DataFrame,
    columns: tuple[str, ...],
    name: str,
    shade: str,
    dash: str,
    **where: Any,
) -> None:
    value, low, high = (rows[column] for column in columns)
    line_with_band(
        made, rows["block"], value, low, high,
        name=name, line_colour=shade, dash=dash, hover="block ", **where,
    )  # fmt: skip


def _note(
    made: go.Figure, text: str, y: float, frame: pd.DataFrame, shift: int = 9, **where: Any
) -> None:
    """A word above a reference line, or with a negative shift below it, at its left end."""
    note(made, text, x=float(frame["block"].min()), y=y, yshift=shift, xanchor="left", **where)


def _by_block(made: go.Figure, frame: pd.DataFrame) -> go.Figure:
    """Panels of held-out accuracy over blocks, once everything is drawn."""
    accuracy_axis(made)
    made.update_xaxes(title="block", dtick=1)
    made.update_yaxes(title=f"held-out probe accuracy ({count_label(frame)})", col=1)
    legend_below(made)
    return made
