"""The verdict: was a capability retained, hidden under a wrapper, or damaged?

The rule, in full. Let the score of a model be its accuracy above always giving the commonest answer.

1. *undecided* if the base's score is below 20 points: there is nothing to lose.
2. *retained* if the fine-tuned model's score is at least 90% of the base's (by the low end of its 95%
   interval), or not below the base's.
3. Otherwise the tools of ``mechft.analysis.votes`` vote, each by its own rule, with weight 1 if it takes
   nothing from the base and 1/2 if it does. *wrapped* (or *damaged*) if the votes for it weigh at least
   1.5 and those for the other at most 0.5.
4. *undecided* in every other case: too few votes, or votes against each other.

The thresholds are conventions, fixed before the tests that use them were run. A verdict is about these
rows, this capability and, without several seeds, this training run.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

from mechft.analysis import votes
from mechft.analysis.interpolation import interpolate
from mechft.analysis.patching import patch_across
from mechft.analysis.probing import ProbeResult, probe
from mechft.analysis.pruning import prune_curve
from mechft.analysis.result import Result
from mechft.analysis.revival import Revival
from mechft.analysis.votes import Vote
from mechft.errors import require, unknown_name
from mechft.models.hook_points import ModelLike, as_model
from mechft.statistics import Proportion
from mechft.tasks.batch import TokenBatch
from mechft.training.evaluation import accuracy, commonest_answer

Verdict = Literal["retained", "wrapped", "damaged", "undecided"]
Tool = Literal["probe", "pruning", "patching", "interpolation", "revival"]
TOOLS: tuple[Tool, ...] = ("probe", "pruning", "patching", "interpolation", "revival")

LEAST_BASE = 0.2
RETAINED = 0.9
DECIDING, OPPOSING = 1.5, 0.5
_ALPHAS = (0.0, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9, 1.0)
_COUNTS = (0, 1, 2, 3, 5, 7, 10, 15, 20)
_BASE, _FINETUNED, _CONTROL, _TASK = "base", "fine-tuned", "control", "capability"


@dataclass(frozen=True)
class Diagnosis(Result):
    """What became of a capability, with each tool's vote.

    Columns: tool, finding ("wrapped", "damaged" or "no vote"), weight, value, low, high (the number the
    tool goes by, with its 95% interval), meaning (of the number), rule, detail.

    Attributes:
        verdict: "retained", "wrapped", "damaged" or "undecided".
        reason: How it follows from the rule.
        behaviour: Accuracy on the capability: "base", "fine-tuned", "commonest answer".
        evidence: The results behind the votes, by tool.
    """

    verdict: Verdict
    reason: str
    behaviour: dict[str, Proportion | float]
    evidence: dict[str, Result] = field(repr=False)

    def __str__(self) -> str:
        lines = [f"{self.verdict}: {self.reason}"]
        lines += [
            f"  {row['tool']:<14}{row['finding']:<9}{row['detail']}"
            for row in self.frame.to_dict("records")
        ]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<p><b>{self.verdict}</b>: {html.escape(self.reason)}</p>{super()._repr_html_()}"


@dataclass(frozen=True)
class Capability:
    """Rows of a capability, from streams of their own.

    Attributes:
        fit: To fit probes and score units on. The probe votes from 10 rows for each dimension of the
            residual stream on (1,280 for 128), and not while its floor still rises with the rows.
        test: To measure everything on.
        target: Label to probe for, such as "C(a)"; None leaves the probe out.
    """

    fit: TokenBatch
    test: TokenBatch
    target: str | None = None


def diagnose(
    base: ModelLike,
    finetuned: ModelLike,
    capability: Capability,
    *,
    control: ModelLike | None = None,
    revival: Revival | None = None,
    revival_names: tuple[str, str] = ("reFT", "Scr.+FT"),
    threshold: float = 0.9,
    tools: Sequence[Tool] = TOOLS,
    seed: int = 0,
) -> Diagnosis:
    """Gather the evidence of every tool that applies, and say what became of a capability.

    Of a bidirectional model (a compiled program) read the probe's vote with care: its untrained twin already
    shows a probe which letters the string has, so that the floor is high and the vote is none or leans to
    "damaged".

    Args:
        base, finetuned: Two models of the same shape.
        capability: What the base could do.
        control: A model that never had the capability, otherwise like the base: the probe's floor.
        revival: Reverse fine-tuning of the fine-tuned model and of the control; without it revival does
            not vote.
        revival_names: What these two are called in it.
        threshold: Accuracy at which the capability counts as back in ``revival``.
        tools: Which tools to ask.
        seed: Seed of the controls and bootstraps.

    Raises:
        ConfigError: If a batch is empty, or the models differ in shape.
        UnknownNameError: If a tool, a label or a name in ``revival`` is not known.

    Cost: probes of two or three models and their untrained twins, a pruning curve, a patching sweep and
    an interpolation; about a minute at tiny on 2 cores. Before the probe votes, it is fitted at one site
    again, on half of the rows. If the capability is retained, two evaluations.
    """
    check_request(tools, threshold)
    for rows in (capability.fit, capability.test):
        require(
            len(rows) > 0, "A capability is diagnosed on rows to fit and rows to test; got none."
        )
    if capability.target is not None and capability.target not in capability.fit.labels:
        raise unknown_name("label", capability.target, capability.fit.labels)
    if revival is not None:
        known = list(revival.frame["model"].unique())
        for name in revival_names:
            if name not in known:
                raise unknown_name("model in the revival", name, known)
    early = by_behaviour(base, finetuned, capability)
    if early is not None:
        return early
    had, has = (accuracy(model, capability.test) for model in (base, finetuned))
    cast, evidence = _gather(
        as_model(base),
        as_model(finetuned),
        capability,
        control,
        revival,
        revival_names,
        threshold,
        tools,
        seed,
        had.value,
        has.value,
    )
    return conclude(cast, had, has, commonest_answer(capability.test), evidence)


def check_request(tools: Sequence[str], threshold: float) -> None:
    """Raise for a tool that is not known, or a threshold that is not an accuracy."""
    for tool in tools:
        if tool not in TOOLS:
            raise unknown_name("tool", tool, TOOLS)
    require(0 < threshold <= 1, f"A threshold is an accuracy in (0, 1]; got {threshold}.")


def conclude(
    cast: Sequence[Vote],
    had: Proportion,
    has: Proportion,
    commonest: float,
    evidence: Mapping[str, Result] | None = None,
) -> Diagnosis:
    """The diagnosis from votes cast already, where behaviour alone did not settle it.

    Args:
        cast: The votes.
        had, has: Accuracy on the capability of the base, and of the fine-tuned model.
        commonest: Accuracy of always giving the commonest answer.
        evidence: The results behind the votes, by tool.
    """
    verdict, reason = decide(cast)
    told = f"{had.value:.1%} fell to {has.value:.1%}; {reason}"
    return _diagnosis(verdict, told, had, has, commonest, cast, evidence)


def by_behaviour(base: ModelLike, finetuned: ModelLike, capability: Capability) -> Diagnosis | None:
    """Rules 1 and 2: the diagnosis where answers alone settle it, None where the tools must be asked.

    Cost: an evaluation of each model.
    """
    test = capability.test
    return settled(accuracy(base, test), accuracy(finetuned, test), commonest_answer(test))


def settled(had: Proportion, has: Proportion, commonest: float) -> Diagnosis | None:
    """``by_behaviour`` from accuracies measured already; arguments as in ``conclude``."""
    score = had.value - commonest
    if score < LEAST_BASE:
        reason = (
            f"the base answers {had.value:.1%}, always giving the commonest answer {commonest:.1%}: "
            "there is no capability to lose"
        )
        return _diagnosis("undecided", reason, had, has, commonest)
    if has.low - commonest >= RETAINED * score or has.value >= had.value:
        reason = f"the fine-tuned model answers {has.value:.1%}, the base {had.value:.1%}"
        return _diagnosis("retained", reason, had, has, commonest)
    return None


def decide(cast: Sequence[Vote]) -> tuple[Verdict, str]:
    """Rule 3 and 4: what the votes together say, and why."""
    weight = {
        finding: sum(vote.weight for vote in cast if vote.finding == finding)
        for finding in ("wrapped", "damaged")
    }
    told = f"votes for wrapped weigh {weight['wrapped']:g}, for damaged {weight['damaged']:g}"
    sides: tuple[tuple[Verdict, str], ...] = (("wrapped", "damaged"), ("damaged", "wrapped"))
    for finding, other in sides:
        if weight[finding] >= DECIDING and weight[other] <= OPPOSING:
            return finding, told
    return "undecided", f"{told}; it takes {DECIDING:g} for one and at most {OPPOSING:g} against"


def _gather(
    base: ModelLike,
    finetuned: ModelLike,
    capability: Capability,
    control: ModelLike | None,
    revival: Revival | None,
    names: tuple[str, str],
    threshold: float,
    tools: Sequence[Tool],
    seed: int,
    had: float,
    has: float,
) -> tuple[list[Vote], dict[str, Result]]:
    cast: list[Vote] = []
    evidence: dict[str, Result] = {}
    tasks = {_TASK: capability.test}
    if "probe" in tools and capability.target is not None:
        models = {_BASE: base, _FINETUNED: finetuned}
        if control is not None:
            models[_CONTROL] = as_model(control)
        vote, evidence["probe"] = _probed(models, capability, capability.target, seed)
        cast.append(vote)
    if "pruning" in tools:
        curve = prune_curve(finetuned, capability.fit, tasks, counts=_COUNTS, seed=seed)
        evidence["pruning"] = curve
        cast.append(votes.vote_of_pruning(curve, _TASK, had, max(_COUNTS)))
    if "revival" in tools and revival is not None:
        evidence["revival"] = revival
        cast.append(votes.vote_of_revival(revival, *names, threshold))
    if "patching" in tools:
        patched = patch_across(
            base,
            finetuned,
            tasks,
            ("attn_out", "mlp_out"),
            directions=("base→finetuned",),
            seed=seed,
        )
        evidence["patching"] = patched
        cast.append(votes.vote_of_patching(patched, _TASK))
    if "interpolation" in tools:
        line = interpolate(base, finetuned, tasks, alphas=_ALPHAS, metrics=("accuracy",), seed=seed)
        evidence["interpolation"] = line
        cast.append(votes.vote_of_interpolation(line.frame, _TASK, had, has))
    return cast, evidence


def _probed(
    models: Mapping[str, ModelLike], capability: Capability, target: str, seed: int
) -> tuple[Vote, ProbeResult]:
    """The probe's vote, and the probes."""
    fit, rows = capability.fit, len(capability.fit)

    def probes(fit: TokenBatch, hooks: Sequence[str] | None = None) -> ProbeResult:
        return probe(
            models,
            fit,
            capability.test,
            target,
            hook_names=hooks,
            controls=("random_model",),
            seed=seed,
        )

    found = probes(fit)
    vote = votes.vote_of_probe(
        found.frame,
        _BASE,
        _FINETUNED,
        [_CONTROL] if _CONTROL in models else [],
        fit_rows=rows,
        width=int(as_model(models[_BASE]).cfg.d_model),
        refit=lambda hook: probes(fit.rows(slice(0, rows // 2)), [hook]).frame,
    )
    return vote, found


def _diagnosis(
    verdict: Verdict,
    reason: str,
    had: Proportion,
    has: Proportion,
    commonest: float,
    cast: Sequence[Vote] = (),
    evidence: Mapping[str, Result] | None = None,
) -> Diagnosis:
    import pandas as pd

    columns = list(Vote.__dataclass_fields__)
    frame = pd.DataFrame([asdict(vote) for vote in cast], columns=columns)
    behaviour: dict[str, Proportion | float] = {
        _BASE: had,
        _FINETUNED: has,
        "commonest answer": commonest,
    }
    return Diagnosis(frame, verdict, reason, behaviour, dict(evidence or {}))
