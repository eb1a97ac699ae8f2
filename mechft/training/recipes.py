"""Pretrain, fine-tune, reverse fine-tune, and the controls: what the paper does, in a call each."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mechft.errors import require
from mechft.models import build
from mechft.randomness import derive_seed, generator
from mechft.tasks import pcfg_config
from mechft.tasks.batch import Source, TokenBatch
from mechft.tasks.correlation import Correlation
from mechft.tasks.pcfg import PCFGTask
from mechft.tasks.pcfg_config import PCFGConfig
from mechft.training.config import TrainConfig, geometric_steps, learning_rate
from mechft.training.loop import train
from mechft.training.trained import Trained

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

EVALUATION_SIZE = 500  # rows of each evaluation while training: intervals of at most ±4.4 points

PRETRAINING_STEPS = {"tiny": 2000, "small": 10_000, "paper": 200_000}
"""Pretraining steps by preset. Paper: 10K to 200K; its main text has 200K."""


def pretrain(
    preset: str = "tiny",
    prior: str = "low",
    *,
    steps: int | None = None,
    peak_learning_rate: float = 1e-3,
    batch_size: int = 96,
    seed: int = 0,
    directory: str | Path | None = None,
    name: str | None = None,
) -> Trained:
    """Train a model from nothing on all families, with fresh texts at every step (Jain et al., Sec. 4).

    Args:
        preset: Size of task and model: "tiny", "small" or "paper".
        prior: Operand prior: "low", "medium", "high" … or "never_a" for the Scr.+FT control's start.
        steps: Optimiser steps; the preset's number by default.
        peak_learning_rate: Paper: 1e-3.
        batch_size: Paper: 96.
        seed: Seed of weights, batches and evaluations.
        directory: Where to keep checkpoints, to be resumed by the same call.
        name: What tables call the model; "pcfg-PRESET-PRIOR" by default.

    Raises:
        UnknownNameError: If a preset or prior is not known.
        OutputExistsError: If ``directory`` holds another run.

    Cost: tiny takes 5 to 10 minutes on 2 cores.
    """
    config = pcfg_config.preset(preset, prior)
    steps = PRETRAINING_STEPS[preset] if steps is None else steps
    train_config = TrainConfig(
        steps=steps,
        learning_rate=peak_learning_rate,
        batch_size=batch_size,
        loss="next_token",
        seed=derive_seed(seed, "pretrain"),
        evaluate_at=tuple(sorted({0, steps, *range(0, steps, max(1, steps // 10))})),
    )
    task = PCFGTask(config)
    model_config = build.preset(preset, len(task.vocabulary), task.sample_length - 1)
    model = build.build_model(model_config, seed=derive_seed(seed, "weights"))
    start = Trained(model, task, name=name or f"pcfg-{preset}-{prior.replace('_', '-')}")
    queries = {
        f"{family}({operand})": task.query(family, operand)
        for family, operand in _pretraining_queries(config)
    }
    facts = {"recipe": "pretrain", "preset": preset, "prior": prior, "seed": seed}
    evaluations = evaluation_batches(queries, seed)
    return _run(start, task.pretraining(), train_config, evaluations, facts, directory)


def _pretraining_queries(config: PCFGConfig) -> list[tuple[str, str]]:
    """What to watch while pretraining: counting each letter, and each other family's usual operand."""
    usual = "abc"[max(range(3), key=lambda i: config.operand_prior[i])]
    rest = {"CC": usual * 2, "I": usual, "IC": usual * 2, "T": "NULL"}
    counting = [("C", letter) for letter in "abc"] if "C" in config.families else []
    return counting + [(f, o) for f, o in rest.items() if f in config.families]


