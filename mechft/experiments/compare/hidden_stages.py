"""Stages that ask whether the base's answers are still there: neurons removed, some training, the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mechft.analysis import votes
from mechft.analysis.diagnosis import Diagnosis, conclude, settled
from mechft.analysis.interpolation import Interpolation
from mechft.analysis.patching import Patching
from mechft.analysis.pruning import PruneCurve, prune_curve
from mechft.analysis.result import Result
from mechft.analysis.revival import Revival
from mechft.analysis.revival import revival as revival_of
from mechft.analysis.untaught import UntaughtReturn, untaught_return
from mechft.experiments.compare.causal_stages import BASES
from mechft.experiments.compare.findings import Finding, counted, percent
from mechft.experiments.compare.outcome import (
    ASKS_ANSWERS,
    LEAST_ROWS,
    Outcome,
    row_of,
    shown,
    too_few,
)
from mechft.experiments.compare.pair import FINETUNED, Pair
from mechft.experiments.compare.rows import Rows
from mechft.models.hook_points import ModelLike
from mechft.statistics import proportion
from mechft.training.rows import MOMENTS, finetune_rows

AGREED = "answers on which they agree"
NEVER = "never had it"
_COUNTS, _DRAWS = (0, 1, 2, 5, 10, 20), 2
_BATCH, _LEAST_STEPS, _MOST_STEPS = 16, 5, 55
_BACK, _ENOUGH = 0.9, 0.97  # shares of the base's answers: what counts as back, and what ends a run
_RATE_SHARE, _SLOWEST, _FASTEST = 0.1, 1e-6, 1e-3


def pruning(pair: Pair, found: Mapping[str, Result]) -> Outcome | str:
    """Neurons removed from the fine-tuned model, first those that stand most in the base's answers' way."""
    halves = _differing(pair, "whether a few neurons hide the base's answers")
    if isinstance(halves, str):
        return halves
    fit, test = halves
    evaluations = 1 + (len(_COUNTS) - 1) * (1 + _DRAWS)
    scored = fit.spread(pair.affordable(6))  # a backward pass costs two forwards; half of the work
    rows = test.spread(pair.affordable(4 * evaluations))
    tasks = {BASES: rows.grouped(pair.d_vocab)}
    agreed = pair.asked.agreeing().spread(len(rows))
    if len(agreed) >= LEAST_ROWS:
        tasks[AGREED] = agreed.grouped(pair.d_vocab)
    result = prune_curve(
        pair.finetuned,
        scored.grouped(pair.d_vocab),
        tasks,
        counts=_COUNTS,
        random_draws=_DRAWS,
        seed=pair.settings.seed,
        name=FINETUNED,
    )
    note = (
        f"Neurons are scored on {len(scored):,} rows that the two models answer differently; right is what "
        f"the base answers. {shown(len(rows), len(test))}"
    ).strip()
    return Outcome(result, (_pruning_finding(result),), len(rows), note)


def _pruning_finding(result: PruneCurve) -> Finding:
    best = result.best(BASES, max(_COUNTS)).set_index("score")
    row, chance = best.loc["gradient×weight"], best.loc["random"]
    units = len(result.scores[FINETUNED])
    share = percent(row["accuracy"], row["ci_low"], row["ci_high"])
    if row["k"]:
        text = (
            f"With {int(row['k'])} of {counted(units, 'neuron')} removed, {share} of the base's answers are "
            f"given where the two differ (how many was chosen on other rows); with random ones at best "
            f"{percent(chance['ci_high'])}, with the commonest answer to everything "
            f"{percent(row['commonest'])}."
        )
    else:
        text = (
            f"Removing up to {max(_COUNTS)} of {counted(units, 'neuron')} brings none of the base's answers "
            f"back where the two differ ({share} with none removed; always giving the commonest answer "
            f"gives {percent(row['commonest'])})."
        )
    if row["k"] and (result.frame["task"] == AGREED).any():
        kept = row_of(result.frame, task=AGREED, k=int(row["k"]), score="gradient×weight")
        text += f" Of the answers on which they agree {percent(kept['accuracy'])} stay."
    caution = "That no few neurons bring answers back does not show that these are gone."
    return Finding("pruning", text, caution)


def revival(pair: Pair, found: Mapping[str, Result]) -> Outcome | str:
    """The fine-tuned model trained on the base's answers for a few steps, and measured on other prompts."""
    plan = _plan(pair, "how few steps of training bring the base's answers back")
    if isinstance(plan, str):
        return plan
    runs = {
        name: finetune_rows(
            model,
            plan.train.grouped(pair.d_vocab),
            {BASES: plan.test.grouped(pair.d_vocab)},
            steps=plan.steps,
            learning_rate=plan.rate,
            batch_size=_BATCH,
            stop_at=(BASES, _ENOUGH),
            seed=pair.settings.seed,
        ).history
        for name, model in _pupils(pair).items()
    }
    result = revival_of(runs, evaluation=BASES)
    finding = _revival_finding(result, len(plan.train))
    return Outcome(result, (finding,), len(plan.test), plan.note)


def untaught(pair: Pair, found: Mapping[str, Result]) -> Outcome | str:
    """The same training with the answers dealt out to the prompts anew: what comes back was there."""
    plan = _plan(pair, "whether the base's answers come back untaught")
    if isinstance(plan, str):
        return plan
    result = untaught_return(
        _pupils(pair),
        plan.train.grouped(pair.d_vocab),
        plan.test.grouped(pair.d_vocab),
        steps=plan.steps,
        learning_rate=plan.rate,
        batch_size=_BATCH,
        seed=pair.settings.seed,
    )
    return Outcome(result, (_untaught_finding(result),), len(plan.test), plan.note)


