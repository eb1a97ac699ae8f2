"""Figures of what is inside the models of the PCFG study: pruning, probes, untouched tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mechft.plots.colours import GREY, colour
from mechft.plots.seed_curves import (
    Panels,
    chosen,
    interval_label,
    key,
    over_seeds,
    seed_line,
    values_of,
    with_rates,
)
from mechft.plots.study_style import CONTROLS, PRIORS, RATES, question_colour, question_name
from mechft.plots.style import error_bars, kept_apart, legend_once, reference_line

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

CELL = ["prior", "rate", "c_tr"]
_DASHES = ("solid", "dash", "dashdot", "longdash", "longdashdot")


def pruning_curves(
    frame: pd.DataFrame,
    c_tr: float = 1.0,
    *,
    columns: str = "rate",
    marked: tuple[int, int] | None = None,
) -> go.Figure:
    """Accuracy over the number K of removed neurons (Fig. 7): panels prior × rate, random ones dotted.

    K is spread by its square root.

    Args:
        frame: Table pruning, or mixing_pruning.
        c_tr: Which models.
        columns: What the panels' columns are: "rate", or "share" for mixing_pruning.
        marked: A range of K to shade.

    Raises:
        ConfigError: If there is no such model.
    """
    rows = chosen(with_rates(frame), {"c_tr": c_tr})
    rows = rows.assign(control=rows["score"] == "random")
    cells = over_seeds(rows, ["prior", columns, "task", "control", "k"])
    panels = Panels("prior", values_of(cells, "prior"), columns, values_of(cells, columns))
    tasks = values_of(cells, "task")
    random = "; random neurons: mean over draws" if cells["control"].any() else ""
    if random and cells["seeds"].max() == 1:
        random += ", lowest to highest"
    title = f"Neurons removed that most hurt O_PT, after C_Tr = {c_tr:g}"
    if columns != "rate":
        title += f" at rate {', '.join(values_of(rows, 'rate'))}"
    below = interval_label(cells) + random
    below += f"; shaded: K = {marked[0]} to {marked[1]}" if marked else ""
    made = panels.figure(title, below, "neurons removed (K)", "accuracy", 2 * len(tasks))
    for task in tasks:
        key(made, question_name(task), question_colour(task))
    key(made, "the same, random neurons removed", GREY, "dot")
    for labels, where in panels.each():
        for (task, control), line in chosen(cells, labels).groupby(["task", "control"], sort=False):
            name = question_name(task)
            seed_line(
                made,
                line,
                line["k"].map(math.sqrt),
                [f"K = {k}" for k in line["k"]],
                group=name,
                said=name + (", random neurons" if control else ""),
                colour=question_colour(task),
                dash="dot" if control else "solid",
                where=where,
            )
    if marked:
        made.add_vrect(
            *map(math.sqrt, marked),
            row="all",
            col="all",
            fillcolor=GREY,
            opacity=0.13,
            line_width=0,
        )
    counts = sorted(set(cells["k"]))
    made.update_xaxes(tickvals=[math.sqrt(k) for k in counts], ticktext=_sparse_counts(counts))
    return made


def _sparse_counts(counts: Sequence[int]) -> list[str]:
    """Labels for the ticks at counts, "" where there is no room beside the last that has one."""
    kept = kept_apart([math.sqrt(count) for count in counts], 0.09 * math.sqrt(max(counts)))
    return [str(count) if i in kept else "" for i, count in enumerate(counts)]


def probing_curves(frame: pd.DataFrame) -> go.Figure:
    """Accuracy of linear probes by block (Fig. 8): a panel a prior, controls in each.

    The base, models fine-tuned from it (a colour a rate, a dash a C_Tr), the model never asked for a and
    the untrained one; always naming the commonest class is dotted.

    Args:
        frame: Table probing; or jailbreak_probing, with a row of panels a token.

    Raises:
        ConfigError: If the table has no row.
    """
    rows = with_rates(frame[frame["control"] == "none"] if "control" in frame else frame)
    token = ["token"] if "token" in rows else []
    cells = over_seeds(rows, [*token, *CELL, "stage", "block"])
    tuned = cells[cells["stage"] == "fine-tuned"]
    dashes = dict(zip(sorted(set(tuned["c_tr"]), reverse=True), _DASHES, strict=False))
    rates = values_of(tuned, "rate")
    controls = [name for name in CONTROLS if name in set(cells["prior"])]
    priors = tuple(p for p in values_of(cells, "prior") if p not in CONTROLS)
    tokens = values_of(cells, "token") if token else ("",)
    panels = Panels("token" if token else "", tokens, "prior", priors, height=230 if token else 300)
    made = panels.figure(
        "The count of a, read by linear probes on the residual stream",
        interval_label(cells),
        "after block",
        "held-out probe accuracy",
        2 + len(controls) + len(rates) + len(dashes),
    )
    named = {"": "base", **{rate: f"fine-tuned, rate {rate}" for rate in rates}}
    named |= {"never_a": "never asked for a", "untrained": "never trained"}
    inks = {"": colour("base"), **{r: RATES.get(r, GREY) for r in rates}, **CONTROLS}
    for name in ("", *rates, *controls):
        key(made, named[name], inks[name])
    for c_tr, dash in dashes.items():
        key(made, f"C_Tr = {c_tr:g}", GREY, dash)
    key(made, "commonest class", GREY, "dot")
    for labels, where in panels.each():
        prior = labels.pop("prior")
        here = chosen(cells, labels)
        here = here[here["prior"].isin([prior, *controls])]
        for (of, rate, c_tr, _), line in here.groupby([*CELL, "stage"], sort=False, dropna=False):
            name = named[of if of in CONTROLS else rate]
            seed_line(
                made,
                line,
                line["block"],
                [f"block {block}" for block in line["block"]],
                group=name,
                said=name + (f", C_Tr = {c_tr:g}" if c_tr == c_tr else ""),
                colour=inks[of if of in CONTROLS else rate],
                dash=dashes.get(c_tr, "solid"),
                where=where,
            )
        asked = chosen(rows, labels)
        reference_line(made, float(asked.loc[asked["prior"] == prior, "majority"].mean()), **where)
    made.update_xaxes(dtick=1)
    return made


def jailbreak_bars(frame: pd.DataFrame) -> go.Figure:
    """Accuracy on counting a by the token that asks (Fig. 24): panels rate × C_Tr, a colour a prior.

    A black line across a bar is the base's accuracy. Only the first token was fine-tuned on.

    Args:
        frame: Table jailbreak.

    Raises:
        ConfigError: If the table has no row.
    """
    cells = over_seeds(with_rates(frame), [*CELL, "stage", "token"])
    base, tuned = (cells[cells["stage"] == stage] for stage in ("base", "fine-tuned"))
    priors, tokens = values_of(cells, "prior"), values_of(cells, "token")
    panels = Panels("rate", values_of(tuned, "rate"), "c_tr", tuple(sorted(set(tuned["c_tr"]))))
    made = panels.figure(
        "Counting a on uncorrelated strings, by the token that asks for it",
        interval_label(cells),
        f"token that asks (only {tokens[0]} was fine-tuned on)",
        "accuracy",
        len(priors) + 1,
    )
    width = 0.8 / len(priors)
    for labels, where in panels.each():
        for place, prior in enumerate(priors):
            shift = (place - (len(priors) - 1) / 2) * width
            bars = chosen(tuned, {**labels, "prior": prior})
            before = chosen(base, {"prior": prior}).set_index("token").reindex(bars["token"])
            x = [tokens.index(token) + shift for token in bars["token"]]
            made.add_bar(
                x=x,
                y=bars["accuracy"],
                width=0.92 * width,
                error_y=error_bars(bars, "accuracy", "ci_low", "ci_high"),
                marker={"color": PRIORS.get(prior, GREY), "opacity": 0.75},
                name=f"{prior} prior, fine-tuned",
                legendgroup=prior,
                customdata=list(
                    zip(bars["token"], bars["ci_low"], bars["ci_high"], bars["seeds"], bars["n"],
                        before["accuracy"], strict=True)
                ),
                hovertemplate=f"<b>{prior} prior</b>, asked by %{{customdata[0]}}<br>%{{y:.1%}} "
                "[%{customdata[1]:.1%}, %{customdata[2]:.1%}], base %{customdata[5]:.1%}<br>seeds: "
                "%{customdata[3]}, n = %{customdata[4]:,} each<extra></extra>",
                **where,
            )  # fmt: skip
            made.add_scatter(
                x=x,
                y=before["accuracy"],
                mode="markers",
                marker={
                    "symbol": "line-ew",
                    "size": 22,
                    "line": {"width": 2.5, "color": "#000000"},
                },
                name="its base",
                legendgroup="base",
                legendrank=2000,  # after the priors
                hovertemplate=f"<b>{prior} prior, base</b><br>%{{y:.1%}}<extra></extra>",
                **where,
            )
    legend_once(made)
    made.update_layout(barmode="overlay")
    made.update_xaxes(tickvals=list(range(len(tokens))), ticktext=list(tokens))
    return made
