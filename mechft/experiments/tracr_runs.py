"""The trainings of a Tracr reproduction: each a cell, done once, over processes of one thread each.

A cell leaves its model and its row of the table in a folder of its own. What is there is not done again,
so that an interrupted grid goes on with what is missing, and a training killed in the middle from its
last checkpoint.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mechft.errors import TrainingDivergedError
from mechft.experiments.tracr_config import NOISE, TracrConfig, TracrScale

ROW_FILE = "row.json"


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
        correlation = None if self.correlation is None else f"{self.correlation:g}"
        parts = (self.kind, self.started, correlation, self.rate)
        if self.kind == "finetune":
            parts = (self.kind, self.rate, correlation, "")
        return "-".join(part for part in parts if part)


def finetuned_name(rate: str, correlation: float) -> str:
    """What tables and figures call a fine-tuned model: "M, C_Tr = 0.5"."""
    return f"{rate}, C_Tr = {correlation:g}"


def grid(scale: TracrScale) -> list[Cell]:
    """The fine-tunings of Table 3."""
    return [Cell("finetune", r, correlation=c) for r in scale.rates for c in scale.correlations]


def reversals(scale: TracrScale) -> list[Cell]:
    """ReFT of the chosen fine-tuned models at every smaller rate, and the controls at those rates."""
    rates = scale.rates
    below = [(one, other) for i, one in enumerate(rates) for other in rates[i + 1 :]]
    cells = [
        Cell("reverse", other, one, correlation)
        for one, other in below
        for correlation in scale.reverse_correlations
    ]
    return cells + [Cell("control", rate) for rate in rates[1:]]


def folder_of(config: TracrConfig, cell: Cell) -> Path:
    """Where a cell's model and row are kept."""
    return config.out / "runs" / cell.name


def run_cells(
    config: TracrConfig, scale: TracrScale, cells: Sequence[Cell]
) -> list[dict[str, Any]]:
    """Do what is left of some cells and return the rows of all, in order.

    Args:
        config: The reproduction's; its folder is where the cells are kept.
        scale: Its sizes.
        cells: What to do; those of one call do not depend on each other.

    Returns:
        A row a cell: kind, rate, started, c_tr, diverged_at (the step, or None), seconds, history (as of
        ``train``), and the accuracies of Table 3 in 0..1 by name; None for a diverged training.

    Cost: one training of 10,000 steps takes 12 minutes for the Counter and 2 for the Max-identifier on one
    thread.
    """
    missing = [cell for cell in cells if not (folder_of(config, cell) / ROW_FILE).exists()]
    jobs = min(config.jobs or os.cpu_count() or 1, len(missing))
    done = _in_this_process if jobs <= 1 else _over_processes
    bar = _bar(len(cells), len(cells) - len(missing))
    try:
        for name in done(config, scale, missing, jobs):
            bar.set_postfix_str(name, refresh=False)
            bar.update()
    finally:
        bar.close()
    return [json.loads((folder_of(config, cell) / ROW_FILE).read_text()) for cell in cells]


def _in_this_process(
    config: TracrConfig, scale: TracrScale, cells: Sequence[Cell], jobs: int
) -> Iterator[str]:
    for cell in cells:
        yield _run_cell(config, scale, cell)


def _over_processes(
    config: TracrConfig, scale: TracrScale, cells: Sequence[Cell], jobs: int
) -> Iterator[str]:
    context = multiprocessing.get_context("spawn")  # forking after torch has threads can hang
    with ProcessPoolExecutor(jobs, context, _one_thread) as pool:
        waiting = [pool.submit(_run_cell, config, scale, cell) for cell in cells]
        try:
            for future in as_completed(waiting):
                yield future.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _one_thread() -> None:
    """Two trainings of one thread each finish more steps than one of two: no waiting for each other."""
    os.environ["TQDM_DISABLE"] = "1"  # one bar for all, in the parent
    import torch

    torch.set_num_threads(1)


def _run_cell(config: TracrConfig, scale: TracrScale, cell: Cell) -> str:
    from mechft.training.behaviour import behaviour_queries, evaluation_batches
    from mechft.training.evaluation import accuracy

    folder = folder_of(config, cell)
    began = time.monotonic()
    row: dict[str, Any] = {**asdict(cell), "name": cell.name, "steps": scale.steps}
    row["diverged_at"], row["history"] = None, []
    names = ("acc_pt_cte1", "acc_ft_cte1", "acc_pt_cte0", "acc_ft_cte0")
    try:
        trained = _train(config, scale, cell, folder)
    except TrainingDivergedError as error:
        row |= {"diverged_at": error.step, **dict.fromkeys(names)}
    else:
        row["history"] = list(trained.records)
        # Rows no training and no evaluation while training draws from.
        queries = behaviour_queries(trained.task, contrast_of(config))
        batches = evaluation_batches(queries, config.seed + 1, scale.rows)
        for name in names:
            row[name] = accuracy(trained, batches[name]).value
    row["rows"] = scale.rows
    row["seconds"] = time.monotonic() - began
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{ROW_FILE}.tmp"
    temporary.write_text(json.dumps(row) + "\n")
    temporary.replace(folder / ROW_FILE)
    (folder / "checkpoint.safetensors").unlink(missing_ok=True)  # of no further use
    return cell.name


def contrast_of(config: TracrConfig) -> Any:
    """What the reproduction sets against what."""
    from mechft.tasks.contrast import Contrast

    pretraining = {"counter": "a", "max": "5"}[config.program]
    return Contrast(config.program, pretraining, config.finetuning_operand, config.offset)


def start_of(config: TracrConfig, name: str) -> Any:
    """A bundled program with the noise that lets gradients through."""
    from mechft.training.densify import densify
    from mechft.training.trained import load

    return densify(load(name), NOISE, seed=config.seed)


def _train(config: TracrConfig, scale: TracrScale, cell: Cell, folder: Path) -> Any:
    from mechft.training.recipes import finetune, reverse_finetune, scratch_finetune
    from mechft.training.trained import MODEL_FILE, load

    if (folder / MODEL_FILE).exists():  # killed between the model and its row
        return load(folder)
    contrast = contrast_of(config)
    common: dict[str, Any] = {
        "learning_rate": cell.rate,
        "steps": scale.steps,
        "seed": config.seed,
        "evaluation_size": scale.evaluation_rows,
        "directory": folder,
    }
    if cell.kind == "finetune":
        return finetune(
            start_of(config, config.base),
            contrast.finetuning_operand,
            train_correlation=cell.correlation,
            offset=contrast.offset,
            name=cell.name,
            **common,
        )
    if cell.kind == "control":
        return scratch_finetune(start_of(config, config.never), contrast=contrast, **common)
    start = load(folder_of(config, Cell("finetune", cell.started, "", cell.correlation)))
    return reverse_finetune(start, contrast=contrast, name=cell.name, **common)


def _bar(total: int, done: int) -> Any:
    from tqdm.auto import tqdm

    return tqdm(total=total, initial=done, desc="trainings", unit="run", disable=None)
