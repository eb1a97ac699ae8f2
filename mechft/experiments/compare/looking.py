"""The stages one after the other: the first answer within seconds, then the rest."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from mechft.analysis.output_diff import OutputDiff
from mechft.analysis.result import Result
from mechft.analysis.weight_diff import diff_weights
from mechft.experiments.compare import (
    causal_stages,
    row_stages,
    training_stages,
    verdict_stage,
    weight_stages,
)
from mechft.experiments.compare.config import STAGES
from mechft.experiments.compare.findings import Finding
from mechft.experiments.compare.outcome import Outcome, Stage
from mechft.experiments.compare.pair import Pair
from mechft.experiments.compare.result import StageRecord
from mechft.training.progress import progress_bar

RUNS: dict[str, Stage] = {
    "weights": weight_stages.weights,
    "outputs": row_stages.outputs,
    "loss": row_stages.loss,
    "lens": row_stages.lens,
    "attention": row_stages.attention,
    "activations": row_stages.activations,
    "circuits": weight_stages.circuits,
    "spectrum": weight_stages.spectrum,
    "interpolation": causal_stages.interpolation,
    "patching": causal_stages.patching,
    "ablation": causal_stages.ablation,
    "low_rank": causal_stages.low_ranks,
    "pruning": causal_stages.pruning,
    "revival": training_stages.revival,
    "untaught": training_stages.untaught,
    "verdict": verdict_stage.verdict,
}


@dataclass(frozen=True)
class Look:
    """What stages gave.

    Attributes:
        records: Every stage there is, and what became of it.
        results: By stage.
        findings: What they say.
    """

    records: tuple[StageRecord, ...]
    results: dict[str, Result]
    findings: tuple[Finding, ...]


def first_look(pair: Pair) -> Look:
    """The first answer: how far each weight moved, and the answers on a few rows.

    Cost: a pass over both models' weights, and forwards of some seconds.
    """
    norms = diff_weights(pair.base, pair.finetuned, spectra=False)
    found = {
        "weights": Outcome(norms, weight_stages.weight_findings(norms.frame)),
        "outputs": row_stages.first_outputs(pair),
    }
    return Look(
        tuple(_record(name, outcome, 0.0) for name, outcome in found.items()),
        {name: outcome.result for name, outcome in found.items()},
        tuple(finding for outcome in found.values() for finding in outcome.findings),
    )


def weights_unchanged(first: Look) -> bool:
    """Whether the first look found no weight that moved."""
    return not bool((first.results["weights"].frame["change"] > 0).any())


def alike(first: Look) -> bool:
    """Whether the first look found nothing at all: the same weights, the same probabilities."""
    outputs = first.results["outputs"]
    assert isinstance(outputs, OutputDiff)
    kl = outputs.frame.set_index("measure").loc["kl_from_base", "value"]
    return weights_unchanged(first) and not kl > 0


def completed(first: Look, why: str) -> Look:
    """A first look as the whole of it, with the reason why there is no more."""
    done = {record.name: record for record in first.records}
    records = tuple(done.get(name) or skipped(name, why) for name in STAGES)
    return replace(first, records=records)


def look(pair: Pair, progress: bool) -> Look:
    """Run every stage that was asked for; one that fails is told of, and the next one runs.

    Ctrl-C ends it: the stages that finished are returned, and those that did not are said to be interrupted.
    """
    records: list[StageRecord] = []
    findings: list[Finding] = []
    results: dict[str, Result] = {}
    stopped = False
    wanted = pair.settings.stages or tuple(STAGES)
    with progress_bar(progress, total=len(wanted), unit="stage") as bar:
        for name in STAGES:
            if name not in wanted:
                records.append(skipped(name, "It was not asked for (settings.stages)."))
                continue
            if stopped:
                records.append(_interrupted(name, 0.0))
                continue
            bar.set_description(name)
            started = time.monotonic()
            outcome = _attempt(RUNS[name], pair, results)
            seconds = time.monotonic() - started
            if isinstance(outcome, Outcome):
                results[name] = outcome.result
                # What all of it comes to is said first.
                at = 0 if name == "verdict" else len(findings)
                findings[at:at] = outcome.findings
                records.append(_record(name, outcome, seconds))
            elif isinstance(outcome, str):
                records.append(skipped(name, outcome))
            elif isinstance(outcome, KeyboardInterrupt):
                stopped = True
                records.append(_interrupted(name, seconds))
            else:
                records.append(_failed(name, outcome, seconds))
            bar.update()
    return Look(tuple(records), results, tuple(findings))


def _attempt(
    run: Stage, pair: Pair, results: dict[str, Result]
) -> Outcome | str | Exception | KeyboardInterrupt:
    """What a stage gives, or what it raised: an architecture may lack what one of them looks at."""
    try:
        return run(pair, results)
    except (Exception, KeyboardInterrupt) as error:
        return error


def _record(name: str, outcome: Outcome, seconds: float) -> StageRecord:
    return StageRecord(name, STAGES[name], "done", "", outcome.note, outcome.rows, seconds)


def skipped(name: str, why: str) -> StageRecord:
    """A stage that did not run, and why."""
    return StageRecord(name, STAGES[name], "skipped", why)


def _interrupted(name: str, seconds: float) -> StageRecord:
    reason = "The comparison was interrupted " + ("in this stage." if seconds else "before it.")
    return StageRecord(name, STAGES[name], "interrupted", reason, seconds=seconds)


def _failed(name: str, error: Exception, seconds: float) -> StageRecord:
    said = str(error).strip() or "no message"
    reason = f"It failed with {type(error).__name__}: {said}"
    return StageRecord(name, STAGES[name], "failed", reason, seconds=seconds)
