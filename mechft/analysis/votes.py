"""What one tool's evidence says about a lost capability, by a rule that is written down.

Each function takes what a technique returned and gives a ``Vote``. Tools that take nothing from the base
model but the question (probe, pruning, revival, untaught) weigh 1. Tools that put something of the base back
(patching, interpolation) can bring a capability back because they brought it along; they show that what
changed is thin, not that the capability is still there, and weigh 1/2. A vote is cast where the whole
interval lies on one side of its threshold; otherwise the tool abstains.

The intervals are 95% over rows. They take the base's accuracy and the floor, which are measured too, as
exact, which makes them somewhat short. Revival's says between which evaluations the threshold was passed,
or with three runs or more it is over runs; of one run nothing says how another would come out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from mechft.errors import require, unknown_name
from mechft.statistics import Estimate

if TYPE_CHECKING:
    import pandas as pd

    from mechft.analysis.patching import Patching
    from mechft.analysis.pruning import PruneCurve
    from mechft.analysis.revival import Revival
    from mechft.analysis.untaught import UntaughtReturn

Finding = Literal["wrapped", "damaged", "no vote"]

PROBE_WRAPPED, PROBE_DAMAGED = 0.7, 0.5
PROBE_LEAST_GAIN = 0.15
PROBE_LEAST_ROWS = 10  # to fit on, for each dimension read
PROBE_DOUBLINGS = 3  # of the rows, that may raise the floor as the last one did
PRUNING_WRAPPED = 0.2
REVIVAL_WRAPPED, REVIVAL_DAMAGED = 2.0, 1.25
UNTAUGHT_WRAPPED = 0.2
PATCHING_WRAPPED = 0.8
UNDONE_WRAPPED, UNDONE_DAMAGED = 0.5, 0.8


@dataclass(frozen=True)
class Vote:
    """What one tool says.

    Attributes:
        tool: "probe", "pruning", "revival", "untaught", "patching" or "interpolation".
        finding: "wrapped", "damaged" or "no vote".
        weight: 1, or 1/2 for a tool that puts something of the base back.
        value, low, high: The number it goes by, with its 95% interval (NaN where there is none).
        meaning: What the number is.
        rule: When the tool votes what.
        detail: What was found, in words.
    """

    tool: str
    finding: Finding
    weight: float
    value: float
    low: float
    high: float
    meaning: str
    rule: str
    detail: str


def side(low: float, high: float, wrapped: float, damaged: float | None) -> Finding:
    """On which side of the thresholds an interval lies whole; larger speaks for wrapped."""
    if low >= wrapped:
        return "wrapped"
    return "damaged" if damaged is not None and high <= damaged else "no vote"


def vote_of_probe(
    frame: pd.DataFrame,
    base: str,
    finetuned: str,
    never_had: Sequence[str] = (),
    *,
    fit_rows: int,
    width: int,
    refit: Callable[[str], pd.DataFrame],
) -> Vote:
    """Is the answer still as readable as in the base, above what needs no capability?

    Where attention is bidirectional every position of the untrained twin holds the bag of letters, from which
    a probe reads much of an answer: the floor is high, little is left above it, and the vote is none or leans
    to "damaged".

    On few rows a model without the capability is read badly for want of rows alone, and what the base has
    above it is no evidence. Two rules keep such a floor from counting. There is no vote on fewer than 10 rows
    for each dimension read: up to about one for each a probe fits any labels, and more rows may not even
    help. And there is none if the base would come too near the floor were each of three more doublings of
    the rows to raise it as much as the last did. Measured with seed 0 after the last block, where the base is
    read at 98% or more throughout: the floor of "pcfg-tiny-low" (128 dimensions) is 71% on 100 rows, 85% on
    400, 98% on 1,000 and 99% on 2,000; that of "tracr-max" (82) is 33% on 410, 63% on 820, 83% on 1,640.

    Args:
        frame: Of ``probe`` for one target, with these models in it; rows of its "random_model" control
            count as one that never had the capability.
        base, finetuned: The names of the two.
        never_had: The names of models without the capability: untrained, or trained on all but it.
        fit_rows: Rows the probes were fitted on.
        width: Dimensions they read.
        refit: The same frame of one hook, fitted on half as many rows; asked for if the vote hangs on it.
    """
    own = frame[frame["control"] == "none"].set_index(["model", "hook"])
    floors = {hook: _floor(frame, hook, base, never_had) for hook in own.loc[base].index}
    gains = {hook: float(own.loc[(base, hook), "accuracy"]) - floors[hook] for hook in floors}
    hook = max(gains, key=lambda name: gains[name])
    floor, gain, row = floors[hook], gains[hook], own.loc[(finetuned, hook)]
    rule = (
        f"share kept: wrapped from {PROBE_WRAPPED:.0%}, damaged up to {PROBE_DAMAGED:.0%}; no vote where "
        f"the base itself is less than {PROBE_LEAST_GAIN:.0%} above the floor, or would be if "
        f"{PROBE_DOUBLINGS} more doublings of the rows each raised the floor as the last did, nor on fewer "
        f"than {PROBE_LEAST_ROWS} rows for each dimension"
    )
    meaning = "probe accuracy above the floor, as a share of the base's"
    untrained = ["untrained model"] if (frame["control"] == "random_model").any() else []
    detail = (
        f"{hook}: base {own.loc[(base, hook), 'accuracy']:.1%}, fine-tuned {row['accuracy']:.1%}, floor "
        f"{floor:.1%} (best of {', '.join(['commonest answer', *untrained, *never_had])})"
    )
    least = PROBE_LEAST_ROWS * width
    counts = gain >= PROBE_LEAST_GAIN
    if fit_rows < least:
        detail += (
            f"; fitted on {fit_rows} rows, the floor may be low for want of rows: it counts from {least} on "
            f"({PROBE_LEAST_ROWS} for each of {width} dimensions)"
        )
        counts = False
    elif counts:
        before = _floor(refit(hook), hook, base, never_had)
        if gain - PROBE_DOUBLINGS * (floor - before) < PROBE_LEAST_GAIN:
            detail += (
                f"; on half of the {fit_rows} rows the floor is {before:.1%}: it rises still, and may be low "
                "for want of rows; fit on more"
            )
            counts = False
    if not counts:
        nan = float("nan")
        return Vote("probe", "no vote", 1, nan, nan, nan, meaning, rule, detail)
    value, low, high = ((float(row[c]) - floor) / gain for c in ("accuracy", "ci_low", "ci_high"))
    finding = side(low, high, PROBE_WRAPPED, PROBE_DAMAGED)
    return Vote("probe", finding, 1, value, low, high, meaning, rule, detail)


def _floor(frame: pd.DataFrame, hook: str, base: str, never_had: Sequence[str]) -> float:
    """The best that is read at a hook without the capability."""
    here = frame[frame["hook"] == hook]
    own = here[here["control"] == "none"].set_index("model")
    untrained = here.loc[here["control"] == "random_model", "accuracy"]
    levels = [own.loc[base, "majority"], *untrained, *(own.loc[n, "accuracy"] for n in never_had)]
    return max(float(level) for level in levels)


def vote_of_pruning(
    curve: PruneCurve, task: str, base_accuracy: float, at_most: int, model: str | None = None
) -> Vote:
    """Do a few units removed bring it back? If not, that says nothing: no vote for damaged.

    Args:
        curve: Of ``prune_curve`` on the fine-tuned model, with K = 0.
        task: The task of the capability in it.
        base_accuracy: The base's on the same task.
        at_most: Largest K.
        model: Which model's, where the curve has several.
    """
    best = curve.best(task, at_most)
    best = best[best["model"] == (model or best["model"].iloc[0])].set_index("score")
    names = [str(name) for name in best.index if name != "random"]
    require(len(names) == 1, f"The vote goes by one score; the curve has {', '.join(names)}.")
    scored = names[0]
    row, random = best.loc[scored], best.loc["random"]
    before, lost = float(row["untouched"]), base_accuracy - float(row["untouched"])
    require(
        lost > 0,
        f"Pruning votes on accuracy that was lost, measured with K = 0 too; the base has "
        f"{base_accuracy:.1%}, the fine-tuned model {before:.1%}.",
    )
    value, low, high = ((float(row[c]) - before) / lost for c in ("accuracy", "ci_low", "ci_high"))
    chance = (float(random["ci_high"]) - before) / lost
    commonest = float(row["commonest"])  # NaN, and then not asked for, in curves made elsewhere
    above = not float(row["ci_low"]) <= commonest
    back = above and low >= max(PRUNING_WRAPPED, 2 * chance)
    finding: Finding = "wrapped" if back else "no vote"
    return Vote(
        "pruning",
        finding,
        1,
        value,
        low,
        high,
        "share of the lost accuracy that returns with a few units removed",
        f"wrapped from {PRUNING_WRAPPED:.0%}, twice what random removal returns, and more answers right than "
        "one answer to everything; never damaged",
        f"{int(row['k'])} units removed: {before:.1%} to {row['accuracy']:.1%} (n={int(row['n'])}, K "
        f"chosen on other rows); as many at random at best {random['ci_high']:.1%}, always the commonest "
        f"answer {commonest:.1%}",
    )


def vote_of_revival(revival: Revival, finetuned: str, control: str, threshold: float) -> Vote:
    """Does it come back faster than a model that never had it learns it?"""
    table = revival.summary(threshold, control).set_index("model")
    row = table.loc[finetuned]
    value, bound = float(row["ratio"]), str(row["bound"])
    low, high = float(row["ratio_low"]), float(row["ratio_high"])
    finding: Finding = "no vote"
    if bound in ("=", ">=") and low >= REVIVAL_WRAPPED:
        finding = "wrapped"
    elif bound in ("=", "<=") and high <= REVIVAL_DAMAGED:
        finding = "damaged"
    steps = {name: table.loc[name, "steps"] for name in (finetuned, control)}
    told = {name: "not reached" if s != s else f"{int(s)} steps" for name, s in steps.items()}
    return Vote(
        "revival",
        finding,
        1,
        value,
        low,
        high,
        "steps the control needs over steps the fine-tuned model needs",
        f"wrapped from {REVIVAL_WRAPPED:g} times, damaged up to {REVIVAL_DAMAGED:g}",
        f"to {threshold:.0%}: {told[finetuned]}, control {told[control]}; ratio {bound} {value:.2g}, "
        f"{int(row['runs'])} run(s), interval {row['interval']}",
    )


def vote_of_untaught(
    found: UntaughtReturn, base_accuracy: float, finetuned: str, control: str | None = None
) -> Vote:
    """Does it come back from training that says nothing about it? If not, that shows nothing: never damaged.

    Args:
        found: Of ``untaught_return``.
        base_accuracy: The base's on the same rows.
        finetuned: The fine-tuned model's name in it.
        control: The name of one that never had the capability, if there is one in it.
    """
    best = found.best().set_index("model")
    row = best.loc[finetuned]
    floors = {"commonest answer": float(row["commonest"]), "before": float(row["untouched"])}
    if control is not None:
        floors[control] = float(best.loc[control, "accuracy"])
    floor = max(floors.values())
    least = base_accuracy - floor
    told = ", ".join(f"{name} {value:.1%}" for name, value in floors.items())
    nan = float("nan")
    value = low = high = nan
    finding: Finding = "no vote"
    if least > 0:
        value, low, high = (
            (float(row[c]) - floor) / least for c in ("accuracy", "ci_low", "ci_high")
        )
        finding = "wrapped" if low >= UNTAUGHT_WRAPPED else "no vote"
    return Vote(
        "untaught",
        finding,
        1,
        value,
        low,
        high,
        "share of what was lost, above the floor, that shuffled answers return",
        f"wrapped from {UNTAUGHT_WRAPPED:.0%}; never damaged",
        f"{int(row['step'])} steps on shuffled answers: {row['accuracy']:.1%} (n={int(row['n'])}, the step "
        f"chosen on other rows); floors: {told}",
    )


def vote_of_patching(patching: Patching, task: str) -> Vote:
    """Does the base's activation at one component of one block bring it back?"""
    known = set(patching.frame["component"])
    parts = [c for c in ("attn_out", "mlp_out", "head") if c in known]
    require(bool(parts), "The vote of patching needs attention or MLP outputs patched; got none.")
    best = patching.best(task, components=parts)
    nan = float("nan")
    value, low, high = (
        (best["recovered"], best["recovered_low"], best["recovered_high"])
        if best
        else (nan, nan, nan)
    )
    finding: Finding = "wrapped" if low >= PATCHING_WRAPPED else "no vote"
    return Vote(
        "patching",
        finding,
        0.5,
        value,
        low,
        high,
        "share of the gap that one component's activation of the base recovers",
        f"wrapped from {PATCHING_WRAPPED:.0%}; never damaged",
        f"{best['site']}: {value:.0%} of the gap [{low:.0%}, {high:.0%}], chosen on other rows "
        f"(n={best['n']})"
        if best
        else "the models score alike",
    )


