"""How to train: the settings of a run, and when to evaluate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from mechft.errors import require, unknown_name
from mechft.training.precision import PRECISIONS, Precision
from mechft.training.schedule import warmup_cosine

_NO_NAMES: Mapping[str, float] = MappingProxyType({})
ADAMW_WEIGHT_DECAY = 0.01
Loss = Literal["answer", "next_token"]


def learning_rate_value(value: str | float, names: Mapping[str, float] = _NO_NAMES) -> float:
    """A learning rate given as a number or by name; ``mechft.training.protocols`` has the names.

    Raises:
        UnknownNameError: If the name is not among ``names``.
        ConfigError: If the number is not positive and finite.
    """
    if isinstance(value, str):
        if value not in names:
            raise unknown_name("learning rate", value, names)
        return names[value]
    require(
        math.isfinite(value) and value > 0, f"A learning rate is positive and finite; got {value}."
    )
    return float(value)


@dataclass(frozen=True)
class TrainConfig:
    """How to train; what to train on is the source's business.

    Attributes:
        steps: Optimiser steps.
        learning_rate: Peak learning rate.
        batch_size: Samples a step. Paper: 96.
        micro_batches: Parts in which a batch is computed, one after the other, to bound memory; the step
            is the whole batch's.
        loss: "answer" looks at the answer token only (fine-tuning); "next_token" at every token,
            with ``answer_weight`` times the answer's loss added (pretraining).
        answer_weight: See ``loss``. The paper trains on next tokens alone; among 40 tokens, of which
            most are free choices of the grammar, the answer would be learned far more slowly.
        warmup_fraction: Share of the steps spent warming up. Paper: 0.2.
        final_fraction: Last learning rate as a share of the peak. Paper: 0.01.
        optimizer: "adamw" (PCFG models) or "sgd" (compiled programs).
        momentum: SGD's, without dampening; AdamW has none.
        weight_decay: On parameters of two or more axes: matrices, embeddings, and the per-head
            biases b_Q, b_K, b_V, which TransformerLens keeps as [head, d_head]. None is 0.01 for
            AdamW and nothing for SGD. AdamW's is decoupled from the gradient, SGD's is added to it.
        betas: AdamW's; minGPT's values.
        gradient_clip: Largest gradient norm, as in minGPT; None for no clipping.
        frozen: Names of parameters that are not trained: no step and no decay changes a bit of
            them, and the clipped norm does not count them.
        seed: Seed of the batches.
        evaluate_at: Numbers of steps after which to evaluate, in 0..steps; 0 is always evaluated.
        checkpoint_every: Steps between checkpoints.
        stop_at: Evaluation and accuracy at which to stop early, if any.
        precision: Of the training steps' products, where faster ones are to be had: see
            ``mechft.training.precision``. Weights and evaluations are in float32 whatever it is.

    Raises:
        ConfigError: If a value is out of range.
    """

    steps: int
    learning_rate: float
    batch_size: int = 96
    micro_batches: int = 1
    loss: Loss = "answer"
    answer_weight: float = 1.0
    warmup_fraction: float = 0.2
    final_fraction: float = 0.01
    optimizer: Literal["adamw", "sgd"] = "adamw"
    momentum: float = 0.9
    weight_decay: float | None = None
    betas: tuple[float, float] = (0.9, 0.95)
    gradient_clip: float | None = 1.0
    frozen: tuple[str, ...] = ()
    seed: int = 0
    evaluate_at: tuple[int, ...] = ()
    checkpoint_every: int = 100
    stop_at: tuple[str, float] | None = None
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        require(
            isinstance(self.frozen, tuple) and all(isinstance(name, str) for name in self.frozen),
            f"frozen is a tuple of parameter names; got {self.frozen!r}.",
        )
        for name in ("steps", "batch_size", "micro_batches", "checkpoint_every"):
            value = getattr(self, name)
            require(
                isinstance(value, int) and value >= 1,
                f"{name} must be a whole number of at least 1; got {value!r}.",
            )
        require(
            self.micro_batches <= self.batch_size,
            f"A batch of {self.batch_size} rows has at most as many parts; got {self.micro_batches}.",
        )
        learning_rate_value(self.learning_rate)
        for name, value in (("answer_weight", self.answer_weight), ("weight_decay", self.decay)):
            require(math.isfinite(value) and value >= 0, f"{name} is at least 0; got {value}.")
        require(
            self.gradient_clip is None or self.gradient_clip > 0,
            f"gradient_clip must be positive, or None for no clipping; got {self.gradient_clip}.",
        )
        require(0 <= self.momentum < 1, f"momentum lies in [0, 1); got {self.momentum}.")
        require(
            not isinstance(self.frozen, str),
            f'frozen is a tuple of parameter names, such as ("unembed.W_U",); got {self.frozen!r}.',
        )
        require(
            len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas),
            f"betas are two numbers in [0, 1); got {self.betas}.",
        )
        outside = [step for step in self.evaluate_at if not 0 <= step <= self.steps]
        require(
            not outside, f"evaluate_at lies in 0..{self.steps}, the run's steps; got {outside}."
        )
        if self.stop_at is not None:
            threshold = self.stop_at[1]
            require(0 <= threshold <= 1, f"stop_at is an accuracy in 0..1; got {threshold}.")
        for name in ("warmup_fraction", "final_fraction"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"{name} lies in 0..1; got {value}.")
        if self.loss not in ("answer", "next_token"):
            raise unknown_name("loss", self.loss, ("answer", "next_token"))
        if self.optimizer not in ("adamw", "sgd"):
            raise unknown_name("optimizer", self.optimizer, ("adamw", "sgd"))
        if self.precision not in PRECISIONS:
            raise unknown_name("precision", self.precision, PRECISIONS)

    @property
    def decay(self) -> float:
        """The weight decay in force: the one asked for, or the optimiser's own."""
        if self.weight_decay is not None:
            return self.weight_decay
        return ADAMW_WEIGHT_DECAY if self.optimizer == "adamw" else 0.0

    def rate(self, step: int) -> float:
        """The learning rate of one step, counted from 0."""
        return warmup_cosine(
            step, self.steps, self.learning_rate, self.warmup_fraction, self.final_fraction
        )


def geometric_steps(steps: int, per_decade: int = 4) -> tuple[int, ...]:
    """Step counts to evaluate at: 0, 1, … ever further apart, and the last."""
    count = int(per_decade * math.log10(max(2, steps))) + 1
    grid = {round(10 ** (i / per_decade)) for i in range(count + 1)}
    return tuple(sorted({0, steps, *(s for s in grid if s <= steps)}))