@dataclass(frozen=True)
class _Plan:
    """How models are trained back.

    Attributes:
        train, test: Rows that the two models answer differently, the base's answers being right.
        steps, rate: Steps at most, and the learning rate.
        note: What a reader should know of these.
    """

    train: Rows
    test: Rows
    steps: int
    rate: float
    note: str


def _plan(pair: Pair, asks: str) -> _Plan | str:
    """Rows, steps and rate that the work allows; or why there can be no training."""
    halves = _differing(pair, asks)
    if isinstance(halves, str):
        return halves
    train, test = halves
    each = 6 * pair.parameters * train.length * min(_BATCH, len(train))
    steps = min(_MOST_STEPS, int(pair.settings.work / each))
    if steps < _LEAST_STEPS:
        return (
            f"A step of training takes {each / pair.settings.work:.2g} times the work a stage may take "
            f"(settings.work), and {_LEAST_STEPS} are the least that show anything; mechft.finetune_rows "
            "takes as many as you say."
        )
    moments = sum(moment < steps for moment in MOMENTS) + 1
    rows = test.spread(pair.affordable(2 * moments))
    rate = training_rate(pair)
    note = (
        f"At most {steps} steps of {min(_BATCH, len(train))} rows at a rate of {rate:.1e}, a tenth of how "
        f"far a weight moved in fine-tuning (root mean square). Trained on {len(train):,} of the rows that "
        f"the two models answer differently, measured on others. {shown(len(rows), len(test))}"
    ).strip()
    return _Plan(train, rows, steps, rate, note)


def _pupils(pair: Pair) -> Mapping[str, ModelLike]:
    """Who is trained: the fine-tuned model, and one that never had it if there is one."""
    return {FINETUNED: pair.finetuned} | ({} if pair.never is None else {NEVER: pair.never})


def training_rate(pair: Pair) -> float:
    """The rate of training back: a tenth of the root mean square of what fine-tuning moved weights by.

    A step of AdamW moves a weight by about its rate, so ten steps go about as far as fine-tuning went. It is
    taken over the weights that moved, and kept between 1e-6 and 1e-3.
    """
    squares, size = 0.0, 0
    for weight in pair.weights.values():
        change = float((weight.after.double() - weight.before.double()).square().sum())
        if change > 0:
            squares, size = squares + change, size + weight.before.numel()
    moved = (squares / size) ** 0.5 if size else 0.0
    return min(_FASTEST, max(_SLOWEST, _RATE_SHARE * moved))


def _revival_finding(result: Revival, trained_on: int) -> Finding:
    ends = {str(name): run.iloc[-1] for name, run in result.frame.groupby("model", sort=False)}
    ours, first = ends[FINETUNED], row_of(result.frame, model=FINETUNED, step=0)
    reached = result.steps_to(_BACK)
    text = (
        f"Trained on the base's answers to {counted(trained_on, 'row')} for "
        f"{counted(int(ours['step']), 'step')}, the fine-tuned model gives "
        f"{percent(ours['accuracy'], ours['ci_low'], ours['ci_high'])} of them on "
        f"{counted(int(ours['n']), 'other row')} ({percent(first['accuracy'])} before); "
        f"{_nine_in_ten(reached[FINETUNED])}."
    )
    if NEVER in ends:
        text += (
            f" The model that never had them: {percent(ends[NEVER]['accuracy'])} after "
            f"{counted(int(ends[NEVER]['step']), 'step')}; {_nine_in_ten(reached[NEVER])}."
        )
    caution = (
        "Both learn the same rows at the same rate; of one run each."
        if NEVER in ends
        else "Few steps show that the way back is short, not that the answers were still there: a model that "
        "never had them may learn them as fast. Give such a model as control, if there is one."
    )
    return Finding("revival", text, caution)


def _nine_in_ten(step: int | None) -> str:
    return "nine in ten are not reached" if step is None else f"nine in ten from step {step} on"


def _untaught_finding(result: UntaughtReturn) -> Finding:
    best = result.best().set_index("model")
    row = best.loc[FINETUNED]
    share = percent(row["accuracy"], row["ci_low"], row["ci_high"])
    if row["step"]:
        text = (
            "Trained on the same prompts with the answers shuffled among them, the fine-tuned model gives "
            f"{share} of the base's answers on other rows after {counted(int(row['step']), 'step')} "
            f"({percent(row['untouched'])} before; when to stop was chosen on yet other rows)."
        )
    else:
        text = (
            "Trained on the same prompts with the answers shuffled among them, the fine-tuned model gives no "
            f"more of the base's answers on other rows than before ({share})."
        )
    text += f" Always giving the commonest answer gives {percent(row['commonest'])}."
    if NEVER in best.index:
        text += f" The model that never had them: {percent(best.loc[NEVER, 'accuracy'])}."
    caution = (
        "Shuffled answers do not say which prompt has which, so what rises above the commonest answer was "
        "there. That nothing rises does not show that nothing was."
    )
    return Finding("untaught", text, caution)


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
        cast.append(votes.vote_of_pruning(curve, BASES, 1.0, max(_COUNTS)))
    if isinstance(back := found.get("revival"), Revival) and pair.never is not None:
        cast.append(votes.vote_of_revival(back, FINETUNED, NEVER, _BACK))
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


def _differing(pair: Pair, asks: str) -> tuple[Rows, Rows] | str:
    """Rows that the models answer differently, in two halves, the base's answers being right; or why not."""
    if pair.kind != "answers":
        return ASKS_ANSWERS
    differing, ours, _ = pair.asked.differing()
    halves = differing.answered(ours).halves()
    least = min(len(half) for half in halves)
    if few := too_few(least, pair, asks, halved=True):
        return few
    return halves
