"""The controls of reverse fine-tuning: Scr., from nothing, and Scr.+FT, never asked for what comes back."""

from __future__ import annotations

from pathlib import Path

import torch

from mechft.models import build
from mechft.randomness import derive_seed
from mechft.tasks.contrast import Contrast
from mechft.training.behaviour import EVALUATION_SIZE
from mechft.training.precision import Precision
from mechft.training.protocols import protocol_of
from mechft.training.recipes import reverse_finetune
from mechft.training.trained import Trained


def fresh(like: Trained, seed: int = 0, name: str = "Scr.") -> Trained:
    """A freshly initialised model of the same shape and task: the start of the Scr. control.

    ``reverse_finetune(fresh(base), learning_rate=1e-3)`` is Scr. (from scratch on O_PT alone), and
    ``reverse_finetune(load("pcfg-tiny-never-a"))`` is Scr.+FT: pretrained alike, O_PT never asked for.

    What the task's protocol freezes (a program's unembedding) is copied: it says how an answer is read,
    and is nothing to be learned. Device, dtype and the names of residual channels are kept, too.
    """
    drawn = build.build_model(build.model_config(like.model), seed=derive_seed(seed, "scratch"))
    model = build.clone(like.model)  # keeps what is no weight: device, dtype, names of channels
    frozen = protocol_of(like.task).frozen
    with torch.no_grad():
        for parameter, weights in drawn.named_parameters():
            if parameter not in frozen:
                model.get_parameter(parameter).copy_(weights)
    return Trained(model, like.task, ({"recipe": "fresh", "seed": seed},), name=name)


def scratch(
    like: Trained,
    *,
    learning_rate: str | float | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    stop_at: float | None = None,
    evaluation_size: int = EVALUATION_SIZE,
    precision: Precision = "float32",
    directory: str | Path | None = None,
) -> Trained:
    """The Scr. control (App. E.4): a model of the same shape, from nothing, on O_PT alone.

    Args:
        like: The fine-tuned model it is a control for; gives shape, task and contrast, no weights.
        learning_rate: Peak rate or its name; by default the pretraining rate (1e-3) for PCFG models and
            "L" for programs.
        steps: Optimiser steps; 2,000 by default for PCFG models, 10,000 for programs.
        seed: Seed of weights, batches and evaluations.
        batch_size, stop_at, evaluation_size, precision, directory: As in ``reverse_finetune``.

    Returns:
        The control, named "Scr."; its ``history`` has the evaluations of ``reverse_finetune``.

    Raises:
        As ``reverse_finetune``.

    Cost: as ``reverse_finetune``, a step; at tiny five times as many steps by default.

    Example:
        >>> import mechft as mf
        >>> ft = mf.load("pcfg-tiny-low-to-b")
        >>> control = mf.scratch(ft, steps=1, batch_size=8, evaluation_size=20)
        >>> control.name, control.lineage[-1]["recipe"]
        ('Scr.', 'reverse_finetune')
    """
    protocol = protocol_of(like.task)
    return reverse_finetune(
        fresh(like, seed),
        contrast=like.contrast,
        learning_rate=protocol.scratch_learning_rate if learning_rate is None else learning_rate,
        steps=protocol.scratch_steps if steps is None else steps,
        batch_size=batch_size,
        seed=seed,
        stop_at=stop_at,
        evaluation_size=evaluation_size,
        precision=precision,
        directory=directory,
        name="Scr.",
    )


def scratch_finetune(
    start: Trained,
    *,
    contrast: Contrast | None = None,
    learning_rate: str | float | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    stop_at: float | None = None,
    evaluation_size: int = EVALUATION_SIZE,
    precision: Precision = "float32",
    directory: str | Path | None = None,
) -> Trained:
    """The Scr.+FT control: reFT's training on a model that was never asked for O_PT.

    Args:
        start: A model pretrained without O_PT, such as the bundled "pcfg-tiny-never-a", or a program
            compiled for O_FT.
        contrast, learning_rate, steps, batch_size: As in ``reverse_finetune``; give both the same, or they
            cannot be compared.
        seed, stop_at, evaluation_size, precision, directory: As in ``reverse_finetune``.

    Returns:
        The control, named "Scr.+FT".

    Raises:
        As ``reverse_finetune``.

    Source: Jain et al. (2024), App. E.4.

    Cost: as ``reverse_finetune``.

    Example:
        >>> import mechft as mf
        >>> never = mf.load("pcfg-tiny-never-a")
        >>> control = mf.scratch_finetune(never, steps=2, batch_size=8, evaluation_size=20)
        >>> control.name, [entry["recipe"] for entry in control.lineage]
        ('Scr.+FT', ['pretrain', 'reverse_finetune'])
    """
    return reverse_finetune(
        start,
        contrast=contrast,
        learning_rate=learning_rate,
        steps=steps,
        batch_size=batch_size,
        seed=seed,
        stop_at=stop_at,
        evaluation_size=evaluation_size,
        precision=precision,
        directory=directory,
        name="Scr.+FT",
    )
