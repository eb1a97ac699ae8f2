"""Claims about what is found inside (PAPER.md 3, 4, 8 and 11: Figs. 7, 8, 24, 25, 86-89)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mechft.experiments.checks import Check
from mechft.experiments.pcfg.claims.evidence import (
    GONE,
    RIGHT,
    above,
    all_of,
    by_seed,
    estimate,
    negative,
    not_,
    paired,
    percent,
    points,
    rows_of,
)
from mechft.experiments.pcfg.result import StudyResult

if TYPE_CHECKING:
    import pandas as pd

FEW = (5, 15)
"""Numbers of neurons over whose removal accuracy is averaged: no K is chosen for its result."""

GAIN = 0.3  # of O_PT brought back
OVER_COMMONEST = 0.1  # and this much more than always giving the commonest answer would get
RANDOM_GAIN = 0.1
FALL = 0.2  # of O_FT lost
SAME = 0.05  # of a probe's accuracy, or of an answer's
READS = 0.1  # more than a control, for a probe to say anything
SOME, PARTLY = 0.1, 0.8  # revived: at least some points, at most this share of the base's accuracy


def _removed(frame: pd.DataFrame, task: str, *, random: bool = False) -> pd.Series[float]:
    """Accuracy with a few neurons removed, by seed: the mean over K in ``FEW``."""
    kind = (frame["score"] == "random") == random
    some = frame["k"].between(*FEW)
    return by_seed(frame[kind & some & (frame["task"] == task)])


def _whole(frame: pd.DataFrame, task: str, value: str = "accuracy") -> pd.Series[float]:
    whole = (frame["k"] == 0) & (frame["score"] != "random")
    return by_seed(frame[whole & (frame["task"] == task)], value)


def pruning_claims(result: StudyResult) -> list[Check]:
    """Fig. 7: low prior, correlated."""
    low = result.scale.priors[0]
    table = rows_of(result.tables["pruning"], prior=low, c_tr=1.0)
    back: dict[object, bool | None] = {}
    falls: dict[object, bool | None] = {}
    words = []
    for rate, rows in table.groupby("rate", sort=False):
        whole, removed = _whole(rows, "acc_pt"), _removed(rows, "acc_pt")
        before = estimate(whole)
        if before is None or before.value > GONE:
            words.append(f"{rate}: not gone ({percent(before)})")
            continue
        gain, over = (
            paired(removed, whole),
            paired(removed, _whole(rows, "acc_pt", "commonest")),
        )
        fall = paired(_whole(rows, "acc_ft_cte1"), _removed(rows, "acc_ft_cte1"))
        random = paired(_removed(rows, "acc_pt", random=True), whole)
        back[rate] = all_of(
            [above(gain, GAIN), above(over, OVER_COMMONEST), not_(above(random, RANDOM_GAIN))]
        )
        falls[rate] = above(fall, FALL)
        words.append(
            f"{rate}: from {percent(before)} {points(gain)}, over the commonest answer {points(over)}, O_FT "
            f"{points(negative(fall))}, random neurons {points(random)}"
        )
    evidence = f"mean over K = {FEW[0]} to {FEW[1]}, points: " + "; ".join(words)
    return [
        Check(
            f"Fig. 7: with the {low} prior and C_Tr = 1, where O_PT looks gone (at most {GONE:.0%}), "
            f"removing {FEW[0]} to {FEW[1]} neurons brings back {100 * GAIN:.0f} points, to at least "
            f"{100 * OVER_COMMONEST:.0f} above the commonest answer; random ones at most "
            f"{100 * RANDOM_GAIN:.0f}",
            evidence,
            all_of(back),
        ),
        Check(
            f"Fig. 7: the same removal costs O_FT at least {100 * FALL:.0f} points",
            evidence,
            all_of(falls),
        ),
    ]


def inhibitor_claims(result: StudyResult) -> list[Check]:
    """Figs. 86-89: where b was counted before, too, fine-tuning at L uses that, and inhibits a."""
    high, rate = result.scale.priors[-1], next(iter(result.scale.rate))
    final = rows_of(result.tables["finetuning_final"], prior=high, rate=rate, c_tr=0.0)
    used = estimate(by_seed(final, evaluation="acc_ft_cte0"))
    table = rows_of(result.tables["pruning"], prior=high, rate=rate, c_tr=0.0)
    whole, removed = _whole(table, "acc_pt"), _removed(table, "acc_pt")
    base = rows_of(result.tables["pretraining"], prior=high, evaluation="C(a)")
    last = base["step"] == base.groupby("seed")["step"].transform("max")
    revived = estimate((removed / by_seed(base[last])).dropna())
    start, gain = estimate(whole), paired(removed, whole)
    told = (
        start is not None
        and start.value <= GONE
        and used is not None
        and used.value >= RIGHT
        and revived is not None
    )
    return [
        Check(
            f"Figs. 86-89: with rate {rate} and the {high} prior at C_Tr = 0 (b was counted before: strongly "
            f"relevant), removing {FEW[0]} to {FEW[1]} neurons revives O_PT only partly (at least "
            f"{100 * SOME:.0f} points, but not {PARTLY:.0%} of the base's accuracy)",
            f"O_FT {percent(used)}; O_PT from {percent(start)} {points(gain)} points, {percent(revived)} of "
            "the base's"
            + ("" if told else "; O_PT is not gone or O_FT not learned: nothing to tell"),
            all_of([above(gain, SOME), not_(above(revived, PARTLY))]) if told else None,
        )
    ]


def _probes(table: pd.DataFrame) -> pd.DataFrame:
    """The probes themselves, without their control tasks."""
    return table[table["control"] == "none"] if "control" in table else table


def probing_claims(result: StudyResult) -> list[Check]:
    """Fig. 8: the count of a stays readable as in the base, except low prior with M."""
    scale, table = result.scale, _probes(result.tables["probing"])
    low = scale.priors[0]

    def read(block: object, **labels: Any) -> pd.Series[float]:
        return by_seed(table, block=block, **labels)

    telling: dict[object, bool | None] = {}
    shown = []
    blocks = sorted(set(table["block"]))
    for block in blocks:
        base = read(block, prior=low, stage="base")
        controls = [read(block, prior=name, stage="base") for name in ("never_a", "untrained")]
        telling[block] = all_of([above(paired(base, control), READS) for control in controls])
        shown.append(
            f"block {block}: base {percent(estimate(base))}, never asked {percent(estimate(controls[0]))}, "
            f"never trained {percent(estimate(controls[1]))}"
        )
    verdicts: dict[object, bool | None] = {}
    words = []
    for block in (block for block, tells in telling.items() if tells):
        for prior in scale.priors:
            base = read(block, prior=prior, stage="base")
            for rate in scale.probed_rates:
                tuned = read(block, prior=prior, stage="fine-tuned", rate=rate, c_tr=1.0)
                fallen = paired(base, tuned)
                lost = above(fallen, SAME)
                verdicts[block, prior, rate] = lost if (prior, rate) == (low, "M") else not_(lost)
                words.append(f"block {block}, {prior}, {rate}: {points(negative(fallen))}")
    return [
        Check(
            "What the reading of Fig. 8 rests on (not the paper's): at some block the base's count of a is "
            f"read at least {100 * READS:.0f} points better than that of a model never asked for a and of "
            "one never trained",
            "; ".join(shown),
            True if any(telling.values()) else all_of(telling),
        ),
        Check(
            "Fig. 8: at every such block the count of a is read as well as in the base (within "
            f"{100 * SAME:.0f} points; C_Tr = 1), except with the {low} prior and M, where it is not",
            "change, points: " + "; ".join(words) if words else "there is no such block",
            all_of(verdicts),
        ),
    ]


def jailbreak_claims(result: StudyResult) -> list[Check]:
    """Figs. 24-25: tokens that fine-tuning did not touch."""
    high = result.scale.priors[-1]
    answers = rows_of(result.tables["jailbreak"], prior=high)
    base, tuned = rows_of(answers, stage="base"), rows_of(answers, stage="fine-tuned")
    probes = rows_of(_probes(result.tables["jailbreak_probing"]), prior=high, token="C")
    before = rows_of(probes, stage="base")
    block = _middle_block(before)
    still: dict[object, bool | None] = {}
    kept: dict[object, bool | None] = {}
    words, probe_words = [], []
    for (rate, c_tr), rows in tuned.groupby(["rate", "c_tr"], sort=False):
        here = f"{rate}, C_Tr = {c_tr:g}"
        asked = estimate(by_seed(rows, token="C"))
        words.append(f"{here}: C {percent(asked)}")
        if asked is None or asked.value > GONE:
            words[-1] += ", not gone"
            continue
        for token in (t for t in dict.fromkeys(rows["token"]) if t != "C"):
            loss = paired(by_seed(base, token=token), by_seed(rows, token=token))
            still[rate, c_tr, token] = not_(above(loss, SAME))
            words[-1] += f", {token} {percent(estimate(by_seed(rows, token=token)))}"
        if block is not None:
            after = rows_of(probes, stage="fine-tuned", rate=rate, c_tr=c_tr)
            loss = paired(by_seed(before, block=block), by_seed(after, block=block))
            kept[rate, c_tr] = not_(above(loss, SAME))
            probe_words.append(f"{here}: {points(negative(loss))}")
    return [
        Check(
            f"Fig. 24: with the {high} prior, where a is no longer counted when asked for by C (at most "
            f"{GONE:.0%}), it still is as in the base (within {100 * SAME:.0f} points) when asked for by "
            "tokens that fine-tuning on (C, b) did not touch",
            "; ".join(words),
            all_of(still),
        ),
        Check(
            "Fig. 25: even then, and asked by C, the block before the last at which the base's count of a is "
            f"read best still has it (within {100 * SAME:.0f} points of the base)",
            f"block {block}, change in points: " + "; ".join(probe_words)
            if block is not None
            else "no block before the last reads it better than the commonest count",
            all_of(kept),
        ),
    ]


def _middle_block(base: pd.DataFrame) -> object:
    """The block before the last where the base's probe beats the commonest answer most."""
    means = base.groupby("block")[["accuracy", "majority"]].mean()
    gain = (means["accuracy"] - means["majority"]).iloc[:-1]
    if not len(gain) or gain.max() < READS:
        return None
    return gain.idxmax()
