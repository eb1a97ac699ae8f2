"""Figures of the probes of story models: what can be read after each block."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mechft.plots.colours import GREY
from mechft.plots.seed_curves import Panels, interval_label, key, over_seeds, values_of
from mechft.plots.stories_style import (
    MODEL,
    at_rate,
    line,
    model_colour,
    model_dash,
    model_name,
    rates_of,
    with_models,
)
from mechft.plots.style import reference_line

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

_COLUMNS = 3  # small multiples side by side
_RANDOM = "base with random weights"
_COMMONEST = "always the commonest answer"


def probe_curves(frame: pd.DataFrame, feature: str = "Twist") -> go.Figure:
    """Accuracy of one feature's probes by block (Figs. 31-38): a line a model, panels a rate.

    Dotted: always giving the commonest answer; dash-dotted: probes of the base with random weights.

    Args:
        frame: Table probes.
        feature: The probes' target.

    Raises:
        ConfigError: If the table has no probe of it.
    """
    rows = with_models(frame)
    rates = rates_of(rows)
    made, panels = _probe_panels(rows, [feature], f"{feature}, read by linear probes", rates)
    for labels, where in panels.each():
        _probe_lines(made, at_rate(rows, labels["rate"]), feature, where)
    return made


def feature_probe_curves(frame: pd.DataFrame, rate: str) -> go.Figure:
    """The same for every feature: a panel each, deleted models of one rate.

    Args:
        frame: Table probes.
        rate: Of the deleted models.

    Raises:
        ConfigError: If the table has no row of this rate.
    """
    rows = at_rate(with_models(frame), rate)
    targets = list(values_of(rows, "target"))
    title = f"Every feature, read by linear probes; deletion at rate {rate}"
    made, panels = _probe_panels(rows, targets, title)
    for target, (_, where) in zip(targets, panels.each(), strict=False):
        _probe_lines(made, rows, target, where)
    return made


def _probe_panels(
    rows: pd.DataFrame, targets: Sequence[str], title: str, rates: Sequence[str] = ()
) -> tuple[go.Figure, Panels]:
    """Empty panels: a rate each, or a target each, in rows of three."""
    rows = rows[rows["target"].isin(list(targets))]
    cells = over_seeds(rows, [*MODEL, "target", "control", "block"])
    columns = min(_COLUMNS, len(targets))
    down = -(-len(targets) // columns)
    panels = (
        Panels("", ("",), "rate", tuple(rates), height=280)
        if rates
        else Panels("down", tuple(range(down)), "across", tuple(range(columns)), height=190)
    )
    drawn = dict.fromkeys(zip(cells["model"], cells["protocol"], strict=True))
    made = panels.figure(
        title,
        f"residual stream, mean of a story's last ten positions; {interval_label(cells)}",
        "after block",
        "held-out accuracy",
        len(drawn) + 2,
    )
    if not rates:
        for place, panel in enumerate(made.layout.annotations):
            panel.text = targets[place] if place < len(targets) else ""
    for model, protocol in drawn:
        key(made, model_name(model, protocol), model_colour(model, protocol), model_dash(model))
    if (rows["control"] == "random_model").any():
        key(made, _RANDOM, GREY, "dashdot")
    key(made, _COMMONEST, GREY, "dot")
    low = min(float(cells["ci_low"].min()), float(rows["majority"].min()))
    # Accuracies of a yes or no start at the commonest answer's: below it there is little to see.
    made.update_yaxes(range=[math.floor(10 * low) / 10 - 0.02, 1.03])
    made.update_xaxes(dtick=1 if cells["block"].max() < 8 else 2)
    return made, panels


def _probe_lines(made: go.Figure, rows: pd.DataFrame, target: str, where: dict[str, int]) -> None:
    rows = rows[rows["target"] == target]
    cells = over_seeds(rows, [*MODEL, "control", "block"])
    for (*labels, control), points in cells.groupby([*MODEL, "control"], sort=False):
        random = control == "random_model"
        if control != "none" and not (random and labels[0] == "base"):
            continue  # models of one shape have the same random weights: once is enough
        line(
            made,
            points["block"],
            (points["accuracy"], points["ci_low"], points["ci_high"]),
            [f"after block {block}" for block in points["block"]],
            labels=(labels[0], labels[1], labels[2]),
            where=where,
            **({"ink": GREY, "dash": "dashdot", "group": _RANDOM} if random else {}),
        )
    own = rows[rows["control"] == "none"]
    if len(own):
        reference_line(made, float(own["majority"].mean()), **where)
