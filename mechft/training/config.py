"""How to train: the settings of a run, learning rates by name, when to evaluate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from mechft.errors import require, unknown_name

LEARNING_RATES: dict[str, float] = {"L": 1e-4, "M": 1e-5, "S": 1e-6}
"""The paper's fine-tuning rates for PCFG models (App. B), by its names."""


def learning_rate_value(value: str | float) -> float:
    """A learning rate given as a number or by the paper's name.

    Raises:
        UnknownNameError: If the name is not known.
        ConfigError: If the number is not positive and finite.
    """
    if isinstance(value, str):
        if value not in LEARNING_RATES:
            raise unknown_name("learning rate", value, LEARNING_RATES)
        return LEARNING_RATES[value]
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
        loss: "answer" looks at the answer token only (fine-tuning); "next_token" at every token,
            with ``answer_weight`` times the answer's loss added (pretraining).
        answer_weight: See ``loss``. The paper trains on next tokens alone; among 40 tokens, of which
            most are free choices of the grammar, the answer would be learned far more slowly.
        warmup_fraction: Share of the steps spent warming up. Paper: 0.2.
        final_fraction: Last learning rate as a share of the peak. Paper: 0.01.
        weight_decay: AdamW's, on parameters of two or more axes: matrices, embeddings, and the per-head
            biases b_Q, b_K, b_V, which TransformerLens keeps as [head, d_head].
        betas: AdamW's; minGPT's values.
        gradient_clip: Largest gradient norm, as in minGPT.
        seed: Seed of the batches.
        evaluate_at: Numbers of steps after which to evaluate, in 0..steps; 0 is always evaluated.
        checkpoint_every: Steps between checkpoints.
        stop_at: Evaluation and accuracy at which to stop early, if any.

    Raises:
        ConfigError: If a value is out of range.
    """

    steps: int
    learning_rate: float
    batch_size: int = 96
    loss: Literal["answer", "next_token"] = "answer"
    answer_weight: float = 1.0
    warmup_fraction: float = 0.2
    final_fraction: float = 0.01
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.95)
    gradient_clip: float = 1.0
    seed: int = 0
    evaluate_at: tuple[int, ...] = ()
    checkpoint_every: int = 100
    stop_at: tuple[str, float] | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "checkpoint_every"):
            value = getattr(self, name)
            require(
                isinstance(value, int) and value >= 1,
                f"{name} must be a whole number of at least 1; got {value!r}.",
            )
        learning_rate_value(self.learning_rate)
        for name in ("answer_weight", "weight_decay"):
            value = getattr(self, name)
            require(math.isfinite(value) and value >= 0, f"{name} is at least 0; got {value}.")
        require(
            self.gradient_clip > 0, f"gradient_clip must be positive; got {self.gradient_clip}."
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


def geometric_steps(steps: int, per_decade: int = 4) -> tuple[int, ...]:
    """Step counts to evaluate at: 0, 1, … ever further apart, and the last."""
    count = int(per_decade * math.log10(max(2, steps))) + 1
    grid = {round(10 ** (i / per_decade)) for i in range(count + 1)}
    return tuple(sorted({0, steps, *(s for s in grid if s <= steps)}))
