"""Pretrain, fine-tune, reverse fine-tune: what the paper does, in a call each; ``controls`` has controls."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from mechft.models.build import ModelConfig
from mechft.tasks.contrast import Contrast
from mechft.tasks.pcfg_config import PCFGConfig
from mechft.tasks.task import PretrainableTask
from mechft.training.behaviour import EVALUATION_SIZE
from mechft.training.callbacks import Callback
from mechft.training.config import Loss
from mechft.training.plan import carry_out, finetuning_plan, reversal_plan
from mechft.training.precision import Precision
from mechft.training.pretraining import pretraining_plan
from mechft.training.trained import Trained


def pretrain(
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
    device: torch.device | str = "cpu",
    precision: Precision = "float32",
    loss: Loss = "next_token",
    directory: str | Path | None = None,
    callbacks: Sequence[Callback] = (),
    name: str | None = None,
) -> Trained:
    """Train a model from nothing on all families, with fresh texts at every step (Jain et al., Sec. 4).

    Or on a task of your own: an object of a subclass of ``OwnTask`` (``mechft.tasks.own``), or of any class
    that has the members of ``PretrainableTask``. It is checked before anything is trained.

    Args:
        preset: Size of task and model: "tiny", "small" or "paper".
        prior: Operand prior: "low", "medium", "high" … or "never_a" for the Scr.+FT control's start.
        task: A task of your own, or other settings of the grammar's, instead of the preset's; ``prior`` is
            then not used.
        model: A shape of your own instead of the preset's.
        steps: Optimiser steps; the preset's number by default.
        learning_rate: Peak rate. Paper: 1e-3.
        batch_size: Paper: 96.
        seed: Seed of weights, batches and evaluations.
        evaluation_size: Rows of each evaluation during the run.
        device: Where to train. Other recipes train where the model is that they are given.
        precision: "float32"; "tf32" or "bf16" for faster steps on a GPU (``mechft.training.precision``).
        loss: "next_token", every token's and the answer's once more; or the "answer"'s alone, which suffices
            where strings are random, and is all there is where answers are no tokens.
        directory: Where to keep checkpoints, to be resumed by the same call, and the finished model.
        callbacks: Told what happens during the run; see ``mechft.training.callbacks``.
        name: What tables call the model; "pcfg-PRESET-PRIOR" by default, or the kind of a task of your own.

    Raises:
        UnknownNameError: If a preset or prior is not known.
        ConfigError: If a task of your own lacks a method, which it names, or contradicts itself
            (``mechft.tasks.protocol.check_task``); if ``model`` has other sizes than the task.
        OutputExistsError: If ``directory`` holds another run.

    Cost: tiny takes 5 to 10 minutes on 2 cores.

    Example:
        >>> import mechft as mf
        >>> base = mf.pretrain("tiny", "low", steps=2, batch_size=8, evaluation_size=20)
        >>> base.name, base.lineage[-1]["recipe"]
        ('pcfg-tiny-low', 'pretrain')
        >>> base.model.cfg.n_layers, base.model.cfg.n_ctx
        (3, 40)
    """
    plan = pretraining_plan(
        preset,
        prior,
        task=task,
        model=model,
        steps=steps,
        learning_rate=learning_rate,
        batch_size=batch_size,
        seed=seed,
        evaluation_size=evaluation_size,
        precision=precision,
        loss=loss,
        name=name,
    )
    return carry_out(plan.on(device), directory, callbacks)


def finetune(
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
    directory: str | Path | None = None,
    callbacks: Sequence[Callback] = (),
    name: str | None = None,
) -> Trained:
    """Teach a copy of ``base`` to answer for another operand (Jain et al., Sec. 4): O_FT.

    During the run the accuracy is measured on both operands, on strings without (``cte0``) and with
    (``cte1``) the correlation: "acc_pt_cte0", "acc_pt_cte1", "acc_ft_cte0", "acc_ft_cte1".

    What is not given is the task's: operands, family and offset from ``base.task.contrast`` (PCFG: the
    count of a against the count of b, q = 1), the way of training from ``mechft.training.protocols``
    (PCFG: AdamW, 400 steps; compiled programs: SGD, 10,000 steps).

    Args:
        base: The model to start from; it stays as it is.
        operand: O_FT, asked for in every sample.
        family: Task family. PCFG: "C" (Counter) or "I" (Indexer); another with
            ``train_correlation=None``. A program has one, its name.
        train_correlation: C_Tr, the probability that r(x, O_FT) − r(x, O_PT) = ``offset`` holds in a
            training string; None for plain strings.
        offset: q.
        pretraining_operand: O_PT, whose fate is watched.
        pretraining_share: Probability that a row is one of pretraining (any family and operand, by the
            task's prior) instead; its loss, too, is on the answer only. Paper (App. E.1): 0.5, 0.1,
            0.001. The other rows are those of the same run without it.
        randomised: randFT (App. E.4): ask for O_PT and teach r(x, O_FT) as its answer, on strings as
            ``train_correlation`` says. "acc_randomised" measures how far that was learned, at C_Te = 0
            (equal counts included: see ``behaviour_queries``); the other evaluations ask for right
            answers, as ever.
        learning_rate: Peak rate, or its name: "L", "M", "S" (PCFG: 1e-4, 1e-5, 1e-6, by default L;
            programs: 1e-1, 1e-2, 1e-3, "VS" 1e-4, by default M).
        steps: Optimiser steps. Paper: 10,000; 200 to 400 suffice for PCFG models at tiny.
        batch_size: Paper: 96.
        seed: Seed of batches and evaluations.
        evaluation_size: Rows of each evaluation during the run.
        precision: "float32"; "tf32" or "bf16" for faster steps on a GPU (``mechft.training.precision``).
        directory: Where to keep checkpoints, to be resumed by the same call, and the finished model.
        callbacks: Told what happens during the run; see ``mechft.training.callbacks``.
        name: What tables call the model.

    Raises:
        UnknownNameError: If operand, family or learning rate is not known.
        ConfigError: If the correlation cannot be planted, a number is out of range, the task does not
            take ``pretraining_share`` or ``randomised`` (compiled programs take neither), or a task of your
            own contradicts itself (``mechft.tasks.protocol.check_task``).
        OutputExistsError: If ``directory`` holds another run.

    Cost: at tiny, 400 steps take about a minute on 2 cores.

    Example:
        >>> import mechft as mf
        >>> base = mf.load("pcfg-tiny-low")
        >>> ft = mf.finetune(base, "b", train_correlation=1.0, steps=2, batch_size=8, evaluation_size=20)
        >>> [entry["recipe"] for entry in ft.lineage]
        ['pretrain', 'finetune']
        >>> sorted(set(ft.history["evaluation"]))
        ['acc_ft_cte0', 'acc_ft_cte1', 'acc_pt_cte0', 'acc_pt_cte1']
    """
    plan = finetuning_plan(
        base,
        operand,
        family=family,
        train_correlation=train_correlation,
        offset=offset,
        pretraining_operand=pretraining_operand,
        pretraining_share=pretraining_share,
        randomised=randomised,
        learning_rate=learning_rate,
        steps=steps,
        batch_size=batch_size,
        seed=seed,
        evaluation_size=evaluation_size,
        precision=precision,
        name=name,
    )
    return carry_out(plan, directory, callbacks)


def reverse_finetune(
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
    directory: str | Path | None = None,
    callbacks: Sequence[Callback] = (),
    name: str | None = None,
) -> Trained:
    """Fine-tune a copy back on the pretraining task: reFT (Jain et al., Sec. 4 and App. D).

    Trains on the pretraining operand, on plain strings, and watches what returns
    ("acc_pt_cte0") and what goes ("acc_ft_cte1").

    Args:
        model: The fine-tuned model; it stays as it is.
        contrast: Which operand to go back to and which to watch beside it; by default the ones
            ``model`` was fine-tuned with.
        learning_rate: Peak rate or its name; the paper's is smaller than in fine-tuning, hence 3e-5 by
            default for PCFG models and "S" (1e-3) for programs.
        steps: Optimiser steps of the whole schedule; by default as many as ``finetune``.
        batch_size: Paper: 96.
        seed: Seed of batches and evaluations.
        stop_at: Accuracy on O_PT at which to stop early.
        evaluation_size: Rows of each evaluation during the run.
        precision: "float32"; "tf32" or "bf16" for faster steps on a GPU (``mechft.training.precision``).
        directory: Where to keep checkpoints, to be resumed by the same call, and the finished model.
        callbacks: Told what happens during the run; see ``mechft.training.callbacks``.
        name: What tables call the model.

    Raises:
        As ``finetune``.

    Cost: at tiny, 400 steps take about a minute on 2 cores.

    Example:
        >>> import mechft as mf
        >>> ft = mf.load("pcfg-tiny-low-to-b")
        >>> back = mf.reverse_finetune(ft, steps=2, batch_size=8, evaluation_size=20)
        >>> [entry["recipe"] for entry in back.lineage]
        ['pretrain', 'finetune', 'reverse_finetune']
        >>> back.revival(threshold=0.95)  # None: two steps are not enough
    """
    plan = reversal_plan(
        model,
        contrast=contrast,
        learning_rate=learning_rate,
        steps=steps,
        batch_size=batch_size,
        seed=seed,
        stop_at=stop_at,
        evaluation_size=evaluation_size,
        precision=precision,
        name=name,
    )
    return carry_out(plan, directory, callbacks)
