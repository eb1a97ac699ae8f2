"""What the paper claims of compiled programs, put to a reproduction's numbers by rules fixed beforehand."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace
from typing import Any

from mechft.experiments.checks import Check
from mechft.experiments.tracr_cells import finetuned_name
from mechft.experiments.tracr_looks import single_gains
from mechft.experiments.tracr_result import REVIVED, TracrResult
from mechft.statistics import Z_95

LEARNED, FAILED = 0.8, 0.5  # O_FT with the correlation at least, without it at most
PAPER_STEPS = 10_000
SINGLE = 0.6  # of O_PT brought back by one weight, as the paper says
KEPT_MASS = 0.5  # of the base's attention on a
KEPT_PATTERN = 0.25  # bits of Jensen-Shannon divergence from the base's pattern, at most

_QUESTIONS = {
    "acc_pt_cte1": "O_PT with the correlation",
    "acc_ft_cte1": "O_FT with it",
    "acc_pt_cte0": "O_PT without",
    "acc_ft_cte0": "O_FT without",
}


def tracr_checks(result: TracrResult) -> tuple[Check, ...]:
    """Every claim of the paper about this setup (Jain et al. 2024, Sec. 5 and App. C), with a verdict."""
    attention = _attends if result.config.program == "counter" else _sorts
    checks = (
        _base(result),
        _table(result),
        _shortcut(result),
        _gone(result),
        attention(result),
        _one_weight(result),
        _diverse(result),
        _revives(result),
        _damaged(result),
        _faster(result),
    )
    if result.config.quick:  # too little was trained to judge anything by
        return (checks[0], *(replace(check, holds=None) for check in checks[1:]))
    return checks


def _base(result: TracrResult) -> Check:
    compiled, densified = result.base["compiled"], result.base["densified"]
    return Check(
        "Noise on the compiled weights costs no accuracy on O_PT (at most 0.5 points)",
        f"compiled {compiled}, with noise {densified}, on the same strings",
        compiled.value - densified.value <= 0.005,
    )


def _table(result: TracrResult) -> Check:
    table = result.grid.against_paper()
    compared = table[(table["rate"] == "all") & (table["cells"] > 0)]
    evidence = "; ".join(
        f"{_QUESTIONS[str(row.question)]}: {row.mean_absolute_difference:.1f} points over {row.cells} "
        f"cells ({row.mean_difference:+.1f} on average), rank correlation {row.spearman:.2f}"
        for row in compared.itertuples()
    )
    steps = result.scale.steps
    if len(compared) and steps != PAPER_STEPS:
        evidence += f" (ours after {steps:,} steps, the paper's after {PAPER_STEPS:,})"
    near = bool((compared["mean_absolute_difference"] <= 15).all())
    return Check(
        "Table 3: accuracies are within 15 points of the paper's on average, in every column",
        evidence or "the paper has no such table",
        near if len(compared) else None,
    )


def _cells(result: TracrResult) -> list[dict[str, Any]]:
    """One entry a model of the grid that did not diverge: rate, c_tr, and its four accuracies."""
    frame = result.grid.frame.dropna(subset=["accuracy"])
    wide = frame.pivot(index=["rate", "c_tr"], columns="question", values="accuracy")
    return [{"rate": r, "c_tr": c, **row.to_dict()} for (r, c), row in wide.iterrows()]


def _shows_shortcut(result: TracrResult) -> set[str]:
    """Rates at which the paper's model of C_Tr = 1 is right with the correlation only; all, if unknown."""
    frame = result.grid.frame[result.grid.frame["c_tr"] == 1]
    if frame["paper"].isna().all():
        return set(frame["rate"])
    theirs = frame.pivot(index="rate", columns="question", values="paper")
    shown = (theirs["acc_ft_cte1"] >= LEARNED) & (theirs["acc_ft_cte0"] <= FAILED)
    return set(theirs.index[shown])


def _shortcut(result: TracrResult) -> Check:
    shown = _shows_shortcut(result)
    cells = [c for c in _cells(result) if c["c_tr"] == 1 and c["rate"] in shown]
    learned = [c for c in cells if c["acc_ft_cte1"] >= LEARNED]
    evidence = "; ".join(
        f"{c['rate']}: {c['acc_ft_cte1']:.1%} with, {c['acc_ft_cte0']:.1%} without" for c in cells
    )
    return Check(
        f"With C_Tr = 1 every model that answers for O_FT with the correlation (at least {LEARNED:.0%}) "
        f"fails without it (at most {FAILED:.0%}), at the rates where the paper's does",
        evidence,
        all(c["acc_ft_cte0"] <= FAILED for c in learned) if learned else None,
    )


