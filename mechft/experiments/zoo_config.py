"""Settings of ``mechft zoo build``; free of torch, so that the command line can start fast."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mechft.errors import require

BUNDLED_PRIORS = ("low", "medium", "high", "never_a")


@dataclass(frozen=True)
class ZooConfig:
    """Train the tiny models that ship with the package and write them with their manifest.

    Example: mechft zoo build --out zoo --priors low never_a

    Attributes:
        out: Folder for the models and manifest.json; models already in it are kept.
        priors: Operand priors to pretrain with.
        seed: Seed of weights, batches and evaluations.
        steps: Pretraining steps; 0 means the preset's.
    """

    out: Path = Path("zoo")
    priors: tuple[str, ...] = BUNDLED_PRIORS
    seed: int = 0
    steps: int = 0

    def __post_init__(self) -> None:
        require(bool(self.priors), "Give at least one operand prior to pretrain with; got none.")
        require(self.seed >= 0, f"A seed is at least 0; got {self.seed}.")
        require(self.steps >= 0, f"steps is at least 0 (0: the preset's); got {self.steps}.")
