"""What pretraining a model is, before it is done."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mechft.errors import require, unknown_name
from mechft.models import build
from mechft.models.build import ModelConfig
from mechft.randomness import derive_seed
from mechft.tasks import pcfg_config
from mechft.tasks.pcfg import PCFGTask
from mechft.tasks.pcfg_config import PCFGConfig
from mechft.tasks.task import PretrainableTask, Task
from mechft.training.behaviour import EVALUATION_SIZE, evaluation_batches
from mechft.training.config import Loss, TrainConfig, learning_rate_value
from mechft.training.plan import Plan, check_own_task
from mechft.training.precision import Precision
from mechft.training.trained import Trained

PRETRAINING_STEPS = {"tiny": 2000, "small": 10_000, "paper": 200_000}
"""Pretraining steps by preset. Paper: 10K to 200K; its main text has 200K."""


def pretraining_plan(
    preset: str = "tiny",
    prior: str = "low",
    *,
    task: PCFGConfig | PretrainableTask | None = None,
    model: ModelConfig | None = None,
    steps: int | None = None,
    learning_rate: float = 1e-3,
    batch_size: int = 96,
    seed: int = 0,
    evaluation_size: int = EVALUATION_SIZE,
    precision: Precision = "float32",
    loss: Loss = "next_token",
    name: str | None = None,
) -> Plan:
    """What ``pretrain`` does with the same arguments, before it does it."""
    made = _task(task, preset, prior)
    if steps is None:
        if preset not in PRETRAINING_STEPS:
            raise unknown_name("preset", preset, PRETRAINING_STEPS)
        steps = PRETRAINING_STEPS[preset]
    train_config = TrainConfig(
        steps=steps,
        learning_rate=learning_rate_value(learning_rate),
        batch_size=batch_size,
        loss=loss,
        seed=derive_seed(seed, "pretrain"),
        precision=precision,
        evaluate_at=tuple(sorted({0, steps, *range(0, steps, max(1, steps // 10))})),
    )
    shape = _shape(made, preset) if model is None else model
    _check_fits(shape, made)
    weights = build.build_model(shape, seed=derive_seed(seed, "weights"))
    own = not isinstance(made, PCFGTask)
    usual = made.kind if own else f"pcfg-{preset}-{prior.replace('_', '-')}"
    start = Trained(weights, made, name=name or usual)
    queries = {
        f"{family}({operand})": made.query(family, operand)
        for family, operand in _pretraining_queries(made)
    }
    evaluations = evaluation_batches(queries, seed, evaluation_size)
    facts: dict[str, Any] = {"recipe": "pretrain", "preset": preset, "prior": prior, "seed": seed}
    if own:
        facts = {"recipe": "pretrain", "seed": seed, "loss": loss}
    return Plan(start, made.pretraining(), train_config, evaluations, facts)


def _task(given: PCFGConfig | PretrainableTask | None, preset: str, prior: str) -> PretrainableTask:
    """The task asked for: a preset's, or one of the caller's own once it is found to be sound."""
    if given is None or isinstance(given, PCFGConfig):
        return PCFGTask(given or pcfg_config.preset(preset, prior))
    check_own_task(given, pretraining=True)
    return given


def _shape(task: Task, preset: str) -> ModelConfig:
    """A preset's model in the sizes of a task."""
    shape = build.preset(preset, len(task.vocabulary), task.n_ctx)
    return replace(shape, d_vocab_out=len(task.answer_vocabulary))


def _check_fits(shape: ModelConfig, task: Task) -> None:
    sizes = (len(task.vocabulary), len(task.answer_vocabulary))
    require(
        (shape.d_vocab, shape.d_vocab_out) == sizes and shape.n_ctx >= task.n_ctx,
        f"The model reads {shape.d_vocab} tokens, predicts {shape.d_vocab_out} and takes inputs of "
        f"{shape.n_ctx}; the task needs {sizes[0]}, {sizes[1]} and {task.n_ctx}. Take them from the task: "
        "d_vocab=len(task.vocabulary), d_vocab_out=len(task.answer_vocabulary), n_ctx=task.n_ctx.",
    )


def _pretraining_queries(task: Task) -> list[tuple[str, str]]:
    """What to watch while pretraining a task: both operands of its contrast; more of the PCFG's."""
    if isinstance(task, PCFGTask):
        return _pcfg_queries(task.config)
    contrast = task.contrast
    both = (contrast.pretraining_operand, contrast.finetuning_operand)
    return [(contrast.family, operand) for operand in both]


def _pcfg_queries(config: PCFGConfig) -> list[tuple[str, str]]:
    """Counting each letter, the others' usual operand, jailbreak families' a."""
    usual = "abc"[max(range(3), key=lambda i: config.operand_prior[i])]
    rest = {"CC": usual * 2, "I": usual, "IC": usual * 2, "T": "NULL"}
    counting = [("C", letter) for letter in "abc"] if "C" in config.families else []
    jailbreak = [(family, "a") for family in config.jailbreak_families]
    return counting + [(f, o) for f, o in rest.items() if f in config.families] + jailbreak
