"""Figures of what deletion changed inside story models: a base model beside deleted ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mechft.plots.colours import GREY, INKS
from mechft.plots.seed_curves import Panels, chosen, interval_label, key, over_seeds, values_of
from mechft.plots.stories_rows import share_bars
from mechft.plots.stories_style import (
    MODEL,
    line,
    means_label,
    means_over_seeds,
    model_colour,
    model_name,
    own_axis,
    pooled_shares,
    rates_of,
    shares_label,
    with_models,
)
from mechft.plots.style import count_label, error_bars, kept_apart

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

KINDS = ("with", "without")
"""Stories with the feature and without it, as tables call them."""


def weight_curves(frame: pd.DataFrame) -> go.Figure:
    """How far weights moved from the base's, by block, as a share of their norm: panels a rate.

    Args:
        frame: Table weights.

    Raises:
        ConfigError: If the table has no row.
    """
    rows = with_models(frame)
    cells = means_over_seeds(rows, "relative_change", [*MODEL, "block"])
    made = _deleted_lines(
        cells,
        "Change of weights from base to deleted model",
        f"norm of the change / norm of the base's weights; {means_label(cells)}",
        "‖Δ‖ / ‖base‖",
        {"": "solid"},
    )
    blocks = sorted(set(cells["block"]))
    made.update_xaxes(
        tickvals=blocks, ticktext=["outside" if block < 0 else str(block) for block in blocks]
    )
    made.update_yaxes(range=[0, 1.15 * float(cells["mean"].max()) or 1])
    return made


def cka_curves(frame: pd.DataFrame, feature: str = "Twist") -> go.Figure:
    """Similarity (linear CKA) of the base's and the deleted model's residual streams by block: panels a rate.

    Solid: stories with the feature; dotted: without.

    Args:
        frame: Table activations.
        feature: What it is called.

    Raises:
        ConfigError: If the table has no residual stream.
    """
    rows = with_models(frame[frame["component"] == "resid_post"])
    cells = means_over_seeds(rows, "cka_debiased", [*MODEL, "of", "block"])
    made = _deleted_lines(
        cells.rename(columns={"of": "kind"}),
        "Similarity of residual streams, base and deleted model",
        f"linear CKA (debiased) over all positions of {count_label(rows)} stories; {means_label(cells)}",
        "CKA",
        {"with": "solid", "without": "dot"},
    )
    for name, dash in ((f"stories with a {feature}", "solid"), ("stories without", "dot")):
        key(made, name, GREY, dash)
    made.update_xaxes(dtick=1 if cells["block"].max() < 8 else 2)
    return made


def _deleted_lines(
    cells: pd.DataFrame, title: str, below: str, y: str, dashes: dict[str, str]
) -> go.Figure:
    """Lines over blocks, a colour a protocol, a dash a kind: panels a rate."""
    panels = Panels("", ("",), "rate", rates_of(cells), height=240)
    protocols = values_of(cells, "protocol")
    made = panels.figure(title, below, "block", y, len(protocols) + len(dashes))
    for protocol in protocols:
        key(made, protocol, model_colour("deleted", protocol))
    kinds = ["kind"] if "kind" in cells else []
    for labels, where in panels.each():
        for found, points in chosen(cells, labels).groupby([*MODEL, *kinds], sort=False):
            points = points.sort_values("block")
            line(
                made,
                points["block"],
                (points["mean"], points["low"], points["high"]),
                [f"block {block}" if block >= 0 else "outside blocks" for block in points["block"]],
                labels=found[:3],
                where=where,
                dash=dashes[found[3] if kinds else ""],
                number=".3g",
            )
    own_axis(made, cells)
    return made


def _kind_names(feature: str) -> dict[str, str]:
    """What the two kinds of stories are called in figures."""
    return dict(zip(KINDS, (f"stories with a {feature}", "stories without"), strict=True))


def decision_bars(frame: pd.DataFrame, feature: str = "Twist") -> go.Figure:
    """How often models are right at the word that decides about the feature: a bar a model, two panels.

    Args:
        frame: Table decisions: accuracy and n of base and deleted model, beside each other. A column "who"
            says which of the two ("base", "deleted") a row is of.
        feature: What it is called.

    Raises:
        ConfigError: If the table has no row.
    """
    rows = with_models(frame)
    base = rows["who"] == "base"
    rows.loc[base, MODEL] = ["base", "", ""]  # the same beside every model made from it
    rows = rows.drop_duplicates([*MODEL, "of", "seed"]).sort_values("who", kind="stable")
    rows = rows.assign(has=(rows["accuracy"] * rows["n"]).round(), unclear=0)
    cells = pooled_shares(rows, [*MODEL, "of"]).drop(columns="unclear")
    names = _kind_names(feature)
    return share_bars(
        {names.get(of, of): cells[cells["of"] == of] for of in values_of(cells, "of")},
        f"The word that decides whether a story has a {feature}: of two, the right one is likelier",
        shares_label(cells),
        "right",
    )


def pruning_curves(frame: pd.DataFrame, feature: str = "Twist") -> go.Figure:
    """Accuracy at the word that decides over the number K of removed neurons: panels protocol × rate.

    Neurons that most hurt the word of stories with the feature go first; random ones are dotted. K is spread
    by its square root.

    Args:
        frame: Table pruning.
        feature: What it is called.

    Raises:
        ConfigError: If the table has no row.
    """
    rows = with_models(frame)
    rows = rows.assign(control=rows["score"] == "random")
    cells = over_seeds(rows, ["protocol", "rate", "task", "control", "k"])
    panels = Panels("protocol", values_of(cells, "protocol"), "rate", rates_of(cells), height=150)
    inks, names = dict(zip(KINDS, INKS, strict=False)), _kind_names(feature)
    of_one = "; random neurons: mean of draws" + (
        ", lowest to highest" if cells["seeds"].max() == 1 else ""
    )
    made = panels.figure(
        f"Neurons removed that most hurt the {feature}'s word",
        interval_label(cells) + of_one * bool(cells["control"].any()),
        "neurons removed (K)",
        "right",
        3,
    )
    for title, (labels, _) in zip(made.layout.annotations, panels.each(), strict=True):
        title.text = model_name("deleted", labels["protocol"], labels["rate"])
    for task, ink in inks.items():
        key(made, names[task], ink)
    key(made, "the same, random neurons removed", GREY, "dot")
    for labels, where in panels.each():
        here = chosen(cells, labels)
        for (task, control), points in here.groupby(["task", "control"], sort=False):
            points = points.sort_values("k")
            line(
                made,
                points["k"].map(math.sqrt),
                (points["accuracy"], points["ci_low"], points["ci_high"]),
                [f"K = {k}" for k in points["k"]],
                labels=("deleted", labels["protocol"], labels["rate"]),
                where=where,
                ink=inks.get(task, GREY),
                dash="dot" if control else "solid",
                group=names.get(task, task),
            )
    counts = sorted(set(cells["k"]))
    places = [math.sqrt(count) for count in counts]
    kept = kept_apart(places, 0.09 * places[-1])
    made.update_xaxes(tickvals=[places[i] for i in kept], ticktext=[str(counts[i]) for i in kept])
    return made


def patching_dots(
    frame: pd.DataFrame, direction: str = "base→finetuned", feature: str = "Twist"
) -> go.Figure:
    """Share of the gap that one model's activation recovers in the other, by site: panels a rate.

    100%: as sure of the feature's word as the model the activation is from; 0: no effect.

    Args:
        frame: Table patching.
        direction: "base→finetuned" (the base's activations in the deleted model), or "finetuned→base".
        feature: What it is called.

    Raises:
        ConfigError: If the table has no such direction, or no gap between any two models.
    """
    rows = with_models(frame)
    rows = rows[(rows["direction"] == direction) & rows["recovered"].notna()]
    ends = ("recovered_low", "recovered_high")
    cells = means_over_seeds(rows, "recovered", [*MODEL, "site"], ends)
    sites, protocols = list(values_of(cells, "site")), values_of(cells, "protocol")
    panels = Panels("", ("",), "rate", rates_of(cells), height=40 + 30 * len(sites))
    into = "base's activation in the deleted model"
    made = panels.figure(
        f"The {feature}'s word: {into if direction == 'base→finetuned' else 'the reverse patch'}",
        f"{means_label(cells, '95% bootstrap interval over stories')}; {count_label(rows)}; models without "
        "a gap to recover are left out",
        "share of the gap recovered",
        "",
        len(protocols),
    )
    for protocol in protocols:
        key(made, protocol, model_colour("deleted", protocol), symbol="circle")
        made.data[-1].marker.update(color=model_colour("deleted", protocol), size=8)
    for labels, where in panels.each():
        for found, points in chosen(cells, labels).groupby(MODEL, sort=False):
            shift = 0.16 * (protocols.index(found[1]) - (len(protocols) - 1) / 2)
            _dots(made, points, [len(sites) - 1 - sites.index(site) - shift for site in points["site"]],
                  found, where)  # fmt: skip
        for place in (0, 1):
            made.add_vline(x=place, line={"color": GREY, "dash": "dot", "width": 1.5}, **where)
    made.update_xaxes(range=[-0.6, 1.6], tickformat=".0%", tickvals=[-0.5, 0, 0.5, 1, 1.5])
    made.update_yaxes(
        range=[-0.7, len(sites) - 0.3], tickvals=list(range(len(sites))), ticktext=sites[::-1],
        tickformat="", ticks="",
    )  # fmt: skip
    made.update_layout(margin={"l": 90})
    return made


def _dots(
    made: go.Figure,
    points: pd.DataFrame,
    places: Sequence[float],
    labels: tuple[str, str, str],
    where: dict[str, Any],
) -> None:
    made.add_scatter(
        x=points["mean"],
        y=list(places),
        mode="markers",
        marker={"color": model_colour(*labels[:2]), "size": 7},
        error_x=error_bars(points, "mean", "low", "high"),
        legendgroup=model_name(*labels[:2]),
        showlegend=False,
        customdata=points[["site", "low", "high"]].to_numpy(),
        hovertemplate=f"<b>{model_name(*labels)}</b>, %{{customdata[0]}}<br>%{{x:.1%}} "
        "[%{customdata[1]:.1%}, %{customdata[2]:.1%}]<extra></extra>",
        **where,
    )
