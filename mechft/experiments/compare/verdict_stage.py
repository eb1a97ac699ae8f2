"""The last stage: what the others say together about the base's answers."""

from __future__ import annotations

from collections.abc import Mapping

from mechft.analysis import votes
from mechft.analysis.diagnosis import Diagnosis, conclude, settled
from mechft.analysis.interpolation import Interpolation
from mechft.analysis.patching import Patching
from mechft.analysis.pruning import PruneCurve
from mechft.analysis.result import Result
from mechft.analysis.revival import Revival
from mechft.analysis.untaught import UntaughtReturn
from mechft.experiments.compare.causal_stages import BASES
from mechft.experiments.compare.findings import Finding
from mechft.experiments.compare.outcome import ASKS_ANSWERS, Outcome
from mechft.experiments.compare.pair import FINETUNED, Pair
from mechft.experiments.compare.training_stages import BACK, NEVER
from mechft.statistics import proportion


def verdict(pair: Pair, found: Mapping[str, Result]) -> Outcome | str:
    """The votes of the stages before it on the base's answers, and what follows from them."""
    if pair.kind != "answers":
        return ASKS_ANSWERS
    asked = pair.asked
    n = len(asked.rows)
    agreed = proportion(len(asked.agreeing()), n)
    commonest = max(asked.base.count(answer) for answer in set(asked.base)) / n
    result = settled(proportion(n, n), agreed, commonest)
    if result is None:
        cast = _votes(pair, found)
        if not cast:
            return (
                "It goes by pruning, revival, untaught, patching and interpolation, and none of these gave a "
                "vote."
            )
        result = conclude(cast, proportion(n, n), agreed, commonest)
    note = "Of the base's answers, whether right or wrong: the base gives 100% of them."
    return Outcome(result, (_verdict_finding(result, pair),), n, note)


def _votes(pair: Pair, found: Mapping[str, Result]) -> list[votes.Vote]:
    cast = []
    if isinstance(curve := found.get("pruning"), PruneCurve):
        cast.append(votes.vote_of_pruning(curve, BASES, 1.0, int(curve.frame["k"].max())))
    if isinstance(back := found.get("revival"), Revival) and pair.never is not None:
        cast.append(votes.vote_of_revival(back, FINETUNED, NEVER, BACK))
    if isinstance(returned := found.get("untaught"), UntaughtReturn):
        control = NEVER if pair.never is not None else None
        cast.append(votes.vote_of_untaught(returned, 1.0, FINETUNED, control))
    if isinstance(patched := found.get("patching"), Patching):
        cast.append(votes.vote_of_patching(patched, BASES))
    if isinstance(line := found.get("interpolation"), Interpolation):
        frame = line.frame[(line.frame["task"] == BASES) & (line.frame["metric"] == "accuracy")]
        ends = frame.set_index("alpha")["value"]
        if ends[0.0] > ends[1.0]:
            cast.append(votes.vote_of_interpolation(line.frame, BASES, ends[0.0], ends[1.0]))
    return cast


def _verdict_finding(result: Diagnosis, pair: Pair) -> Finding:
    text = f"The base's answers are {result.verdict}: {result.reason}."
    if result.verdict == "undecided":
        text = f"What became of the base's answers is undecided: {result.reason}."
    for finding, tools in result.frame.groupby("finding", sort=False)["tool"]:
        text += f" {str(finding).capitalize()}: {', '.join(tools)}."
    caution = "The rule, with its thresholds, is a convention (mechft.analysis.diagnosis)."
    if len(result.frame) and pair.never is None:
        caution += (
            " Training back votes beside a model that never had these answers (control); without one hardly "
            "anything can vote for damaged."
        )
    return Finding("verdict", text, caution)