def vote_of_interpolation(
    frame: pd.DataFrame, task: str, base_accuracy: float, finetuned_accuracy: float
) -> Vote:
    """How much of the change must be undone before half of what was lost is back?

    Args:
        frame: Of ``interpolate``, with metric "accuracy".
        task: The task of the capability in it.
        base_accuracy, finetuned_accuracy: At the two ends.
    """
    line = frame[(frame["task"] == task) & (frame["metric"] == "accuracy")]
    if line.empty:
        raise unknown_name("task", task, frame["task"].unique())
    require(
        base_accuracy > finetuned_accuracy,
        f"Interpolation votes on accuracy that was lost; the base has {base_accuracy:.1%}, the fine-tuned "
        f"model {finetuned_accuracy:.1%}.",
    )
    line = line[line["alpha"].between(0, 1)].sort_values("alpha", ascending=False)
    half = (base_accuracy + finetuned_accuracy) / 2

    def undone(column: str) -> float:
        """The first alpha from 1 down at which accuracy passes half way, between points linearly."""
        alphas = torch.tensor(line["alpha"].values)
        values = torch.tensor(line[column].values)
        above = (values >= half).nonzero()
        if len(above) == 0:
            return 1.0
        at = int(above[0])
        if at == 0:
            return 1 - float(alphas[0])
        share = (half - float(values[at - 1])) / float(values[at] - values[at - 1])
        return 1 - float(alphas[at - 1] + share * (alphas[at] - alphas[at - 1]))

    found = Estimate(undone("value"), int(line["n"].iloc[0]), undone("ci_high"), undone("ci_low"))
    finding: Finding = "no vote"
    if found.high <= UNDONE_WRAPPED:
        finding = "wrapped"
    elif found.low >= UNDONE_DAMAGED:
        finding = "damaged"
    return Vote(
        "interpolation",
        finding,
        0.5,
        found.value,
        found.low,
        found.high,
        "share of the weight change undone before half of the lost accuracy is back",
        f"wrapped up to {UNDONE_WRAPPED:.0%}, damaged from {UNDONE_DAMAGED:.0%}",
        f"half way ({half:.1%}) is passed {found.value:.0%} of the way back to the base",
    )