def finetune(
    base: Trained,
    operand: str = "b",
    *,
    family: str = "C",
    train_correlation: float | None = 1.0,
    offset: int = 1,
    pretraining_operand: str = "a",
    learning_rate: str | float = "L",
    steps: int = 400,
    batch_size: int = 96,
    seed: int = 0,
    evaluation_size: int = EVALUATION_SIZE,
    directory: str | Path | None = None,
    name: str | None = None,
) -> Trained:
    """Teach a copy of ``base`` to answer for another operand (Jain et al., Sec. 4): O_FT.

    During the run the accuracy is measured on both operands, on strings without (``cte0``) and with
    (``cte1``) the correlation: "acc_pt_cte0", "acc_pt_cte1", "acc_ft_cte0", "acc_ft_cte1".

    Args:
        base: The model to start from; it stays as it is.
        operand: O_FT, asked for in every sample.
        family: Task family, "C" (Counter) or "I" (Indexer).
        train_correlation: C_Tr, the probability that r(x, O_FT) − r(x, O_PT) = ``offset`` holds in a
            training string; None for plain grammar strings.
        offset: q.
        pretraining_operand: O_PT, whose fate is watched.
        learning_rate: Peak rate, or "L", "M", "S" (1e-4, 1e-5, 1e-6).
        steps: Optimiser steps. Paper: 10,000; 400 suffice at tiny.
        batch_size: Paper: 96.
        seed: Seed of batches and evaluations.
        evaluation_size: Rows of each evaluation during the run.
        directory: Where to keep checkpoints, to be resumed by the same call.
        name: What tables call the model.

    Raises:
        UnknownNameError: If operand, family or learning rate is not known.
        ConfigError: If the correlation cannot be planted, or a number is out of range.
        OutputExistsError: If ``directory`` holds another run.

    Cost: at tiny, 400 steps take 20 to 60 s on 2 cores.
    """
    task = base.task
    correlation = None
    if train_correlation is not None:
        correlation = Correlation(train_correlation, offset, pretraining_operand, operand)
    source = task.query(family, operand, correlation)
    config = _finetuning_config(learning_rate, steps, batch_size, seed, "finetune")
    facts = {
        "recipe": "finetune",
        "family": family,
        "operand": operand,
        "pretraining_operand": pretraining_operand,
        "train_correlation": train_correlation,
        "offset": offset,
        "seed": seed,
    }
    start = base.renamed(name or f"{base.name}+ft")
    queries = behaviour_queries(task, family, pretraining_operand, operand, offset)
    evaluations = evaluation_batches(queries, seed, evaluation_size)
    return _run(start, source, config, evaluations, facts, directory)


def reverse_finetune(
    model: Trained,
    operand: str = "a",
    *,
    family: str = "C",
    finetuning_operand: str = "b",
    offset: int = 1,
    learning_rate: str | float = 3e-5,
    steps: int = 200,
    batch_size: int = 96,
    seed: int = 0,
    stop_at: float | None = None,
    evaluation_size: int = EVALUATION_SIZE,
    directory: str | Path | None = None,
    name: str | None = None,
) -> Trained:
    """Fine-tune a copy back on the pretraining task: reFT (Jain et al., Sec. 4 and App. D).

    Given a model that never was asked for ``operand``, the same call is the Scr.+FT control.

    Args:
        model: The fine-tuned model, or a control's start; it stays as it is.
        operand: O_PT, asked for in every sample, on plain grammar strings.
        family: Task family.
        finetuning_operand: O_FT, whose fate is watched.
        offset: q of the strings on which both are watched.
        learning_rate: Peak rate; the paper's is smaller than in fine-tuning, hence 3e-5 by default.
        steps: Optimiser steps.
        batch_size: Paper: 96.
        seed: Seed of batches and evaluations.
        stop_at: Accuracy on O_PT (``acc_pt_cte0``) at which to stop early.
        evaluation_size: Rows of each evaluation during the run.
        directory: Where to keep checkpoints, to be resumed by the same call.
        name: What tables call the model.

    Raises:
        As ``finetune``.

    Cost: as ``finetune``.
    """
    task = model.task
    config = _finetuning_config(learning_rate, steps, batch_size, seed, "reverse_finetune")
    if stop_at is not None:
        require(0 <= stop_at <= 1, f"stop_at is an accuracy in 0..1; got {stop_at}.")
        config = replace(config, stop_at=("acc_pt_cte0", stop_at))
    facts = {"recipe": "reverse_finetune", "family": family, "operand": operand, "seed": seed}
    start = model.renamed(name or f"{model.name}+reft")
    queries = behaviour_queries(task, family, operand, finetuning_operand, offset)
    evaluations = evaluation_batches(queries, seed, evaluation_size)
    return _run(start, task.query(family, operand), config, evaluations, facts, directory)


