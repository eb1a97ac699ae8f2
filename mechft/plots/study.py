"""Figures of the PCFG study: from its tables, as ``mechft reproduce`` writes them, to plotly figures.

Lines are means over seeds, bands 95% intervals (``mechft.plots.seed_curves.over_seeds``). A thing has one
colour in all of these figures. Every function takes a table read from its CSV file, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mechft.errors import require
from mechft.plots.colours import GREY
from mechft.plots.seed_curves import (
    Panels,
    chosen,
    interval_label,
    key,
    over_seeds,
    panel_label,
    ramp,
    seed_line,
    values_of,
    with_rates,
)
from mechft.plots.study_against_paper import against_paper
from mechft.plots.study_inside import jailbreak_bars, probing_curves, pruning_curves
from mechft.plots.study_style import (
    C_TR_RAMP,
    KINDS,
    PRIORS,
    SHARE_RAMP,
    STRINGS,
    TICKS_APART,
    question_colour,
    question_name,
)
from mechft.plots.style import reference_line, spread_steps, step_axis

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

__all__ = [
    "against_paper",
    "finetuning_curves",
    "jailbreak_bars",
    "mixing_curves",
    "probing_curves",
    "pruning_curves",
    "question_curves",
    "reversal_curves",
    "steps_curves",
]


def finetuning_curves(frame: pd.DataFrame, evaluations: Sequence[str]) -> go.Figure:
    """Accuracy over fine-tuning steps (Figs. 5 and 6): panels prior × rate, a colour a C_Tr.

    Where both are shown, correlated test strings are solid and uncorrelated ones dashed.

    Args:
        frame: Table finetuning, or indexer.
        evaluations: The questions to show, such as ("acc_ft_cte1", "acc_ft_cte0").

    Raises:
        ConfigError: If the table has no such evaluation.
    """
    names = {c: f"C_Tr = {c:g}" for c in sorted(values_of(frame, "c_tr"))}
    colours = {c: ramp(c, C_TR_RAMP) for c in names}
    return _training_curves(frame, evaluations, "c_tr", names, colours)


def mixing_curves(frame: pd.DataFrame, evaluations: Sequence[str]) -> go.Figure:
    """The same by the share of pretraining data in fine-tuning batches (Figs. 18-23), C_Tr = 1.

    Args:
        frame: Table mixing. Rows of table finetuning with C_Tr = 1 and a column share of 0 may be added.
        evaluations: The questions to show.

    Raises:
        ConfigError: If the table has no such evaluation.
    """
    shares = sorted(values_of(frame, "share"))
    names = {s: panel_label("share", s) if s else "fine-tuning data only" for s in shares}
    places = dict(zip(shares, _evenly(len(shares)), strict=True))
    colours = {s: ramp(places[s], SHARE_RAMP) for s in shares}
    return _training_curves(frame, evaluations, "share", names, colours)


def question_curves(frame: pd.DataFrame, evaluations: Sequence[str]) -> go.Figure:
    """Accuracy over fine-tuning steps, a colour a question: panels prior × rate (randFT, Fig. 28).

    Args:
        frame: Table randft, or one C_Tr of table finetuning.
        evaluations: The questions to show.

    Raises:
        ConfigError: If the table has none of them.
    """
    shown = [e for e in evaluations if e in set(frame["evaluation"])]
    names = {e: question_name(e) for e in shown}
    colours = {e: question_colour(e) for e in shown}
    return _training_curves(frame, shown, "evaluation", names, colours)


def _training_curves(
    frame: pd.DataFrame,
    evaluations: Sequence[str],
    by: str,
    names: dict[Any, str],
    colours: dict[Any, str],
) -> go.Figure:
    rows = frame[frame["evaluation"].isin(list(evaluations))]
    lines = list(dict.fromkeys((by, "evaluation")))
    cells = over_seeds(rows, ["prior", "rate", *lines, "step"])
    both = by != "evaluation" and cells["evaluation"].nunique() > 1
    operands = dict.fromkeys(question_name(e).split(",")[0] for e in evaluations)
    title = f"Accuracy on {' and '.join(operands)} over fine-tuning"
    if by != "evaluation" and not both:
        title += f": {STRINGS.get(evaluations[0][-1], 'plain strings')}"
    if by == "evaluation":
        title = "Accuracy over fine-tuning, by question"
    panels = Panels("prior", values_of(cells, "prior"), "rate", values_of(cells, "rate"))
    made = panels.figure(
        title, interval_label(cells), "fine-tuning step", "accuracy", len(names) + 2 * both
    )
    for value, name in names.items():
        key(made, name, colours[value])
    if both:
        for test, dash in (("1", "solid"), ("0", "dash")):
            key(made, STRINGS[test], GREY, dash)
    for labels, where in panels.each():
        for found, line in chosen(cells, labels).groupby(lines, sort=False):
            value, question = found[0], found[-1]
            seed_line(
                made,
                line,
                line["step"].map(spread_steps),
                [f"step {step:,}" for step in line["step"]],
                group=names[value],
                said=f"{names[value]}, {question_name(question)}"
                if by != "evaluation"
                else names[value],
                colour=colours[value],
                dash="dash" if both and str(question).endswith("0") else "solid",
                where=where,
            )
    step_axis(made, int(cells["step"].max()), TICKS_APART)
    return made


def _evenly(count: int) -> list[float]:
    return [place / max(1, count - 1) for place in range(count)]


def steps_curves(frame: pd.DataFrame) -> go.Figure:
    """Accuracy after fine-tuning over pretraining's steps (Figs. 60-78): panels prior × rate.

    O_PT and O_FT in a colour each, correlated test strings solid and uncorrelated ones dashed.

    Args:
        frame: Table steps_final.

    Raises:
        ConfigError: If the table has no row.
    """
    cells = over_seeds(frame, ["prior", "rate", "evaluation", "pretraining_steps"])
    questions = values_of(cells, "evaluation")
    panels = Panels("prior", values_of(cells, "prior"), "rate", values_of(cells, "rate"))
    made = panels.figure(
        f"After fine-tuning with {', '.join(f'C_Tr = {c:g}' for c in values_of(frame, 'c_tr'))}, by "
        "steps of pretraining",
        interval_label(cells),
        "pretraining steps",
        "accuracy",
        len(questions),
    )
    looks = {
        question: (question_colour(question), "dash" if str(question).endswith("0") else "solid")
        for question in questions
    }
    for question, look in looks.items():
        key(made, question_name(question), *look)
    for labels, where in panels.each():
        for question, line in chosen(cells, labels).groupby("evaluation", sort=False):
            ink, dash = looks[question]
            line = line.sort_values("pretraining_steps")
            seed_line(
                made,
                line,
                line["pretraining_steps"],
                [f"{steps:,} steps of pretraining" for steps in line["pretraining_steps"]],
                group=question_name(question),
                said=question_name(question),
                colour=ink,
                dash=dash,
                where=where,
            )
    ticks = sorted(set(cells["pretraining_steps"]))
    made.update_xaxes(type="log", tickvals=ticks, ticktext=[_short(step) for step in ticks])
    return made


def _short(steps: int) -> str:
    """Steps as a tick: 500, 10k."""
    return f"{steps // 1000}k" if steps % 1000 == 0 else f"{steps:,}"


def reversal_curves(frame: pd.DataFrame) -> go.Figure:
    """Accuracy on O_PT over reverse fine-tuning (Fig. 9): panels C_Tr × (rate → rate back).

    ReFT has a colour a prior, and is dotted after randFT, which has no C_Tr and is in every row. Scr.+FT
    at the same rate back, and Scr., which has a rate of its own, are in each panel.

    Args:
        frame: Table reversal.

    Raises:
        ConfigError: If the table has no reFT.
    """
    rows = with_rates(frame[frame["evaluation"].isin(["acc_pt_cte0", "acc_pt_plain"])])
    require(
        bool((rows["kind"] == "reFT").any()),
        "A figure of reversals needs reFT runs with their accuracy on O_PT; the table has none. Give "
        "the table reversal of a study.",
    )
    rows = rows.assign(back=rows["rate"] + " → " + rows["reverse_rate"])
    by = ["prior", "c_tr", "kind", "back"]
    cells = over_seeds(rows, [*by, "step"])
    started = cells[cells["kind"].isin(["reFT", "randFT"])]
    c_trs = tuple(sorted(set(started["c_tr"].dropna()), reverse=True))
    panels = Panels("c_tr", c_trs, "back", values_of(started, "back"), height=260)
    priors, kinds = values_of(started, "prior"), values_of(cells, "kind")
    made = panels.figure(
        "Counting a over reverse fine-tuning, by rate before → rate back",
        interval_label(cells),
        "reverse fine-tuning step",
        "accuracy on O_PT",
        len(priors) + len(kinds) - 1,
    )
    for prior in priors:
        key(made, f"reFT, {prior} prior", PRIORS.get(prior, GREY))
    for kind in kinds:
        if kind != "reFT":
            name, ink, dash = KINDS[kind]
            key(made, name, ink or GREY, dash)
    for labels, where in panels.each():
        here = cells[_in_panel(cells, **labels)]
        for (prior, c_tr, kind, _), line in here.groupby(by, sort=False, dropna=False):
            name, ink, dash = KINDS[kind]
            said = name if ink else f"{name}, {prior} prior"
            seed_line(
                made,
                line,
                line["step"].map(spread_steps),
                [f"step {step:,}" for step in line["step"]],
                group=name if ink else f"reFT, {prior} prior",
                said=said + (f", C_Tr = {c_tr:g}" if c_tr == c_tr else ""),
                colour=ink or PRIORS.get(prior, GREY),
                dash=dash,
                where=where,
            )
        reference_line(made, 0.95, **where)
    step_axis(made, int(cells["step"].max()), TICKS_APART)
    return made


def _in_panel(cells: pd.DataFrame, c_tr: float, back: str) -> pd.Series[bool]:
    """Which curves a panel of reversals has: its reFT and randFT, and the controls that fit it."""
    kind = cells["kind"]
    own = (cells["back"] == back) & ((cells["c_tr"] == c_tr) | (kind == "randFT"))
    same = (kind == "Scr.+FT") & (cells["back"].str.split(" → ").str[-1] == back.split(" → ")[-1])
    found: pd.Series[bool] = own | same | (kind == "Scr.")
    return found
