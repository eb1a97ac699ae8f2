"""The paper's claims about deleted story features, put to the numbers (Fig. 11, Table 1, Figs. 31-38).

The rules were fixed before any full run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mechft.experiments.checks import Check
from mechft.experiments.stories.config import DELETIONS
from mechft.experiments.stories.result import StoriesResult

if TYPE_CHECKING:
    import pandas as pd

JUDGES = 0.92  # the classifier's accuracy on stories held out; the paper's is 92%
WRITES = 0.2  # more stories with the feature when asked than when not, for a model to have it
HARMED = 0.1  # of the share of stories, lost by deletion
BACK = 0.9  # of the base's share of stories
SAME = 0.05  # of a probe's accuracy
READS = 0.1  # more than the commonest answer


def story_checks(result: StoriesResult) -> tuple[Check, ...]:
    """All claims; none is judged of a quick run, nor if the base does not write the feature when asked."""
    if result.config.quick:
        return (
            Check(
                "A quick run shows that everything runs, and judges no claim",
                f"{len(result.tables)} tables",
                None,
            ),
        )
    rest_on = _rest_on(result)
    if not all(check.holds for check in rest_on):
        return (*rest_on, Check("Nothing else is judged: see what it rests on", "", None))
    return (*rest_on, *_deletion(result), *_return(result), *_probes(result))


def by(result: StoriesResult) -> str:
    """Whose verdicts claims rest on: the rule's, where what is true is known, else the classifier's."""
    return "rule" if result.config.source == "procedural" else "classifier"


def share(frame: pd.DataFrame, **labels: Any) -> tuple[float, float, float]:
    """The share of stories that have the feature over all rows with these labels, with Wilson's interval."""
    from mechft.statistics import proportion

    for name, value in labels.items():
        frame = frame[frame[name].fillna("") == value]
    found = proportion(int(frame["has"].sum()), int(frame["n"].sum()))
    return found.value, found.low, found.high


def words(found: tuple[float, float, float]) -> str:
    """A share in words: "44.0% [38.1%, 50.1%]"."""
    value, low, high = found
    return f"{value:.1%} [{low:.1%}, {high:.1%}]"


def _rest_on(result: StoriesResult) -> list[Check]:
    judged = result.tables["classifier"]
    even = judged[judged["has"] == "both, half of each"].iloc[0]
    writing, judge = result.tables["writing"], by(result)
    asked, unasked = (
        share(writing, model="base", by=judge, asked=asked) for asked in (True, False)
    )
    never = share(writing, model="never", by=judge, asked=True)
    return [
        Check(
            f"What it rests on: the classifier is right about stories held out (at least {JUDGES:.0%} of as "
            "many with the feature as without)",
            f"{even['accuracy']:.1%} [{even['ci_low']:.1%}, {even['ci_high']:.1%}] of {even['n']:.0f}",
            bool(even["accuracy"] >= JUDGES) if judge == "classifier" else True,
        ),
        Check(
            f"What it rests on: the base writes {result.config.feature} when asked (at least "
            f"{100 * WRITES:.0f} points more often than when not, and than a model that never saw one)",
            f"by the {judge}: asked {words(asked)}, not asked {words(unasked)}, never saw one {words(never)}",
            min(asked[0] - unasked[0], asked[0] - never[0]) >= WRITES,
        ),
    ]


def _deletion(result: StoriesResult) -> list[Check]:
    writing, judge = result.tables["writing"], by(result)
    base = share(writing, model="base", by=judge, asked=True)
    verdicts, told = [], [f"base {words(base)}"]
    found = {}
    for protocol in DELETIONS:
        for rate, _ in result.scale.rates:
            after = share(
                writing, model="deleted", protocol=protocol, rate=rate, by=judge, asked=True
            )
            found[protocol, rate] = after
            told.append(f"{protocol}, {rate}: {words(after)}")
            verdicts.append(_below(after, base[0] - HARMED))
    first = result.scale.rates[0][0]
    gaps = [
        _below(found[protocol, first], found["F", first][0])
        for protocol in DELETIONS
        if protocol != "F"
    ]
    return [
        Check(
            f"Table 1: every protocol costs the base at least {100 * HARMED:.0f} points of the stories with "
            "the feature that it writes when asked, at every rate",
            "; ".join(told),
            _all(verdicts),
        ),
        Check(
            f"Table 1: at rate {first}, protocols that give the instruction another meaning delete more than "
            "filtering",
            "; ".join(told[1:]),
            _all(gaps),
        ),
    ]


