"""How each kind of task is fine-tuned: the paper's settings, and ours where it has none.

What recipes fall back on. A task of one's own has ``OWN_TASK`` unless ``PROTOCOLS`` gets an entry for its
kind::

    PROTOCOLS["Sums"] = replace(OWN_TASK, learning_rate=1e-3, steps=100)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mechft.errors import require, unknown_name
from mechft.tasks.task import KINDS, Task
from mechft.training.config import TrainConfig, learning_rate_value


@dataclass(frozen=True)
class TrainingProtocol:
    """How models of one kind of task are fine-tuned, reverse fine-tuned and trained from scratch.

    Attributes:
        learning_rates: Peak rates by the paper's names.
        learning_rate: The rate of fine-tuning if none is given, by name.
        reverse_learning_rate: The same for reFT; the paper's is smaller than fine-tuning's.
        scratch_learning_rate: The same for the Scr. control.
        steps: Optimiser steps of fine-tuning and reFT.
        scratch_steps: Optimiser steps of the Scr. control.
        optimizer, momentum, gradient_clip, batch_size, warmup_fraction, final_fraction, frozen: As
            in ``TrainConfig``.

    Raises:
        ConfigError: If a default rate is no positive number.
        UnknownNameError: If it is no name of ``learning_rates`` either.
    """

    learning_rates: Mapping[str, float]
    learning_rate: str | float
    reverse_learning_rate: str | float
    scratch_learning_rate: str | float
    steps: int
    scratch_steps: int
    optimizer: Literal["adamw", "sgd"] = "adamw"
    momentum: float = 0.9
    gradient_clip: float | None = None
    batch_size: int = 96
    warmup_fraction: float = 0.2
    final_fraction: float = 0.01
    frozen: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require(bool(self.learning_rates), "A protocol names at least one learning rate.")
        for rate in (self.learning_rate, self.reverse_learning_rate, self.scratch_learning_rate):
            self.rate(rate)

    def rate(self, value: str | float) -> float:
        """A learning rate given as a number or by one of this protocol's names.

        Raises:
            UnknownNameError: If the name is not known.
            ConfigError: If the number is not positive and finite.
        """
        return learning_rate_value(value, self.learning_rates)

    def config(
        self, learning_rate: str | float, steps: int, batch_size: int | None, **settings: Any
    ) -> TrainConfig:
        """A run of this protocol; ``batch_size`` None is the protocol's, ``settings`` the rest."""
        return TrainConfig(
            steps=steps,
            learning_rate=self.rate(learning_rate),
            batch_size=self.batch_size if batch_size is None else batch_size,
            optimizer=self.optimizer,
            momentum=self.momentum,
            gradient_clip=self.gradient_clip,
            warmup_fraction=self.warmup_fraction,
            final_fraction=self.final_fraction,
            frozen=self.frozen,
            **settings,
        )


PROTOCOLS: dict[str, TrainingProtocol] = {
    # Paper, Sec. 4 and App. B: AdamW, batch 96, 20% warm-up, cosine to 1/100, 10,000 steps, these rates.
    # Ours: 400 steps, which suffice at tiny; clipping and betas as in minGPT; reFT between L and M; the
    # pretraining rate from scratch.
    "pcfg": TrainingProtocol(
        learning_rates={"L": 1e-4, "M": 1e-5, "S": 1e-6},
        learning_rate="L",
        reverse_learning_rate=3e-5,
        scratch_learning_rate=1e-3,
        steps=400,
        scratch_steps=2000,
        gradient_clip=1.0,
    ),
    # Paper, App. C: SGD with momentum, batch 96, 10,000 steps of which 2,000 warm up, cosine to 1/100,
    # these rates. It does not say how much momentum (0.9 here), and has reFT at rates below fine-tuning's
    # (one below the default here). It does not speak of clipping: without it both programs run away at L
    # and M within 30 steps (compiled weights reach 100), so gradients are clipped at minGPT's norm of 1.
    "program": TrainingProtocol(
        learning_rates={"L": 1e-1, "M": 1e-2, "S": 1e-3, "VS": 1e-4},
        learning_rate="M",
        reverse_learning_rate="S",
        scratch_learning_rate="L",
        steps=10_000,
        scratch_steps=10_000,
        optimizer="sgd",
        gradient_clip=1.0,
        # Tracr's unembedding reads the output channels of the residual stream. It belongs to how answers
        # are read, and is no weight that the program was compiled into.
        frozen=("unembed.W_U", "unembed.b_U"),
    ),
}
"""How models are trained, by kind of task."""

OWN_TASK = PROTOCOLS["pcfg"]
"""How models of a task of one's own are trained, unless ``PROTOCOLS`` says otherwise."""


def protocol_of(task: Task) -> TrainingProtocol:
    """The protocol of a task's kind; ``OWN_TASK`` for a registered one that has none of its own.

    Raises:
        UnknownNameError: If the kind is neither registered nor among ``PROTOCOLS``; lists these.
    """
    if task.kind not in PROTOCOLS:
        if task.kind in KINDS:
            return OWN_TASK
        raise unknown_name("kind of task in mechft.training.protocols", task.kind, PROTOCOLS)
    return PROTOCOLS[task.kind]