def _gone(result: TracrResult) -> Check:
    cells = _cells(result)
    most = max(cells, key=lambda c: float(c["acc_pt_cte0"]))
    return Check(
        "O_PT looks gone in every fine-tuned model: at most 50% without the correlation",
        f"at most {most['acc_pt_cte0']:.1%} (rate {most['rate']}, C_Tr = {most['c_tr']:g}) of "
        f"{len(cells)} models",
        bool(most["acc_pt_cte0"] <= 0.5),
    )


def _attends(result: TracrResult) -> Check:
    mass = result.attention.mass.frame
    operand = "a"
    here = mass[(mass["block"] == 1) & (mass["group"] == operand)].set_index("model")["mass"]
    base = float(here["base"])
    kept = {name: float(value) / base for name, value in here.items() if name != "base"}
    exempt = {"L": None, "M": (0.0,)}  # by rate the C_Tr at which it is lost; None: at all
    lost: list[float] = []
    stays: list[float] = []
    for cell in _cells(result):
        name = finetuned_name(cell["rate"], cell["c_tr"])
        where = exempt.get(cell["rate"], ())
        (lost if where is None or cell["c_tr"] in where else stays).append(kept[name])
    return Check(
        f"Block 1 keeps attending to a (at least {KEPT_MASS:.0%} of the base's mass) in every model but "
        "those of L, and of M with C_Tr = 0, which do not",
        f"base {base:.1%} of the attention; kept in {sum(k >= KEPT_MASS for k in stays)} of {len(stays)} "
        f"models that should (median {_median(stays)} of the base's), lost in "
        f"{sum(k < KEPT_MASS for k in lost)} of {len(lost)} that should not (median {_median(lost)})",
        all(k >= KEPT_MASS for k in stays) and all(k < KEPT_MASS for k in lost),
    )


def _sorts(result: TracrResult) -> Check:
    frame = result.attention.frame
    moved = frame[frame["block"] == 0].set_index("model")["js"]
    by_rate: dict[str, list[float]] = {}
    for cell in _cells(result):
        name = finetuned_name(cell["rate"], cell["c_tr"])
        by_rate.setdefault(cell["rate"], []).append(float(moved[name]))
    kept = {rate: sum(js <= KEPT_PATTERN for js in found) for rate, found in by_rate.items()}
    evidence = "; ".join(
        f"{rate}: {kept[rate]} of {len(by_rate[rate])} (median {_median(by_rate[rate], '.3f')} bits)"
        for rate in ("VS", "S", "M", "L")
        if rate in by_rate
    )
    others = sum(count for rate, count in kept.items() if rate != "VS")
    return Check(
        f"Only models of VS keep block 0's sorting attention (divergence from the base at most "
        f"{KEPT_PATTERN} bits)",
        f"kept by {evidence}",
        kept["VS"] == len(by_rate["VS"]) and others == 0 if "VS" in by_rate else None,
    )


def _median(values: list[float], form: str = ".0%") -> str:
    return format(statistics.median(values), form) if values else "none"


def _one_weight(result: TracrResult) -> Check:
    gains = single_gains(result.prune)
    cells = {finetuned_name(c["rate"], c["c_tr"]): c for c in _cells(result)}
    claimed = {n: g for n, g in gains.items() if cells[n]["rate"] in "MS" and cells[n]["c_tr"] > 0}
    others = {n: g for n, g in gains.items() if n not in claimed}
    before, after = result.pruned_answers.spread().itertuples()
    rise = after.accuracy - before.accuracy
    half = Z_95 * math.sqrt(sum(r.accuracy * (1 - r.accuracy) / r.n for r in (before, after)))
    elsewhere = ""
    if others:
        best = max(others, key=lambda name: others[name])
        elsewhere = f"; among the other models at most {100 * others[best]:.1f} ({best})"
    holds: bool | None = None
    if (
        rise + half <= SINGLE
        or before.model not in claimed
        or max(others.values(), default=0) > SINGLE
    ):
        holds = False
    elif rise - half > SINGLE:
        holds = True
    return Check(
        "Counting a: removing one weight brings back more than 60 points of O_PT in some model of M or S "
        "with C_Tr > 0, and in no other"
        + ("" if result.config.program == "counter" else " (here put to the Max-identifier)"),
        f"{before.model}, chosen of {len(gains)} models on other strings: {before.accuracy:.1%} to "
        f"{after.accuracy:.1%}, {100 * rise:.1f} points [{100 * (rise - half):.1f}, "
        f"{100 * (rise + half):.1f}] (n={after.n}){elsewhere}",
        holds,
    )