def scratch(
    like: Trained,
    operand: str = "a",
    *,
    learning_rate: str | float = 1e-3,
    seed: int = 0,
    **settings: Any,
) -> Trained:
    """The Scr. control: a freshly initialised model of the same shape, trained on O_PT alone.

    Args:
        like: A model whose shape and task are taken; nothing else of it is.
        operand: O_PT.
        learning_rate: Peak rate; the pretraining rate by default.
        seed: Seed of weights, batches and evaluations.
        **settings: As in ``reverse_finetune``.
    """
    fresh = build.build_model(build.model_config(like.model), seed=derive_seed(seed, "scratch"))
    start = Trained(fresh, like.task, name="Scr.")
    return reverse_finetune(
        start, operand, learning_rate=learning_rate, seed=seed, name="Scr.", **settings
    )


def behaviour_queries(
    task: PCFGTask,
    family: str = "C",
    pretraining_operand: str = "a",
    finetuning_operand: str = "b",
    offset: int = 1,
) -> dict[str, Source]:
    """The four questions of the paper's tables: O_PT and O_FT at C_Te = 0 and 1."""
    operands = {"pt": pretraining_operand, "ft": finetuning_operand}
    return {
        f"acc_{which}_cte{test}": task.query(
            family, operand, Correlation(test, offset, pretraining_operand, finetuning_operand)
        )
        for which, operand in operands.items()
        for test in (0, 1)
    }


def evaluation_batches(
    queries: Mapping[str, Source], seed: int, size: int = EVALUATION_SIZE
) -> dict[str, TokenBatch]:
    """One fixed batch a query, drawn from streams that no training batch uses."""
    return {n: q.sample(size, generator(seed, "evaluate", n)) for n, q in queries.items()}


def _finetuning_config(
    rate: str | float, steps: int, batch_size: int, seed: int, stream: str
) -> TrainConfig:
    return TrainConfig(
        steps=steps,
        learning_rate=learning_rate(rate),
        batch_size=batch_size,
        seed=derive_seed(seed, stream),
        evaluate_at=geometric_steps(steps),
    )


def _run(
    start: Trained,
    source: Source,
    config: TrainConfig,
    evaluations: Mapping[str, TokenBatch],
    facts: dict[str, Any],
    directory: str | Path | None,
) -> Trained:
    model = build.clone(start.model)
    records = train(
        model,
        source,
        config,
        evaluations=evaluations,
        directory=directory,
        label=start.name,
        identity={**facts, "task": start.task.to_dict(), "start": fingerprint(start.model)},
    )
    last = max(record["step"] for record in records)
    final = {r["evaluation"]: r["accuracy"] for r in records if r["step"] == last}
    entry = {
        **facts,
        "learning_rate": config.learning_rate,
        "steps": config.steps,
        "batch_size": config.batch_size,
        "final": final,
    }
    return Trained(model, start.task, (*start.lineage, entry), tuple(records), start.name)


def fingerprint(model: HookedTransformer) -> str:
    """A short hash of a model's weights: the same weights, the same name."""
    digest = hashlib.blake2b(digest_size=8)
    for name, parameter in model.named_parameters():
        digest.update(name.encode())
        digest.update(parameter.detach().contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()
