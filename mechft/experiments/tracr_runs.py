"""Doing the trainings of a Tracr reproduction: each once, over processes of one thread each, or as one.

A cell leaves its model and its row of the table in a folder of its own. What is there is not done again,
so that an interrupted grid goes on with what is missing, and a training killed in the middle from its
last checkpoint.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import asdict, replace
from typing import Any

import torch

from mechft.errors import TrainingDivergedError, require
from mechft.experiments.store.making import torch_threads
from mechft.experiments.tracr_cells import Cell, contrast_of, folder_of, plan_of
from mechft.experiments.tracr_config import TracrConfig, TracrScale
from mechft.files import write_text
from mechft.models.build import clone
from mechft.tasks.batch import TokenBatch
from mechft.tasks.task import Task
from mechft.training.behaviour import behaviour_queries, evaluation_batches
from mechft.training.evaluation import accuracy
from mechft.training.many import carry_out_together
from mechft.training.plan import Plan, carry_out
from mechft.training.progress import progress_bar
from mechft.training.run import CHECKPOINT_FILE
from mechft.training.trained import MODEL_FILE, Trained, load, save

ROW_FILE = "row.json"
QUESTIONS = ("acc_pt_cte1", "acc_ft_cte1", "acc_pt_cte0", "acc_ft_cte0")
"""In the order of the paper's Table 3."""


def run_cells(
    config: TracrConfig, scale: TracrScale, cells: Sequence[Cell]
) -> list[dict[str, Any]]:
    """Do what is left of some cells and return the rows of all, in order.

    Args:
        config: The reproduction's; its folder is where the cells are kept.
        scale: Its sizes.
        cells: What to do; those of one call do not depend on each other.

    Returns:
        A row a cell: kind, rate, started, correlation, name, steps, diverged_at (the step, or None),
        history (as of ``train``), rows, seconds, and the accuracies of Table 3 in 0..1 by question;
        None for a diverged training.

    Cost: a training of the Max-identifier of 10,000 steps takes about 2 minutes on one thread, one of the
    Counter 13 with two at a time.
    """
    missing = [cell for cell in cells if not (folder_of(config, cell) / ROW_FILE).exists()]
    jobs = min(config.jobs or os.cpu_count() or 1, len(missing))
    do = _in_this_process if jobs <= 1 else _over_processes
    bar = _bar(len(cells), len(cells) - len(missing))
    try:
        for name in (_as_ensembles if config.ensemble else do)(config, scale, missing, jobs):
            bar.set_postfix_str(name, refresh=False)
            bar.update()
    finally:
        bar.close()
    return [json.loads((folder_of(config, cell) / ROW_FILE).read_text()) for cell in cells]


def _in_this_process(
    config: TracrConfig, scale: TracrScale, cells: Sequence[Cell], jobs: int
) -> Iterator[str]:
    with torch_threads(1):  # as many as a worker has
        for cell in cells:
            yield _run_cell(config, scale, cell)


def _over_processes(
    config: TracrConfig, scale: TracrScale, cells: Sequence[Cell], jobs: int
) -> Iterator[str]:
    context = multiprocessing.get_context("spawn")  # forking after torch has threads can hang
    left = list(reversed(cells))
    with ProcessPoolExecutor(jobs, context, _prepare_worker, (os.getpid(),)) as pool:
        # No more are handed over than are worked on: what waits in the pool's queue cannot be called back,
        # and after Ctrl-C would be trained to its end.
        waiting = {pool.submit(_run_cell, config, scale, left.pop()) for _ in range(jobs)}
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
                if left:
                    waiting.add(pool.submit(_run_cell, config, scale, left.pop()))