def _return(result: StoriesResult) -> list[Check]:
    table, judge = result.tables["reversal_writing"], by(result)
    base = share(result.tables["writing"], model="base", by=judge, asked=True)
    moments = result.scale.moments
    first = next(moment for moment in moments if moment)
    last = moments[-1]

    def at(step: int, **labels: Any) -> tuple[float, float, float]:
        return share(table, step=step, by=judge, asked=True, **labels)

    control, ended = at(first, model="never"), at(last, model="never")
    sooner, back, told = [], [], [f"never saw one: {words(control)}, then {words(ended)}"]
    for protocol in DELETIONS:
        for rate, _ in result.scale.rates:
            labels = {"model": "deleted", "protocol": protocol, "rate": rate}
            early, late = at(first, **labels), at(last, **labels)
            told.append(f"{protocol}, {rate}: {words(early)}, then {words(late)}")
            sooner.append(_above(early, control))
            back.append(_at_least(late, BACK * base[0]))
    return [
        Check(
            f"Table 1: {first} steps bring the feature back to deleted models more than to one that never "
            "had it",
            "; ".join(told),
            _all(sooner),
        ),
        Check(
            f"Table 1: after {last} steps deleted models write it at least {BACK:.0%} as often as the base "
            f"({words(base)})",
            "; ".join(told),
            _all(back),
        ),
    ]


def _probes(result: StoriesResult) -> list[Check]:
    table = result.tables["probes"]
    feature = result.config.feature
    own = table[(table["control"] == "none") & (table["target"] == feature)]
    base = own[own["model"] == "base"].groupby("block")[["accuracy", "majority"]].mean()
    block = (base["accuracy"] - base["majority"]).idxmax()
    gain = float((base["accuracy"] - base["majority"]).loc[block])
    claim = (
        f"Figs. 31-38: where the base's {feature} is read best, it is read as well after every deletion "
        f"(within {100 * SAME:.0f} points)"
    )
    if gain < READS:
        told = f"no block reads it {100 * READS:.0f} points better than always saying the commonest would"
        return [Check(claim, f"{told}; the best by {100 * gain:.1f}", None)]
    here = own[own["block"] == block]
    before = float(here[here["model"] == "base"]["accuracy"].mean())
    verdicts, told_each = [], []
    for (protocol, rate), rows in here[here["model"] == "deleted"].groupby(["protocol", "rate"]):
        after = float(rows["accuracy"].mean())
        told_each.append(f"{protocol}, {rate}: {100 * (after - before):+.1f}")
        verdicts.append(before - after <= SAME)
    return [
        Check(
            claim,
            f"block {block}, base {before:.1%}; change in points: " + "; ".join(told_each),
            _all(verdicts),
        )
    ]


def _below(found: tuple[float, float, float], threshold: float) -> bool | None:
    value, low, high = found
    return None if low <= threshold <= high else value < threshold


def _at_least(found: tuple[float, float, float], threshold: float) -> bool | None:
    value, low, high = found
    return None if low < threshold <= high else value >= threshold


def _above(one: tuple[float, float, float], other: tuple[float, float, float]) -> bool | None:
    if one[1] > other[2]:
        return True
    return False if one[2] < other[1] else None


def _all(verdicts: Sequence[bool | None]) -> bool | None:
    if any(verdict is False for verdict in verdicts):
        return False
    return None if not verdicts or None in verdicts else True
