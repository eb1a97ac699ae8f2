"""Claims about reverse fine-tuning (PAPER.md 5 and 9: Figs. 9, 28-30)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from mechft.experiments.checks import Check
from mechft.experiments.pcfg.claims.evidence import all_of, rows_of
from mechft.experiments.pcfg.result import StudyResult
from mechft.statistics import Estimate, t_estimate
from mechft.training.trained import steps_to

if TYPE_CHECKING:
    import pandas as pd

BACK = 0.95
FASTER = 2.0
AS_FAST = 2.0


def steps_to_revival(frame: pd.DataFrame) -> pd.DataFrame:
    """For each reversal the first evaluated step from which O_PT stays at 95%.

    Returns:
        prior, rate, c_tr, kind, reverse_rate, seed, steps (NaN if it ended below), last (its steps), and
        accuracy at the end.
    """
    import pandas as pd

    labels = ["prior", "rate", "c_tr", "kind", "reverse_rate", "seed"]
    watched = frame[frame["evaluation"].isin(["acc_pt_cte0", "acc_pt_plain"])]
    watched = watched.assign(rate=watched["rate"].fillna(""))
    rows = []
    for key, run in watched.groupby(labels, sort=False, dropna=False):
        run = run.sort_values("step")
        reached = steps_to(run["step"].tolist(), run["accuracy"].tolist(), BACK)
        rows.append(
            {
                **dict(zip(labels, key, strict=True)),
                "steps": math.nan if reached is None else float(reached),
                "last": int(run["step"].max()),
                "accuracy": float(run["accuracy"].iloc[-1]),
            }
        )
    return pd.DataFrame(rows)


def _ratio(slow: pd.DataFrame, fast: pd.DataFrame) -> tuple[Estimate | None, str, bool]:
    """Steps of one over steps of the other, the geometric mean over seeds, in words.

    A run that did not get there counts with all its steps: where that is the slow one the ratio is at
    least what is given.

    Returns:
        The logarithm's estimate, words, and whether any fast run missed the mark.
    """
    one, other = (frame.set_index("seed") for frame in (slow, fast))
    seeds = [seed for seed in one.index if seed in other.index]
    if not seeds:
        return None, "not run", False
    steps = [
        [
            float(f["last"].loc[s] if math.isnan(f["steps"].loc[s]) else f["steps"].loc[s])
            for s in seeds
        ]
        for f in (one, other)
    ]
    logs = [math.log(max(a, 1.0) / max(b, 1.0)) for a, b in zip(*steps, strict=True)]
    found = t_estimate(torch.tensor(logs))
    bound = "≥ " if bool(one["steps"].loc[seeds].isna().any()) else ""
    words = f"{bound}{math.exp(found.value):.1f}×"
    if found.n > 1:
        words += f" [{math.exp(found.low):.1f}, {math.exp(found.high):.1f}]"
    return found, words, bool(other["steps"].loc[seeds].isna().any())


def _at_least(ratio: Estimate | None, missed: bool, threshold: float) -> bool | None:
    if ratio is None:
        return None
    if missed:
        return False
    if ratio.n > 1 and ratio.low < math.log(threshold) < ratio.high:
        return None
    return ratio.value >= math.log(threshold)


def reversal_claims(result: StudyResult) -> list[Check]:
    """Fig. 9."""
    found = steps_to_revival(result.tables["reversal"])
    reft = rows_of(found, kind="reFT", c_tr=1.0)
    control = rows_of(found, kind="Scr.+FT")
    faster, words = {}, []
    for (prior, rate, back), runs in reft.groupby(["prior", "rate", "reverse_rate"], sort=False):
        ratio, text, missed = _ratio(rows_of(control, reverse_rate=back), runs)
        faster[prior, rate, back] = _at_least(ratio, missed, FASTER)
        words.append(f"{prior}, {rate} then {back}: {_median(runs)} steps, {text}")
    order, order_words = {}, []
    low, high = result.scale.priors[0], result.scale.priors[-1]
    for (rate, back), runs in reft.groupby(["rate", "reverse_rate"], sort=False):
        ratio, text, missed = _ratio(rows_of(runs, prior=low), rows_of(runs, prior=high))
        order[rate, back] = _at_least(ratio, missed, 1.0)
        order_words.append(f"{rate} then {back}: {text}")
    only, only_words = [], []
    for place, back in enumerate(result.scale.reverse_rates):
        runs = rows_of(control, reverse_rate=back)
        reached = int(runs["steps"].notna().sum())
        only.append(reached == len(runs) if place == 0 else reached == 0)
        only_words.append(f"{back}: {reached} of {len(runs)} (median {_median(runs)} steps)")
    return [
        Check(
            f"Fig. 9: after C_Tr = 1 reFT is back at {BACK:.0%} in at most half the steps of Scr.+FT at the "
            "same rate, with every prior",
            "; ".join(words),
            all_of(faster),
        ),
        Check(
            f"Fig. 9: with the {high} prior it takes no more steps than with the {low} one",
            f"{low} over {high}: " + "; ".join(order_words),
            all_of(order),
        ),
        Check(
            f"Fig. 9: Scr.+FT gets there only with {result.scale.reverse_rates[0]}",
            "back: " + "; ".join(only_words),
            all_of(list(only)) if len(control) else None,
        ),
    ]


def _median(runs: pd.DataFrame) -> str:
    steps = runs["steps"].fillna(math.inf)
    middle = float(steps.median())
    return f"over {int(runs['last'].max())}" if math.isinf(middle) else f"{middle:.0f}"


def randft_claims(result: StudyResult) -> list[Check]:
    """Figs. 28-30: models taught wrong answers come back as fast as others."""
    found = steps_to_revival(result.tables["reversal"])
    wrong, plain = rows_of(found, kind="randFT"), rows_of(found, kind="reFT", c_tr=1.0)
    verdicts, words = {}, []
    for (prior, rate, back), runs in wrong.groupby(["prior", "rate", "reverse_rate"], sort=False):
        same = rows_of(plain, prior=prior, rate=rate, reverse_rate=back)
        ratio, text, _ = _ratio(runs, same)
        if ratio is None:
            continue
        missed = bool(runs["steps"].isna().any())
        slower = None
        if ratio.n == 1 or not ratio.low < math.log(AS_FAST) < ratio.high:
            slower = ratio.value > math.log(AS_FAST)
        verdicts[prior, rate, back] = False if missed else (None if slower is None else not slower)
        words.append(f"{prior}, {rate} then {back}: {_median(runs)} steps, {text}")
    return [
        Check(
            f"Figs. 28-30: after randFT reFT takes at most {AS_FAST:g} times the steps that it takes after "
            "fine-tuning with C_Tr = 1",
            "; ".join(words),
            all_of(verdicts),
        )
    ]
