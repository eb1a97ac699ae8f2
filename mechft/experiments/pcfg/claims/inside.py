"""Claims about what is found inside (PAPER.md 3, 4, 8 and 11: Figs. 7, 8, 24, 25, 86-89)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mechft.experiments.checks import Check
from mechft.experiments.pcfg.claims.evidence import (
    above,
    all_of,
    by_seed,
    estimate,
    negative,
    paired,
    percent,
    points,
    rows_of,
)
from mechft.experiments.pcfg.result import StudyResult

if TYPE_CHECKING:
    import pandas as pd

FEW = (5, 15)
"""Numbers of neurons over whose removal the gain is averaged: no K is chosen for its result."""

GONE = 0.5  # O_PT at most, to speak of a capability that looks gone
GAIN = 0.3  # of O_PT brought back
RANDOM_GAIN = 0.1
FALL = 0.2  # of O_FT lost
SAME = 0.05  # of a probe's accuracy
READS = 0.1
STILL = 0.95  # of questions by an untouched token
SOME = 0.1  # of O_PT brought back, to speak of any revival
PARTLY = 0.8  # of the base's accuracy


def _removed(frame: pd.DataFrame, task: str, *, random: bool = False) -> pd.Series[float]:
    """Accuracy with a few neurons removed, by seed: the mean over K in ``FEW``."""
    kind = (frame["score"] == "random") == random
    some = frame["k"].between(*FEW)
    return by_seed(frame[kind & some & (frame["task"] == task)])


def _whole(frame: pd.DataFrame, task: str) -> pd.Series[float]:
    return by_seed(
        frame[(frame["k"] == 0) & (frame["task"] == task) & (frame["score"] != "random")]
    )


def pruning_claims(result: StudyResult) -> list[Check]:
    """Fig. 7: low prior, correlated."""
    low = result.scale.priors[0]
    table = rows_of(result.tables["pruning"], prior=low, c_tr=1.0)
    back, falls, control = {}, {}, {}
    words: list[str] = []
    for rate, rows in table.groupby("rate", sort=False):
        before = estimate(_whole(rows, "acc_pt"))
        if before is None or before.value > GONE:
            words.append(f"{rate}: not gone ({percent(before)})")
            continue
        gain = paired(_removed(rows, "acc_pt"), _whole(rows, "acc_pt"))
        fall = paired(_whole(rows, "acc_ft_cte1"), _removed(rows, "acc_ft_cte1"))
        random = paired(_removed(rows, "acc_pt", random=True), _whole(rows, "acc_pt"))
        back[rate], falls[rate] = above(gain, GAIN), above(fall, FALL)
        control[rate] = None if random is None else random.value <= RANDOM_GAIN
        words.append(
            f"{rate}: from {percent(before)} {points(gain)}, O_FT {points(negative(fall))}, random "
            f"neurons {points(random)}"
        )
    evidence = f"mean over K = {FEW[0]} to {FEW[1]}, points: " + "; ".join(words)
    return [
        Check(
            f"Fig. 7: with the {low} prior and C_Tr = 1, where O_PT looks gone (at most {GONE:.0%}), "
            f"removing {FEW[0]} to {FEW[1]} neurons brings back {100 * GAIN:.0f} points, random ones at most "
            f"{100 * RANDOM_GAIN:.0f}",
            evidence,
            all_of([*back.values(), *control.values()]),
        ),
        Check(
            f"Fig. 7: the same removal costs O_FT at least {100 * FALL:.0f} points",
            evidence,
            all_of(falls),
        ),
    ]


def inhibitor_claims(result: StudyResult) -> list[Check]:
    """Figs. 86-89: with L and a strongly relevant capability, pruning revives only partly."""
    high = result.scale.priors[-1]
    rate = next(iter(result.scale.rate))
    table = rows_of(result.tables["pruning"], prior=high, rate=rate, c_tr=1.0)
    base = rows_of(result.tables["pretraining"], prior=high, evaluation="C(a)")
    last = base[base["step"] == base.groupby("seed")["step"].transform("max")]
    before, after = _whole(table, "acc_pt"), _removed(table, "acc_pt")
    full = by_seed(last)
    revived = estimate(after / full) if len(after) else None
    gain = paired(after, before)
    start = estimate(before)
    gone = start is not None and start.value <= GONE
    partly = above(revived, PARTLY)
    return [
        Check(
            f"Figs. 86-89: with rate {rate} and the {high} prior (b was known before: strongly relevant; "
            f"C_Tr = 1), removing {FEW[0]} to {FEW[1]} neurons revives O_PT only partly (at least "
            f"{100 * SOME:.0f} points, but not {PARTLY:.0%} of the base's accuracy)",
            f"from {percent(start)} {points(gain)} points, {percent(revived)} of the base's"
            + ("" if gone else "; O_PT is not gone here, so there is little to revive"),
            None if not gone or partly is None else all_of([above(gain, SOME), not partly]),
        )
    ]


def probing_claims(result: StudyResult) -> list[Check]:
    """Fig. 8: the count of a stays readable as in the base, except low prior with M."""
    scale, table = result.scale, result.tables["probing"]
    table = table[table["control"] == "none"] if "control" in table else table
    table = table[table["block"] == table["block"].max()]  # where the answer is read from
    verdicts: dict[object, bool | None] = {}
    words = []
    for prior in scale.priors:
        base = by_seed(table, prior=prior, stage="base")
        for rate in scale.probed_rates:
            fallen = paired(
                base, by_seed(table, prior=prior, stage="fine-tuned", rate=rate, c_tr=1.0)
            )
            if fallen is None:
                continue
            lost = above(fallen, SAME)
            exempt = (prior, rate) == (scale.priors[0], "M")
            verdicts[prior, rate] = lost if exempt else (None if lost is None else not lost)
            words.append(f"{prior}, {rate}: {points(negative(fallen))}")
    never, untrained, own = (
        estimate(by_seed(table, prior=prior, stage="base"))
        for prior in ("never_a", "untrained", scale.priors[0])
    )
    gaps = [
        paired(
            by_seed(table, prior=scale.priors[0], stage="base"),
            by_seed(table, prior=control, stage="base"),
        )
        for control in ("never_a", "untrained")
    ]
    return [
        Check(
            "Fig. 8: after the last block the count of a is read as well as in the base (within "
            f"{100 * SAME:.0f} points; C_Tr = 1), except with the {scale.priors[0]} prior and M, "
            "where it is not",
            "change, points: " + "; ".join(words),
            all_of(verdicts),
        ),
        Check(
            "Not the paper's, but what its reading rests on: the probe reads the base's count at least "
            f"{100 * READS:.0f} points better than that of a model never asked for a, and of one never "
            "trained",
            f"base {percent(own)}; never asked {percent(never)}; never trained {percent(untrained)}",
            all_of([above(gap, READS) for gap in gaps]),
        ),
    ]


def jailbreak_claims(result: StudyResult) -> list[Check]:
    """Figs. 24-25: tokens that fine-tuning did not touch."""
    high = result.scale.priors[-1]
    answers = rows_of(result.tables["jailbreak"], prior=high, stage="fine-tuned")
    verdicts, words = {}, []
    for (rate, c_tr), rows in answers.groupby(["rate", "c_tr"], sort=False):
        for token in dict.fromkeys(rows["token"]):
            value = estimate(by_seed(rows, token=token))
            words.append(f"{rate}, C_Tr = {c_tr:g}, {token}: {percent(value)}")
            if token != "C":
                verdicts[rate, c_tr, token] = above(value, STILL)
    probes = rows_of(result.tables["jailbreak_probing"], prior=high, token="C")
    probes = probes[probes["control"] == "none"] if "control" in probes else probes
    middle = sorted(set(probes["block"]))[:-1]  # all but the last
    kept, probe_words = {}, []
    for (rate, c_tr), rows in rows_of(probes, stage="fine-tuned").groupby(
        ["rate", "c_tr"], sort=False
    ):
        losses = [
            paired(by_seed(probes, stage="base", block=block), by_seed(rows, block=block))
            for block in middle
        ]
        found = [loss for loss in losses if loss is not None]
        if found:
            best = min(found, key=lambda loss: loss.value)
            kept[rate, c_tr] = _not_above(above(best, SAME))
            probe_words.append(f"{rate}, C_Tr = {c_tr:g}: {points(negative(best))}")
    return [
        Check(
            f"Fig. 24: with the {high} prior, a is still counted (at least {STILL:.0%}) when asked for by "
            "tokens that fine-tuning on (C, b) did not touch",
            "; ".join(words),
            all_of(verdicts),
        ),
        Check(
            f"Fig. 25: even when asked by C, some block before the last encodes the count of a as in the "
            f"base (within {100 * SAME:.0f} points)",
            "best such block, change in points: " + "; ".join(probe_words),
            all_of(kept),
        ),
    ]


def _not_above(value: bool | None) -> bool | None:
    return None if value is None else not value
