"""Figures of the stories study: what models write, bringing a feature back, and losses.

From the tables that ``mechft reproduce tinystories`` writes, also as read from their CSV files, to plotly
figures. A model has one colour in all of them: the base blue, the one that never saw the feature black and
dashed, each protocol of deletion its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mechft.errors import unknown_name
from mechft.plots.colours import colour
from mechft.plots.seed_curves import Panels, chosen, key, values_of
from mechft.plots.stories_inside import (
    cka_curves,
    decision_bars,
    patching_dots,
    pruning_curves,
    weight_curves,
)
from mechft.plots.stories_probes import feature_probe_curves, probe_curves
from mechft.plots.stories_rows import share_bars
from mechft.plots.stories_style import (
    MODEL,
    at_rate,
    line,
    means_label,
    means_over_seeds,
    model_colour,
    model_dash,
    model_name,
    own_axis,
    pooled_shares,
    rates_of,
    shares_label,
    with_models,
)
from mechft.plots.style import line_with_band, spread_steps, step_axis

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

__all__ = [
    "cka_curves",
    "decision_bars",
    "feature_probe_curves",
    "loss_curves",
    "patching_dots",
    "probe_curves",
    "pruning_curves",
    "return_curves",
    "weight_curves",
    "writing_bars",
]

STAGES = {
    "pretraining": ("Loss in pretraining", "step of pretraining"),
    "deletion": ("Loss while {} is deleted", "step of deletion"),
    "reversal": ("Loss while {} is brought back", "step of bringing back"),
}
"""Trainings with losses, by the table's name: a figure's title and its axis."""

TICKS_APART = 0.12
"""Of a panel's width, for its ticks not to touch."""


def writing_bars(frame: pd.DataFrame, by: str, feature: str = "Twist") -> go.Figure:
    """Share of stories that have the feature, asked for it and not (Table 1): a bar a model.

    Of several seeds all stories count together. What the judge cannot tell is hatched behind the bar.

    Args:
        frame: Table writing.
        by: Whose verdicts: "rule" or "classifier".
        feature: What it is called.

    Raises:
        ConfigError: If the table has no verdict of this judge.
    """
    rows = with_models(frame)
    cells = pooled_shares(rows[rows["by"] == by], [*MODEL, "asked"])
    panels = {
        _asked(asked, feature): cells[cells["asked"] == asked]
        for asked in values_of(cells, "asked")
    }
    return share_bars(
        panels,
        f"Stories with a {feature}, by the {by}",
        shares_label(cells),
        f"share of stories with a {feature}",
    )


def _asked(asked: bool, feature: str) -> str:
    return f"asked for a {feature}" if asked else "not asked for one"


def return_curves(
    frame: pd.DataFrame, writing: pd.DataFrame, by: str, feature: str = "Twist"
) -> go.Figure:
    """The same share while the feature is brought back (Fig. 11, Table 1): panels asked or not × rate.

    A line a deleted model; dashed the one that never saw the feature; the band is the base's interval.

    Args:
        frame: Table reversal_writing.
        writing: Table writing, for the base.
        by: Whose verdicts: "rule" or "classifier".
        feature: What it is called.

    Raises:
        ConfigError: If the table has no verdict of this judge.
    """
    rows, before = with_models(frame), with_models(writing)
    cells = pooled_shares(rows[rows["by"] == by], [*MODEL, "asked", "step"])
    own = before[(before["by"] == by) & (before["model"] == "base")]
    base = pooled_shares(own, ["asked"]).set_index("asked") if len(own) else None
    words = {asked: _asked(asked, feature) for asked in values_of(cells, "asked")}
    panels = Panels("asked", tuple(words), "rate", rates_of(cells))
    made = panels.figure(
        f"Bringing {feature} back: stories with one, by the {by}",
        shares_label(cells),
        f"step of training on stories with a {feature} only",
        "share of stories",
        cells["protocol"].nunique() + 1 + (base is not None),
    )
    _name_panels(
        made, [_panel(words[labels["asked"]], labels["rate"]) for labels, _ in panels.each()]
    )
    _model_keys(made, cells)
    if base is not None:
        key(made, "base, before any deletion", colour("base"))
    for labels, where in panels.each():
        here = at_rate(cells[cells["asked"] == labels["asked"]], labels["rate"])
        if base is not None and labels["asked"] in base.index:
            _base_band(made, base.loc[labels["asked"]], int(cells["step"].max()), where)
        _lines_over_steps(made, here, ("share", "ci_low", "ci_high"), where)
    _moments_axis(made, sorted(set(cells["step"])))
    made.update_yaxes(title_font_size=12)
    return made


