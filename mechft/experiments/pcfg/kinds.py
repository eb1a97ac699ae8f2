"""The kinds of work of the PCFG study; free of torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mechft.experiments.store.job import Job, Kind

BATCH_SIZE = 96
"""Rows of a training step: the paper's, everywhere."""

_TRAIN = "mechft.experiments.pcfg.train_work"
_INSIDE = "mechft.experiments.pcfg.inside_work"


def _pretraining(settings: Mapping[str, Any]) -> float:
    return 1.4 * float(settings["steps"])  # every position's logits, not the answer's alone


def _steps(settings: Mapping[str, Any]) -> float:
    return float(settings["steps"])


def _shape(job: Job) -> str:
    """What members of an ensemble have in common: steps, precision, and the model's shape."""
    first = job
    while first.needs:
        first = next(iter(first.needs.values()))
    alike = [job.settings[name] for name in ("steps", "batch_size")]
    alike += [job.settings.get("precision"), first.settings["model"]]
    return json.dumps(alike, sort_keys=True)


def _prune(settings: Mapping[str, Any]) -> float:
    """Two tasks, forwards only: a third of a step's work."""
    forwards = 2 * (1 + settings["random_draws"]) * len(settings["counts"])
    return float(forwards * settings["test_size"]) / BATCH_SIZE / 3


def _probe(settings: Mapping[str, Any]) -> float:
    return float(settings["train_size"] + settings["test_size"]) / BATCH_SIZE


PRETRAIN = Kind("pretrain", 1, f"{_TRAIN}:pretrain_work", _pretraining)
FINETUNE = Kind(
    "finetune", 1, f"{_TRAIN}:finetune_work", _steps, f"{_TRAIN}:finetune_together", _shape
)
REVERSE = Kind("reverse", 1, f"{_TRAIN}:reverse_work", _steps, f"{_TRAIN}:reverse_together", _shape)
PRUNE = Kind("prune", 1, f"{_INSIDE}:prune_work", _prune)
PROBE = Kind("probe", 1, f"{_INSIDE}:probe_work", _probe)
ASK = Kind("ask", 1, f"{_INSIDE}:ask_work", _probe)

KINDS = {kind.name: kind for kind in (PRETRAIN, FINETUNE, REVERSE, PRUNE, PROBE, ASK)}
