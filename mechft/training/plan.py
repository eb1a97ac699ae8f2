"""A training decided on but not done: from what, on what, how, measured on what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mechft.errors import ConfigError
from mechft.models import build
from mechft.randomness import derive_seed
from mechft.tasks.batch import Source, TokenBatch
from mechft.tasks.contrast import Contrast
from mechft.tasks.mixture import MixedSource
from mechft.tasks.pcfg import PCFGTask
from mechft.tasks.programs import ProgramTask
from mechft.tasks.protocol import check_task
from mechft.tasks.task import PretrainableTask, Task
from mechft.training.behaviour import (
    EVALUATION_SIZE,
    behaviour_queries,
    evaluation_batches,
    randomised_query,
)
from mechft.training.callbacks import Callback
from mechft.training.config import TrainConfig, geometric_steps
from mechft.training.loop import train
from mechft.training.precision import Precision
from mechft.training.protocols import protocol_of
from mechft.training.trained import MODEL_FILE, Trained, save

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer


@dataclass(frozen=True)
class Plan:
    """All that a recipe decides before the first step.

    Attributes:
        start: The model to start from, by the name the result will have; a copy of it is trained.
        source: Where batches come from.
        config: How to train.
        evaluations: Batches to measure accuracy on.
        facts: What the lineage says of it: recipe and settings.
    """

    start: Trained
    source: Source
    config: TrainConfig
    evaluations: Mapping[str, TokenBatch]
    facts: Mapping[str, Any]

    def on(self, device: torch.device | str) -> Plan:
        """The same, to be done on a device."""
        return replace(self, start=self.start.to(device))

    def finished(
        self, model: HookedTransformer, records: Sequence[dict[str, Any]], **more: Any
    ) -> Trained:
        """The trained model with its history; ``more`` joins its entry in the lineage."""
        last = max((record["step"] for record in records), default=0)
        precision = self.config.precision
        entry = {
            **self.facts,
            "learning_rate": self.config.learning_rate,
            "steps": self.config.steps,
            "batch_size": self.config.batch_size,
            **({} if precision == "float32" else {"precision": precision}),
            **more,
            "final": {r["evaluation"]: r["accuracy"] for r in records if r["step"] == last},
        }
        lineage = (*self.start.lineage, entry)
        return replace(self.start, model=model, lineage=lineage, records=tuple(records))


def carry_out(
    plan: Plan, directory: str | Path | None = None, callbacks: Sequence[Callback] = ()
) -> Trained:
    """Train a copy of the plan's start; raises as ``train`` does.

    Args:
        plan: What to do.
        directory: Where to keep checkpoints, to be resumed by the same plan, and the finished model.
        callbacks: Told what happens; see ``Callback``.
    """
    model = build.clone(plan.start.model)
    records = train(
        model,
        plan.source,
        plan.config,
        evaluations=plan.evaluations,
        directory=directory,
        label=plan.start.name,
        identity={**plan.facts, "task": plan.start.task.to_dict()},
        callbacks=callbacks,
    )
    trained = plan.finished(model, records)
    if directory is not None and not (Path(directory) / MODEL_FILE).exists():
        save(trained, Path(directory) / MODEL_FILE)
    return trained


def finetuning_plan(
    base: Trained,
    operand: str | None = None,
    *,
    family: str | None = None,
    train_correlation: float | None = 1.0,
    offset: int | None = None,
    pretraining_operand: str | None = None,
    pretraining_share: float = 0.0,
    randomised: bool = False,
    learning_rate: str | float | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    evaluation_size: int = EVALUATION_SIZE,
    precision: Precision = "float32",
    name: str | None = None,
) -> Plan:
    """What ``finetune`` does with the same arguments, before it does it."""
    check_own_task(base.task)
    contrast = contrast_of(base.task, family, pretraining_operand, operand, offset)
    correlation = None
    if train_correlation is not None:
        correlation = contrast.correlation(train_correlation)
    protocol = protocol_of(base.task)
    steps = protocol.steps if steps is None else steps
    # Variants are named only where they are in force: a run begun before there were any goes on.
    variant: dict[str, Any] = {}
    if randomised:
        source = randomised_query(base.task, contrast, correlation)
        variant["randomised"] = True
    else:
        source = base.task.query(contrast.family, contrast.finetuning_operand, correlation)
    if pretraining_share != 0:
        source = MixedSource(source, _pretraining(base.task), pretraining_share)
        variant["pretraining_share"] = pretraining_share
    return Plan(
        start=base.renamed(name or f"{base.name}+ft"),
        source=source,
        config=protocol.config(
            protocol.learning_rate if learning_rate is None else learning_rate,
            steps,
            batch_size,
            seed=derive_seed(seed, "finetune"),
            precision=precision,
            evaluate_at=geometric_steps(steps),
        ),
        evaluations=evaluation_batches(
            behaviour_queries(base.task, contrast, randomised=randomised), seed, evaluation_size
        ),
        facts={
            "recipe": "finetune",
            "family": contrast.family,
            "operand": contrast.finetuning_operand,
            "pretraining_operand": contrast.pretraining_operand,
            "train_correlation": train_correlation,
            "offset": contrast.offset,
            "seed": seed,
            **variant,
        },
    )


def _pretraining(task: Task) -> Source:
    """What a task's models were pretrained on; not every task has it, so it is no member of ``Task``."""
    if not isinstance(task, PretrainableTask):
        raise ConfigError(
            "pretraining_share mixes in what a model was pretrained on; got a task of kind "
            f"{task.kind!r}, which has no pretraining data (no method pretraining()). Leave it at 0."
        )
    return task.pretraining()


