"""The jobs of the PCFG study: each training and analysis by its settings."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, replace
from functools import cache
from typing import Any

from mechft.experiments.pcfg.bundled_runs import bundled_for
from mechft.experiments.pcfg.config import StudyScale
from mechft.experiments.pcfg.kinds import ASK, BATCH_SIZE, FINETUNE, PRETRAIN, PROBE, PRUNE, REVERSE
from mechft.experiments.store.job import Job
from mechft.models.build import preset as model_preset
from mechft.models.bundled import manifest
from mechft.randomness import generator
from mechft.tasks.batch import Source
from mechft.tasks.contrast import Contrast
from mechft.tasks.pcfg import PCFGTask
from mechft.tasks.pcfg_config import PCFGConfig
from mechft.tasks.pcfg_config import preset as task_preset
from mechft.training.behaviour import behaviour_queries

COUNTER = Contrast("C", "a", "b", 1)
INDEXER = Contrast("I", "a", "b", 1)
JAILBREAK_TOKENS = ("J1", "J2")


def base_job(
    scale: StudyScale,
    prior: str,
    seed: int,
    *,
    steps: int | None = None,
    jailbreak: bool = False,
) -> Job:
    """A base model of an operand prior."""
    config = task_preset(scale.preset, prior)
    if jailbreak:
        config = replace(config, jailbreak_families=JAILBREAK_TOKENS)
    task = PCFGTask(config)
    settings = {
        "preset": scale.preset,
        "prior": prior,
        "task": task.to_dict(),
        "model": asdict(model_preset(scale.preset, len(task.vocabulary), task.n_ctx)),
        "steps": steps or dict(scale.pretraining_steps)[prior],
        "learning_rate": 1e-3,
        "batch_size": BATCH_SIZE,
        "seed": seed,
        "evaluation_rows": scale.base_rows,
        "data": data_digest(config),
        **_precision(scale),
    }
    bundled = bundled_for(settings)
    # The hash of the model that stands in for this training, so that another model has another key.
    settings["bundled"] = manifest()[bundled]["sha256"] if bundled else ""
    return Job(PRETRAIN, settings)


def _precision(scale: StudyScale) -> dict[str, str]:
    """Named where it is not float32: runs made before it could be chosen keep their names."""
    return {} if scale.precision == "float32" else {"precision": scale.precision}


@cache
def data_digest(config: PCFGConfig) -> str:
    """A few rows of every kind the study draws, as a word: code that draws others gives other keys."""
    task = PCFGTask(config)
    sources: list[Source] = [task.pretraining()]
    for contrast in (COUNTER, INDEXER):
        sources.append(
            task.query(contrast.family, contrast.finetuning_operand, contrast.correlation(0.5))
        )
        sources += behaviour_queries(task, contrast, balanced=True).values()
    drawn = [source.sample(8, generator(0, "data version")).digest() for source in sources]
    return hashlib.sha256(" ".join(drawn).encode()).hexdigest()[:12]


def finetune_job(
    scale: StudyScale,
    base: Job,
    rate: str,
    correlation: float | None,
    seed: int,
    contrast: Contrast = COUNTER,
    **variant: Any,
) -> Job:
    """A fine-tuning; ``variant`` is pretraining_share or randomised, where it is one."""
    settings = {
        "contrast": asdict(contrast),
        "train_correlation": correlation,
        "learning_rate": scale.rate[rate],
        "steps": scale.steps,
        "batch_size": BATCH_SIZE,
        "seed": seed,
        "evaluation_rows": scale.evaluation_rows,
        "rows": scale.rows,
        **_precision(scale),
        **variant,
    }
    return Job(FINETUNE, settings, {"base": base})


def reverse_job(
    scale: StudyScale,
    start: Job,
    rate: float,
    seed: int,
    *,
    from_nothing: bool = False,
    contrast: Contrast = COUNTER,
) -> Job:
    """ReFT of a fine-tuned model, or a control; ``from_nothing`` draws new weights of its shape."""
    settings = {
        "contrast": asdict(contrast),
        "start": "fresh" if from_nothing else "model",
        "learning_rate": rate,
        "steps": scale.reverse_steps,
        "batch_size": BATCH_SIZE,
        "seed": seed,
        "evaluation_rows": scale.evaluation_rows,
        **_precision(scale),
    }
    return Job(REVERSE, settings, {"start": start})


def prune_job(scale: StudyScale, model: Job, seed: int, contrast: Contrast = COUNTER) -> Job:
    """A pruning curve."""
    settings = {
        "contrast": asdict(contrast),
        "counts": scale.prune_counts,
        "random_draws": scale.random_draws,
        "score_size": 2 * scale.prune_rows,
        "test_size": scale.prune_rows,
        "seed": seed,
    }
    return Job(PRUNE, settings, {"model": model})


def _probing(scale: StudyScale, seed: int, contrast: Contrast) -> dict[str, Any]:
    return {
        "contrast": asdict(contrast),
        "train_size": scale.probe_rows,
        "test_size": scale.probe_test_rows,
        "seed": seed,
    }


def probe_job(
    scale: StudyScale,
    model: Job,
    seed: int,
    *,
    untrained: bool = False,
    contrast: Contrast = COUNTER,
) -> Job:
    """Probes for O_PT in a model, or in an untrained one of its shape."""
    settings = {**_probing(scale, seed, contrast), "untrained": untrained}
    return Job(PROBE, settings, {"model": model})


def ask_job(scale: StudyScale, model: Job, seed: int, contrast: Contrast = COUNTER) -> Job:
    """O_PT asked for by every counting token."""
    return Job(ASK, _probing(scale, seed, contrast), {"model": model})
