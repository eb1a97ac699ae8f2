"""A study of a size that trains in seconds: the real work functions on a very small task and model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

import pytest

from mechft.experiments.pcfg.config import SCALES, StudyScale
from mechft.experiments.pcfg.kinds import ASK, FINETUNE, PRETRAIN, PROBE, PRUNE, REVERSE
from mechft.experiments.store.job import Job
from mechft.models import build
from mechft.models.build import ModelConfig
from mechft.tasks import pcfg_config
from mechft.tasks.contrast import Contrast
from mechft.tasks.pcfg import PCFGTask
from mechft.tasks.pcfg_config import PCFGConfig

CONTRAST = asdict(Contrast())
_TRAINING = {"batch_size": 32, "seed": 0, "contrast": CONTRAST, "evaluation_rows": 20}
_LOOK = {"contrast": CONTRAST, "seed": 0, "test_size": 30}


def base(steps: int = 6, seed: int = 0, **task: Any) -> Job:
    """A pretraining of very small strings and a very small model."""
    config = PCFGConfig(10, counting_window=6, occurrence=2, pair_occurrence=1, lookback=4, **task)
    made = PCFGTask(config)
    shape = ModelConfig(2, 2, 16, len(made.vocabulary), made.n_ctx)
    return Job(
        PRETRAIN,
        {
            "preset": "tiny",
            "prior": "low",
            "task": made.to_dict(),
            "model": asdict(shape),
            "steps": steps,
            "learning_rate": 1e-3,
            "batch_size": 32,
            "seed": seed,
            "evaluation_rows": 20,
            "bundled": "",
        },
    )


def finetuned(start: Job, correlation: float | None = 1.0, steps: int = 4, **variant: Any) -> Job:
    """A fine-tuning of a few steps."""
    settings = {
        **_TRAINING,
        "train_correlation": correlation,
        "learning_rate": 1e-3,
        "steps": steps,
        "rows": 30,
        **variant,
    }
    return Job(FINETUNE, settings, {"base": start})


def reversed_(start: Job, how: str = "model", steps: int = 4) -> Job:
    """Training back."""
    settings = {**_TRAINING, "start": how, "learning_rate": 1e-3, "steps": steps}
    return Job(REVERSE, settings, {"start": start})


def pruned(model: Job) -> Job:
    """A pruning curve of three points."""
    settings = {**_LOOK, "counts": [0, 1, 3], "random_draws": 1, "score_size": 30}
    return Job(PRUNE, settings, {"model": model})


def probed(model: Job, *, untrained: bool = False) -> Job:
    """Probes on few rows."""
    return Job(PROBE, {**_LOOK, "train_size": 60, "untrained": untrained}, {"model": model})


def asked(model: Job) -> Job:
    """The jailbreak's questions on few rows."""
    return Job(ASK, {**_LOOK, "train_size": 60}, {"model": model})


SCALE = StudyScale(
    preset="tiny",
    priors=("low", "high"),
    correlations=(0.0, 1.0),
    rates=(("L", 1e-2), ("M", 1e-3)),
    pretraining_steps=(("low", 4), ("high", 4), ("never_a", 4)),
    other_steps=(2,),
    steps=3,
    reverse_steps=3,
    reverse_rates=("M",),
    reverse_starts=("L",),
    mixing_shares=(0.5,),
    looked_into=(1.0,),
    probed_rates=("M",),
    base_rows=20,
    rows=20,
    evaluation_rows=10,
    prune_counts=(0, 5, 15),
    prune_rows=20,
    random_draws=1,
    probe_rows=40,
    probe_test_rows=20,
)


@contextmanager
def small_presets(**scale: Any) -> Iterator[None]:
    """Makes preset tiny so small that a whole study takes seconds; ``scale`` changes its sizes further.

    Worker processes need no such change: a job carries its task and its model's shape.
    """
    task = PCFGConfig(12, counting_window=6, occurrence=2, pair_occurrence=1, lookback=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(pcfg_config.PRESETS, "tiny", task)
        patch.setitem(build.PRESETS, "tiny", {"n_layers": 2, "n_heads": 2, "d_model": 16})
        patch.setitem(SCALES, "tiny", replace(SCALE, **scale))
        yield
