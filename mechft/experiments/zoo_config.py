"""Settings of ``mechft zoo build``; free of torch, so that the command line can start fast."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mechft.errors import require, unknown_name
from mechft.tasks.program_config import ProgramName

BUNDLED_PRIORS = ("low", "medium", "high", "never_a")
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
        seed: Seed of weights, batches and evaluations.
        steps: Pretraining steps; 0 means the preset's.
    """

    out: Path = Path("zoo")
    priors: tuple[str, ...] = BUNDLED_PRIORS
    programs: tuple[str, ...] = ()
    seed: int = 0
    steps: int = 0

    def __post_init__(self) -> None:
        require(
            bool(self.priors or self.programs),
            "Give at least one operand prior to pretrain with or program to compile; got none.",
        )
        for name in self.programs:
            if name not in BUNDLED_PROGRAMS:
                raise unknown_name("compiled program", name, BUNDLED_PROGRAMS)
        require(self.seed >= 0, f"A seed is at least 0; got {self.seed}.")
        require(self.steps >= 0, f"steps is at least 0 (0: the preset's); got {self.steps}.")
