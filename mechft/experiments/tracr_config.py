"""Settings of ``mechft reproduce tracr-counter`` and ``tracr-max``; free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mechft.errors import require

RATES = ("L", "M", "S", "VS")
"""Learning rates of the paper's Table 3, largest first: 1e-1, 1e-2, 1e-3, 1e-4."""

CORRELATIONS = (0.0, 0.2, 0.5, 0.6, 0.8, 0.9, 1.0)
"""Its C_Tr."""


@dataclass(frozen=True)
class TracrConfig:
    """Settings both reproductions share.

    Attributes:
        out: Folder for report.html, tables (CSV) and runs. A run found there with the same settings goes
            on where it stopped; any other content is refused.
        steps: Optimiser steps of every training, a fifth of them warming up. Paper: 10,000.
        reverse_steps: Optimiser steps of every training back on O_PT and of the controls; 0 means ``steps``.
        seed: Seed of noise, batches, evaluations and random controls.
        jobs: Trainings at a time, one thread each; 0 means one a core. Without effect with --ensemble.
        ensemble: Train all at once as one batched computation instead, on a GPU if there is one. For a GPU:
            on CPUs it is slower, and what is interrupted begins again.
        quick: Few trainings of at most 50 steps: shows in a minute or two that everything runs, not what is
            true; no claim is judged.
    """

    out: Path = Path("tracr")
    steps: int = 10_000
    reverse_steps: int = 0
    seed: int = 0
    jobs: int = 0
    ensemble: bool = False
    quick: bool = False

    program = ""
    finetuning_operand = ""
    offset = 1

    def __post_init__(self) -> None:
        require(self.seed >= 0, f"A seed is at least 0; got {self.seed}.")
        require(self.steps >= 1, f"steps is at least 1; got {self.steps}.")
        require(
            self.reverse_steps >= 0,
            f"reverse_steps is at least 0 (0: as many as steps); got {self.reverse_steps}.",
        )
        require(self.jobs >= 0, f"jobs is at least 0 (0: one a core); got {self.jobs}.")

    @property
    def base(self) -> str:
        """The bundled model that answers for O_PT."""
        return f"tracr-{self.program}"

    @property
    def never(self) -> str:
        """The bundled model compiled for O_FT: it never answered for O_PT."""
        return f"tracr-{self.program}-{self.finetuning_operand}"


@dataclass(frozen=True)
class TracrCounterConfig(TracrConfig):
    """Table 3 and what follows from it, for the compiled Counter: from counting a to counting b.

    Example: mechft reproduce tracr-counter --out counter --steps 2500
    """

    out: Path = Path("tracr-counter")

    program = "counter"
    finetuning_operand = "b"


@dataclass(frozen=True)
class TracrMaxConfig(TracrConfig):
    """Table 3 and what follows from it, for the compiled Max-identifier: from the fifth largest letter on.

    Example: mechft reproduce tracr-max --out max

    Attributes:
        against: O_FT, the place to fine-tune to: "6" with q = 1 as in the paper's main text (which does
            not name it), or "7" with q = 3 as in its appendix.
    """

    out: Path = Path("tracr-max")
    against: Literal["6", "7"] = "6"

    program = "max"

    @property
    def finetuning_operand(self) -> str:  # type: ignore[override]
        """O_FT."""
        return self.against

    @property
    def offset(self) -> int:  # type: ignore[override]
        """The correlation's q."""
        return {"6": 1, "7": 3}[self.against]


@dataclass(frozen=True)
class TracrScale:
    """Which trainings are done, and how many rows everything is measured on.

    Attributes:
        rates, correlations: The grid of fine-tunings: Table 3.
        reverse_correlations: C_Tr of the fine-tuned models that reFT starts from (at every smaller rate).
        steps, reverse_steps: Optimiser steps of every fine-tuning, and of every training back.
        rows: Rows of each accuracy of Table 3.
        evaluation_rows: Rows of each evaluation while training.
        look_rows: Rows of attention maps, neurons and pruning.
        random_draws: Random orders of weights in the pruning control.
        prune_counts: Numbers of weights removed or put back.
    """

    rates: tuple[str, ...] = RATES
    correlations: tuple[float, ...] = CORRELATIONS
    reverse_correlations: tuple[float, ...] = (0.0, 1.0)
    steps: int = 10_000
    reverse_steps: int = 10_000
    rows: int = 2000
    evaluation_rows: int = 500
    look_rows: int = 500
    random_draws: int = 2
    prune_counts: tuple[int, ...] = (0, 1, 2, 3, 5, 7, 10, 15, 20, 50, 100)

    def steps_of(self, kind: str) -> int:
        """Optimiser steps of a kind of training."""
        return self.steps if kind == "finetune" else self.reverse_steps


def scale_of(config: TracrConfig) -> TracrScale:
    """The sizes a run has."""
    reverse_steps = config.reverse_steps or config.steps
    if not config.quick:
        return TracrScale(steps=config.steps, reverse_steps=reverse_steps)
    return TracrScale(
        rates=("M", "S"),
        correlations=(0.0, 1.0),
        reverse_correlations=(1.0,),
        steps=min(config.steps, 50),
        reverse_steps=min(reverse_steps, 50),
        rows=200,
        evaluation_rows=100,
        look_rows=100,
        random_draws=1,
        prune_counts=(0, 1, 5, 20),
    )