def _prepare_worker(parent: int) -> None:
    """One thread each: two trainings of one finish more steps than one of two. No bar but the parent's."""
    os.environ["TQDM_DISABLE"] = "1"
    torch.set_num_threads(1)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process when its parent was killed: its work would meet that of the next attempt."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _as_ensembles(
    config: TracrConfig, scale: TracrScale, cells: Sequence[Cell], jobs: int
) -> Iterator[str]:
    """All cells of as many steps as one batched computation, on a GPU if there is one.

    Nothing of it is kept before its end: an ensemble that is interrupted begins again.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    plans = {cell: plan_of(config, scale, cell) for cell in cells}
    for steps in dict.fromkeys(plan.config.steps for plan in plans.values()):
        members = [cell for cell, plan in plans.items() if plan.config.steps == steps]
        began = time.monotonic()
        for cell, trained in zip(
            members, carry_out_together([_on(plans[cell], device) for cell in members]), strict=True
        ):
            trained.model.to("cpu")
            diverged = trained.lineage[-1].get("diverged_at")
            if diverged is None:
                (folder_of(config, cell) / MODEL_FILE).unlink(missing_ok=True)
                save(trained, folder_of(config, cell) / MODEL_FILE)
            share = (time.monotonic() - began) / len(members)
            yield _keep_row(config, scale, cell, trained, diverged, share)


def _on(plan: Plan, device: str) -> Plan:
    model = clone(plan.start.model)
    model.to(device)
    return replace(plan, start=replace(plan.start, model=model))


def _run_cell(config: TracrConfig, scale: TracrScale, cell: Cell) -> str:
    began = time.monotonic()
    trained, diverged = None, None
    try:
        trained = _train(config, scale, cell)
    except TrainingDivergedError as error:
        diverged = error.step
    return _keep_row(config, scale, cell, trained, diverged, time.monotonic() - began)


def _train(config: TracrConfig, scale: TracrScale, cell: Cell) -> Trained:
    folder = folder_of(config, cell)
    if (folder / MODEL_FILE).exists():  # killed between the model and its row
        return load(folder)
    return carry_out(plan_of(config, scale, cell), folder)


def _keep_row(
    config: TracrConfig,
    scale: TracrScale,
    cell: Cell,
    trained: Trained | None,
    diverged_at: int | None,
    seconds: float,
) -> str:
    """Measure a cell's model and write its row; returns the cell's name."""
    row: dict[str, Any] = {**asdict(cell), "name": cell.name, "steps": scale.steps_of(cell.kind)}
    row |= {"diverged_at": diverged_at, "rows": scale.rows, "seconds": seconds}
    row |= {"history": [], **dict.fromkeys(QUESTIONS)}
    if trained is not None and diverged_at is None:
        batches = table_batches(config, scale, trained.task)
        row |= {name: accuracy(trained, batches[name]).value for name in QUESTIONS}
        row["history"] = list(trained.records)
    folder = folder_of(config, cell)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / ROW_FILE, json.dumps(row) + "\n")
    (folder / CHECKPOINT_FILE).unlink(missing_ok=True)  # of no further use
    return cell.name


def table_batches(config: TracrConfig, scale: TracrScale, task: Task) -> dict[str, TokenBatch]:
    """The rows of Table 3, which no training and no evaluation while training draws.

    Strings whose two answers are the same are left out: the paper has models with 100.0% on O_FT and 0.0% on
    O_PT at C_Te = 0, so that its uncorrelated strings cannot have had any. (Trainings keep them: 13% of the
    Counter's uncorrelated strings have as many a as b.)
    """
    contrast = contrast_of(config)
    names = [
        f"{contrast.family}({o})"
        for o in (contrast.pretraining_operand, contrast.finetuning_operand)
    ]
    found = {}
    drawn = evaluation_batches(behaviour_queries(task, contrast), config.seed + 1, 2 * scale.rows)
    for question, batch in drawn.items():
        one, other = (batch.labels[name] for name in names)
        differ = (one != other).nonzero().flatten()[: scale.rows]
        require(
            len(differ) == scale.rows,
            f"Half of twice {scale.rows} strings differ in their answers; got {len(differ)}.",
        )
        found[question] = batch.rows(differ)
    return found


def _bar(total: int, done: int) -> Any:
    return progress_bar(total=total, initial=done, desc="trainings", unit="run")