def reversal_plan(
    model: Trained,
    *,
    contrast: Contrast | None = None,
    learning_rate: str | float | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    stop_at: float | None = None,
    evaluation_size: int = EVALUATION_SIZE,
    precision: Precision = "float32",
    name: str | None = None,
) -> Plan:
    """What ``reverse_finetune`` does with the same arguments, before it does it."""
    check_own_task(model.task)
    contrast = contrast or model.contrast
    queries = behaviour_queries(model.task, contrast)
    names = [name for name in ("acc_pt_cte0", "acc_ft_cte1") if name in queries]
    watched = {name: queries[name] for name in names or queries}
    protocol = protocol_of(model.task)
    steps = protocol.steps if steps is None else steps
    config = protocol.config(
        protocol.reverse_learning_rate if learning_rate is None else learning_rate,
        steps,
        batch_size,
        seed=derive_seed(seed, "reverse_finetune"),
        precision=precision,
        evaluate_at=geometric_steps(steps, per_decade=8),
        stop_at=None if stop_at is None else (next(iter(watched)), stop_at),
    )
    facts = {
        "recipe": "reverse_finetune",
        "family": contrast.family,
        "operand": contrast.pretraining_operand,
        "finetuning_operand": contrast.finetuning_operand,
        "offset": contrast.offset,
        "seed": seed,
    }
    source = model.task.query(contrast.family, contrast.pretraining_operand)
    start = model.renamed(name or f"{model.name}+reft")
    evaluations = evaluation_batches(watched, seed, evaluation_size)
    return Plan(start, source, config, evaluations, facts)


def check_own_task(task: Task, *, pretraining: bool = False) -> None:
    """Raise if a task that is not of this package lacks something; see ``check_task``."""
    if not isinstance(task, (PCFGTask, ProgramTask)):
        check_task(task, pretraining=pretraining)


def contrast_of(
    task: Task,
    family: str | None = None,
    pretraining_operand: str | None = None,
    finetuning_operand: str | None = None,
    offset: int | None = None,
) -> Contrast:
    """The task's own contrast with what is given put in its place."""
    own = task.contrast
    return Contrast(
        own.family if family is None else family,
        own.pretraining_operand if pretraining_operand is None else pretraining_operand,
        own.finetuning_operand if finetuning_operand is None else finetuning_operand,
        own.offset if offset is None else offset,
    )
