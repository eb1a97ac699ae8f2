"""Settings of ``mechft zoo build``; free of torch, so that the command line can start fast."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mechft.errors import require, unknown_name
from mechft.tasks.program_config import ProgramName

BUNDLED_PRIORS = ("low", "medium", "high", "never_a")


@dataclass(frozen=True)
class FinetunedModel:
    """How a bundled fine-tuned model is made of a bundled base.

    Attributes:
        base: Name of the bundled model it starts from.
        operand: O_FT; the base's contrast says the rest.
        train_correlation: C_Tr.
        steps: Optimiser steps.
    """

    base: str
    operand: str
    train_correlation: float
    steps: int


BUNDLED_FINETUNED = {"pcfg-tiny-low-to-b": FinetunedModel("pcfg-tiny-low", "b", 1.0, 200)}
"""Fine-tuned models by name: what analyses look at, ready made, so that nobody waits for training."""


@dataclass(frozen=True)
class StoryModel:
    """Which model of a stories study is bundled.

    Attributes:
        model: "base", "deleted" or "never" (pretrained on the stories without the feature).
        protocol, rate: Of deletion.
    """

    model: str
    protocol: str = ""
    rate: str = ""


BUNDLED_STORIES = {
    "stories-tiny-base": StoryModel("base"),
    "stories-tiny-deleted": StoryModel("deleted", "F+RR", "M"),
    "stories-tiny-never": StoryModel("never"),
}
"""Story models by name; the protocol is the one that deletes most in the paper's Table 1."""
BUNDLED_PROGRAMS: dict[str, tuple[ProgramName, str]] = {
    "tracr-counter": ("counter", "a"),
    "tracr-counter-b": ("counter", "b"),
    "tracr-max": ("max", "5"),
    "tracr-max-6": ("max", "6"),
    "tracr-max-7": ("max", "7"),
}
"""Compiled programs by the name of their model: program and operand. All but two answer for an O_FT: the
controls that never answered for O_PT."""


@dataclass(frozen=True)
class ZooConfig:
    """Make the models that ship with the package anew and write them with their manifest.

    Example: mechft zoo build --out zoo --priors low never_a --programs tracr-counter

    Attributes:
        out: Folder for the models and manifest.json; models already in it are kept.
        priors: Operand priors to pretrain with.
        programs: Programs to compile, by the name of their model ("tracr-counter" …); none by default,
            because these need the extra "tracr".
        finetuned: Models to fine-tune ("pcfg-tiny-low-to-b"), each from its base as it is bundled; none by
            default.
        stories: Folder of a finished ``mechft reproduce tinystories --seeds 1`` (its ``--out``), from which
            the story models are taken; none by default.
        seed: Seed of weights, batches and evaluations.
        steps: Training steps of each model; 0 means the preset's, or the fine-tuned model's own.
    """

    out: Path = Path("zoo")
    priors: tuple[str, ...] = BUNDLED_PRIORS
    programs: tuple[str, ...] = ()
    finetuned: tuple[str, ...] = ()
    stories: Path | None = None
    seed: int = 0
    steps: int = 0

    def __post_init__(self) -> None:
        require(
            bool(self.priors or self.programs or self.finetuned or self.stories),
            "Give at least one operand prior to pretrain with, program to compile, model to fine-tune or "
            "study of stories; got none.",
        )
        for name in self.programs:
            if name not in BUNDLED_PROGRAMS:
                raise unknown_name("compiled program", name, BUNDLED_PROGRAMS)
        for name in self.finetuned:
            if name not in BUNDLED_FINETUNED:
                raise unknown_name("fine-tuned model", name, BUNDLED_FINETUNED)
        require(self.seed >= 0, f"A seed is at least 0; got {self.seed}.")
        require(self.steps >= 0, f"steps is at least 0 (0: the usual number); got {self.steps}.")