def _base_band(made: go.Figure, base: pd.Series[Any], last: int, where: Mapping[str, Any]) -> None:
    """The base's share and interval, the same at every step."""
    line_with_band(
        made, [0.0, spread_steps(last)], [base["share"]] * 2, [base["ci_low"]] * 2,
        [base["ci_high"]] * 2, name="base, before any deletion", line_colour=colour("base"),
        opacity=0.12,
        line={
            "mode": "lines",
            "showlegend": False,
            "line": {"width": 1.5, "color": colour("base")},
            "hovertemplate": f"<b>base</b>: {base['share']:.1%} [{base['ci_low']:.1%}, "
            f"{base['ci_high']:.1%}]<extra></extra>",
        },
        **where,
    )  # fmt: skip


def _lines_over_steps(
    made: go.Figure,
    cells: pd.DataFrame,
    columns: tuple[str, str, str],
    where: Mapping[str, int],
    number: str = ".1%",
) -> None:
    """A line with its band for every model; ``columns``: the value and the ends of its interval."""
    value, low, high = columns
    for model, points in cells.groupby(MODEL, sort=False):
        points = points.sort_values("step")
        line(
            made,
            points["step"].map(spread_steps),
            (points[value], points[low], points[high]),
            [f"step {step:,}" for step in points["step"]],
            labels=model,
            where=where,
            number=number,
        )


def _moments_axis(made: go.Figure, moments: Sequence[int]) -> None:
    """Ticks at the moments, as far as there is room; the first and last in any case."""
    last = spread_steps(moments[-1])
    kept = [moments[-1]]
    for moment in reversed(moments[:-1]):
        room = spread_steps(kept[-1]) - spread_steps(moment) >= TICKS_APART * last
        if room and (moment == moments[0] or spread_steps(moment) >= TICKS_APART * last):
            kept.append(moment)
    made.update_xaxes(
        tickvals=[spread_steps(moment) for moment in kept],
        ticktext=[f"{moment:,}" for moment in kept],
    )


def loss_curves(frame: pd.DataFrame, stage: str, feature: str = "Twist") -> go.Figure:
    """Loss on stories held out, with the feature and without, over steps: a line a model, panels a rate.

    Args:
        frame: Table pretraining, deletion or reversal.
        stage: What the steps are of: the table's name.
        feature: What it is called.

    Raises:
        UnknownNameError: If there is no such stage.
        ConfigError: If the table has no row.
    """
    if stage not in STAGES:
        raise unknown_name("stage of training", stage, STAGES)
    rows = with_models(frame)
    cells = means_over_seeds(rows, "loss", [*MODEL, "texts", "step"], ("ci_low", "ci_high"))
    words = {"with": f"stories with a {feature}", "without": "stories without"}
    panels = Panels("texts", values_of(cells, "texts"), "rate", rates_of(cells), height=200)
    made = panels.figure(
        STAGES[stage][0].format(feature),
        f"stories held out, with their instructions; {means_label(cells, '95% interval over stories')}; "
        f"n = {int(rows['n'].min()):,} stories of each kind",
        STAGES[stage][1],
        "loss (nats a token)",
        cells["protocol"].nunique() + 1,
    )
    _name_panels(
        made, [_panel(words[labels["texts"]], labels["rate"]) for labels, _ in panels.each()]
    )
    _model_keys(made, cells)
    for labels, where in panels.each():
        here = at_rate(chosen(cells, {"texts": labels["texts"]}), labels["rate"])
        _lines_over_steps(made, here, ("mean", "low", "high"), where, number=".3f")
    step_axis(made, int(cells["step"].max()), TICKS_APART)
    own_axis(made, cells)
    return made


def _panel(first: str, rate: str) -> str:
    return f"{first}, rate {rate}" if rate else first


def _name_panels(made: go.Figure, names: Sequence[str]) -> None:
    for title, name in zip(made.layout.annotations, names, strict=True):
        title.text = name


def _model_keys(made: go.Figure, cells: pd.DataFrame) -> None:
    """An entry of the legend for every model, whatever its rate."""
    for model, protocol in dict.fromkeys(zip(cells["model"], cells["protocol"], strict=True)):
        key(made, model_name(model, protocol), model_colour(model, protocol), model_dash(model))