def _diverse(result: TracrResult) -> Check:
    row = result.pruned_answers.spread().iloc[-1]
    gain = row["accuracy"] - result.pruned_answers.spread().iloc[0]["accuracy"]
    share = row["effective_answers"] / row["effective_true_answers"]
    return Check(
        "With one weight removed the revived model still gives many answers: at least half as many, "
        "effectively, as are right",
        f"{row['model']}: {row['effective_answers']:.1f} effective answers, "
        f"{row['effective_true_answers']:.1f} in the truth; it gains {100 * gain:.1f} points",
        bool(share >= 0.5) if gain >= 0.2 else None,
    )


def _reversals(result: TracrResult, started: str, rate: str | None = None) -> list[dict[str, Any]]:
    frame = result.reversals
    rows: list[dict[str, Any]] = frame[
        (frame["kind"] == "reFT")
        & ~frame["diverged"]
        & (frame["started"] == started)
        & ((frame["rate"] == rate) if rate else True)
    ].to_dict("records")
    return rows


def _in_steps(row: dict[str, Any]) -> str:
    return f"{finetuned_name(row['started'], row['c_tr'])}, then {row['rate']}: {_reached(row)}"


def _end(row: dict[str, Any]) -> float:
    return float(row["steps_to_revival"])


def _reached(row: dict[str, Any]) -> str:
    steps = _end(row)
    end = f"not within {row['steps']:,} steps (at the end {row['acc_pt_cte0']:.1%})"
    return end if math.isnan(steps) else f"{steps:.0f} steps"


def _revives(result: TracrResult) -> Check:
    rows = _reversals(result, "M", "VS")
    back = bool(rows) and not any(math.isnan(_end(row)) for row in rows)
    return Check(
        f"reFT brings O_PT back ({REVIVED:.0%} of the base's accuracy) after M, even with VS",
        "; ".join(map(_in_steps, rows)) or "not run",
        back or (False if rows and _long_enough(result) else None),
    )


def _damaged(result: TracrResult) -> Check:
    rows = _reversals(result, "L")
    back = [row for row in rows if not math.isnan(_end(row))]
    evidence = f"back in {len(back)} of {len(rows)}"
    if rows:
        evidence += ": " + "; ".join(map(_in_steps, rows))
    return Check(
        "After L it does not come back at any smaller rate: the capability is damaged",
        evidence if rows else "not run",
        False if back else (True if rows and _long_enough(result) else None),
    )


def _long_enough(result: TracrResult) -> bool:
    """Whether a training that did not bring O_PT back had the paper's time to."""
    return result.scale.reverse_steps >= PAPER_STEPS


def _faster(result: TracrResult) -> Check:
    frame = result.reversals
    controls = frame[(frame["kind"] == "Scr.+FT") & ~frame["diverged"]]
    control = {row["rate"]: row for row in controls.to_dict("records")}
    pairs = [
        row
        for row in (*_reversals(result, "M"), *_reversals(result, "S"))
        if row["rate"] in control
    ]
    rows = [
        row
        for row in pairs
        if not (math.isnan(_end(row)) and math.isnan(_end(control[row["rate"]])))
    ]
    half = [_steps(row) <= _steps(control[row["rate"]]) / 2 for row in rows]
    missed = "; ".join(
        f"Scr.+FT with {rate}: {_reached(theirs)}"
        for rate, theirs in control.items()
        if any(row["rate"] == rate for row in rows)
    )
    return Check(
        "reFT after M or S takes at most half the steps of Scr.+FT at the same rate, in most cases",
        f"in {sum(half)} of {len(half)}: {'; '.join(map(_in_steps, rows))}. {missed}"
        if rows
        else "neither came back in any pair; O_PT ends at "
        + "; ".join(
            f"{100 * row['acc_pt_cte0']:.0f}% ({finetuned_name(row['started'], row['c_tr'])}, then "
            f"{row['rate']}; Scr.+FT {100 * control[row['rate']]['acc_pt_cte0']:.0f}%)"
            for row in pairs
        ),
        sum(half) > len(half) / 2 if half else None,
    )


def _steps(row: dict[str, Any]) -> float:
    """Steps to revival; where there is none, all of the run's."""
    steps = _end(row)
    return float(row["steps"]) if math.isnan(steps) else steps
