"""What is lost when a concept is erased: behaviour that rests on it, site by site."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from mechft.analysis.activations import gather_activations
from mechft.analysis.batches import Data, one_batch
from mechft.analysis.metrics import Metric, evaluate, metric_function, summary
from mechft.analysis.probes.controls import permuted
from mechft.analysis.probes.erasers import (
    ErasedPositions,
    Eraser,
    EraserFitter,
    check_editable,
    check_positions,
    erased,
    fit_erasers,
)
from mechft.analysis.probes.fitting import DEFAULT_L2, L2, ProbeFitter
from mechft.analysis.probes.inputs import labelled, place, sites_of
from mechft.analysis.probes.linear_probes import class_index
from mechft.analysis.result import Result
from mechft.errors import require
from mechft.models.hook_points import ModelLike, device_of
from mechft.statistics import mean_estimate, paired_difference
from mechft.training.evaluation import answer_logits


@dataclass(frozen=True)
class Erasure(Result):
    """What a concept's erasure at one site does to probes there and to behaviour.

    Columns: model, block, hook, component, target, erased ("target": the concept; "control": random labels
    in the same shares), draw (of the control), measure ("probe": fitted on the rows the eraser has
    learned from; "probe, new rows": on others; "behaviour"), task (of behaviour; for probes the target),
    metric, value, ci_low, ci_high (95%: Wilson's for accuracies, normal otherwise), untouched (the value
    without erasing), change (value − untouched), change_low, change_high (95%, over the same rows in
    pairs: Newcombe's for accuracies, normal otherwise), majority (for probes: accuracy of the commonest
    training class), rank (directions erased), n.

    Attributes:
        frame: The measurements.
        erasers: The concept's erasers by site.
    """

    erasers: Mapping[str, Eraser] = field(default_factory=dict, repr=False)


def erase(
    model: ModelLike,
    train: Data,
    test: Data,
    tasks: Mapping[str, Data],
    target: str,
    *,
    hook_names: Sequence[str] | None = None,
    metric: Metric = "accuracy",
    positions: ErasedPositions = "answer",
    new_rows: Data | None = None,
    control_draws: int = 1,
    l2: L2 = DEFAULT_L2,
    name: str = "model",
    seed: int = 0,
) -> Erasure:
    """Erase a concept with LEACE at each site alone; probe there again, and measure each task.

    A probe fitted after erasure on the rows that the eraser learned from names the commonest class only:
    that is the theorem. On ``new_rows`` it shows how well the eraser generalises. Behaviour that falls
    further than under the control, which takes as many directions of random labels, rests on the concept.

    Args:
        model: The model; unchanged afterwards.
        train: Rows that erasers and probes learn from.
        test: Held-out rows that probes are scored on.
        tasks: Rows to measure behaviour on, by name.
        target: Name of the label that is the concept.
        hook_names: Sites, each erased alone; by default the residual stream after each block.
        metric: Of behaviour; see ``mechft.analysis.metrics``.
        positions: Where erasers learn and act: "answer", or "all" positions. Probes read the answer
            position; with "all" the theorem is about all positions together.
        new_rows: Rows to fit a second probe on, which the eraser has not seen.
        control_draws: Random labellings erased for comparison; 0 for none.
        l2: Of the probes; see ``ProbeFitter``.
        name: What the frame calls the model.
        seed: Seed of the controls and of the probes' splits.

    Raises:
        UnknownNameError: If the label, a site or the metric does not exist.
        ConfigError: If there is one class only, no task, or a concept of as many classes as a site is wide.

    Source: Belrose et al. (2023); amnesic probing: Elazar et al. (2021).

    Cost: per site, (1 + control_draws) forwards over every task, and as many fits of a probe.
    """
    check_positions(positions)
    metric_name, function = metric_function(metric)
    require(bool(tasks), "Erasure is measured on at least one task; got none.")
    require(control_draws >= 0, f"control_draws is at least 0; got {control_draws}.")
    rows_of = {"train": labelled(train, target, learn=True), "test": labelled(test, target)}
    if new_rows is not None:
        rows_of["new"] = labelled(new_rows, target, learn=True)
    bare, sites = sites_of(model, hook_names)
    check_editable(bare, sites)
    ProbeFitter(l2)
    asked = {task: one_batch(data) for task, data in tasks.items()}
    features = {part: gather_activations(bare, batch, sites) for part, batch in rows_of.items()}
    truth = {part: batch.labels[target].cpu() for part, batch in rows_of.items()}
    versions: list[tuple[str, int, dict[str, Eraser]]] = []
    for draw in range(-1, control_draws):
        labels = truth["train"]
        if draw >= 0:
            labels = permuted(labels, seed, "erasure", str(draw))
        if positions == "answer":  # the activations are there already
            found = {site: _eraser(features["train"][site], labels) for site in sites}
        else:
            found = fit_erasers(
                bare, rows_of["train"], target, sites, positions=positions, labels=labels
            )
        versions.append(("target" if draw < 0 else "control", max(draw, 0), found))

    on_device = {task: batch.to(device_of(bare)) for task, batch in asked.items()}
    untouched = {task: answer_logits(bare, batch) for task, batch in on_device.items()}
    before = {t: evaluate(function, untouched[t], b, untouched[t]) for t, b in on_device.items()}

    def measured() -> Iterator[dict[str, Any]]:
        for site in sites:
            raw = {part: value[site] for part, value in features.items()}
            plain = {m: hits for m, _, hits in _probe_hits(raw, truth, l2, seed)}
            for kind, draw, erasers in versions:
                eraser = erasers[site]
                where = {
                    "model": name,
                    **place(site),
                    "target": target,
                    "erased": kind,
                    "draw": draw,
                }
                where |= {"rank": eraser.rank}
                clean = {part: eraser(value) for part, value in raw.items()}
                for measure, majority, hits in _probe_hits(clean, truth, l2, seed):
                    yield (
                        where
                        | {"measure": measure, "task": target, "metric": "accuracy"}
                        | _numbers(hits.float(), plain[measure].float(), "accuracy")
                        | {"majority": majority}
                    )
                with erased(bare, {site: eraser}, positions=positions):
                    logits = {task: answer_logits(bare, batch) for task, batch in on_device.items()}
                for task, batch in on_device.items():
                    values = evaluate(function, logits[task], batch, untouched[task])
                    yield (
                        where
                        | {"measure": "behaviour", "task": task, "metric": metric_name}
                        | _numbers(values, before[task], metric_name)
                        | {"majority": float("nan")}
                    )

    import pandas as pd

    return Erasure(pd.DataFrame(list(measured())), versions[0][2])


def _eraser(features: Tensor, labels: Tensor) -> Eraser:
    classes, index = class_index(labels)
    fitter = EraserFitter(len(classes))
    fitter.update(features, index)
    return fitter.result()


def _probe_hits(
    features: Mapping[str, Tensor], truth: Mapping[str, Tensor], l2: L2, seed: int
) -> Iterator[tuple[str, float, Tensor]]:
    """Measure, accuracy of the commonest class, and whether a fresh probe is right on each test row."""
    for part, measure in (("train", "probe"), ("new", "probe, new rows")):
        if part not in features:
            continue
        fitter = ProbeFitter(l2, seed=seed)
        fitter.update({"site": features[part]}, truth[part])
        probes = fitter.result()
        majority = float((truth["test"] == probes.majority).double().mean())
        yield measure, majority, probes.hits({"site": features["test"]}, truth["test"])["site"]


def _numbers(values: Tensor, before: Tensor, metric: str) -> dict[str, float]:
    """The value, the value without erasing, and the change over the same rows."""
    now = summary(values, metric)
    paired = metric == "accuracy"
    change = paired_difference(values > 0, before > 0) if paired else mean_estimate(values - before)
    return {
        "value": now.value,
        "ci_low": now.low,
        "ci_high": now.high,
        "untouched": float(before.double().mean()),
        "change": change.value,
        "change_low": change.low,
        "change_high": change.high,
        "n": now.n,
    }
