"""The trainings a Tracr reproduction consists of: what each starts from, learns, and is called."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mechft.experiments.tracr_config import TracrConfig, TracrScale
from mechft.tasks.contrast import Contrast
from mechft.training.densify import densify
from mechft.training.plan import Plan, finetuning_plan, reversal_plan
from mechft.training.trained import Trained, load


@dataclass(frozen=True)
class Cell:
    """One training.

    Attributes:
        kind: "finetune" to O_FT; "reverse" (reFT) of a fine-tuned model; "control" (Scr.+FT): reFT's
            training of the program compiled for O_FT.
        rate: Learning rate by the paper's name.
        started: For reFT the rate of the fine-tuning it starts from.
        correlation: C_Tr of the fine-tuning (for reFT: of the one it starts from).
    """

    kind: str
    rate: str
    started: str = ""
    correlation: float | None = None

    @property
    def name(self) -> str:
        """The name of its folder: "finetune-M-0.5", "reverse-M-0.5-S", "control-S"."""
        correlation = "" if self.correlation is None else f"{self.correlation:g}"
        parts = (self.kind, self.started, correlation, self.rate)
        if self.kind == "finetune":
            parts = (self.kind, self.rate, correlation, "")
        return "-".join(part for part in parts if part)


def grid(scale: TracrScale) -> list[Cell]:
    """The fine-tunings of Table 3."""
    return [Cell("finetune", r, correlation=c) for r in scale.rates for c in scale.correlations]


def reversals(scale: TracrScale) -> list[Cell]:
    """ReFT of the chosen fine-tuned models at every smaller rate, and the controls at those rates."""
    rates = scale.rates
    cells = [
        Cell("reverse", other, one, correlation)
        for place, one in enumerate(rates)
        for other in rates[place + 1 :]
        for correlation in scale.reverse_correlations
    ]
    return cells + [Cell("control", rate) for rate in rates[1:]]


def finetuned_name(rate: str, correlation: float) -> str:
    """What tables and figures call a fine-tuned model: "M, C_Tr = 0.5"."""
    return f"{rate}, C_Tr = {correlation:g}"


def folder_of(config: TracrConfig, cell: Cell) -> Path:
    """Where a cell's model and row are kept."""
    return config.out / "runs" / cell.name


def contrast_of(config: TracrConfig) -> Contrast:
    """What the reproduction sets against what."""
    pretraining = {"counter": "a", "max": "5"}[config.program]
    return Contrast(config.program, pretraining, config.finetuning_operand, config.offset)


def start_of(config: TracrConfig, name: str) -> Trained:
    """A bundled program with the noise that lets gradients through."""
    return densify(load(name), seed=config.seed)


def plan_of(config: TracrConfig, scale: TracrScale, cell: Cell) -> Plan:
    """What a cell's training is; for reFT the fine-tuned model must be there.

    Raises:
        CheckpointError: If it is not.
    """
    contrast, rows = contrast_of(config), scale.evaluation_rows
    if cell.kind == "finetune":
        return finetuning_plan(
            start_of(config, config.base),
            contrast.finetuning_operand,
            train_correlation=cell.correlation,
            offset=contrast.offset,
            learning_rate=cell.rate,
            steps=scale.steps,
            seed=config.seed,
            evaluation_size=rows,
            name=cell.name,
        )
    if cell.kind == "control":
        start = start_of(config, config.never)
    else:
        start = load(folder_of(config, Cell("finetune", cell.started, "", cell.correlation)))
    return reversal_plan(
        start,
        contrast=contrast,
        learning_rate=cell.rate,
        steps=scale.reverse_steps,
        seed=config.seed,
        evaluation_size=rows,
        name=cell.name,
    )
