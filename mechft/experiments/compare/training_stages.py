"""Stages that train: the fine-tuned model brought back, and the same with the answers shuffled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mechft.analysis.result import Result
from mechft.analysis.revival import Revival
from mechft.analysis.revival import revival as revival_of
from mechft.analysis.untaught import UntaughtReturn, untaught_return
from mechft.experiments.compare.causal_stages import BASES
from mechft.experiments.compare.findings import Finding, counted, percent
from mechft.experiments.compare.outcome import Outcome, differing_halves, row_of, shown
from mechft.experiments.compare.pair import FINETUNED, Pair
from mechft.experiments.compare.rows import Rows
from mechft.models.hook_points import ModelLike
from mechft.training.rows import MOMENTS, finetune_rows

NEVER = "never had it"
BACK = 0.9
"""Share of the base's answers that counts as back."""
_ENOUGH = 0.97  # of them: a run that gives so many has no more to show
_BATCH, _LEAST_STEPS, _MOST_STEPS = 16, 5, 55
_RATE_SHARE, _SLOWEST, _FASTEST = 0.1, 1e-6, 1e-3


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
    halves = differing_halves(pair, asks)
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
    reached = result.steps_to(BACK)
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
