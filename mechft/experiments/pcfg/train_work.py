"""Jobs of the PCFG study that train: a model and its history in a folder, from settings and needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from mechft.errors import TrainingDivergedError
from mechft.experiments.pcfg.bundled_runs import bundled_for, copy_bundled
from mechft.experiments.store.job import WorkFailedError
from mechft.files import replacing
from mechft.models.build import ModelConfig
from mechft.statistics import Proportion
from mechft.tasks.batch import Source
from mechft.tasks.contrast import Contrast
from mechft.tasks.pcfg_config import PCFGConfig
from mechft.tasks.task import Task
from mechft.training.behaviour import behaviour_queries, evaluation_batches
from mechft.training.controls import fresh
from mechft.training.evaluation import accuracy, commonest_answer
from mechft.training.many import carry_out_together
from mechft.training.plan import Plan, carry_out, finetuning_plan, reversal_plan
from mechft.training.precision import Precision
from mechft.training.pretraining import pretraining_plan
from mechft.training.trained import MODEL_FILE, Trained, load, save

Settings = Mapping[str, Any]
Needs = Mapping[str, Path]
Parts = Sequence[tuple[Settings, Needs, Path]]


def pretrain_work(settings: Settings, needs: Needs, folder: Path) -> None:
    """Pretrain a base model, or take the bundled one that was made with these settings.

    Leaves: model.safetensors, history.csv.
    """
    if settings["bundled"]:
        copy_bundled(bundled_for(settings), folder / MODEL_FILE)
        trained = load(folder)
    else:
        plan = pretraining_plan(
            settings["preset"],
            settings["prior"],
            task=PCFGConfig(**_without_kind(settings["task"])),
            model=ModelConfig(**settings["model"]),
            steps=settings["steps"],
            learning_rate=settings["learning_rate"],
            batch_size=settings["batch_size"],
            seed=settings["seed"],
            evaluation_size=settings["evaluation_rows"],
            precision=_precision(settings),
        )
        trained = _carried_out(plan, folder)
    write_frame(trained.history, folder / "history.csv")


def finetune_work(settings: Settings, needs: Needs, folder: Path) -> None:
    """Fine-tune a base model, and measure it on strings of their own.

    Leaves: model.safetensors, history.csv, final.csv (evaluation, accuracy, ci_low, ci_high, n, commonest:
    the share that always giving the commonest answer would get right).
    """
    _leave_finetuned(_carried_out(_finetuning(settings, needs), folder), settings, folder)


def finetune_together(parts: Parts) -> list[str | None]:
    """``finetune_work`` of several jobs as one ensemble, on a GPU if there is one."""
    return _together(parts, _finetuning, _leave_finetuned)


def _finetuning(settings: Settings, needs: Needs) -> Plan:
    base, contrast = load(needs["base"]).renamed("base"), Contrast(**settings["contrast"])
    plan = finetuning_plan(
        base,
        contrast.finetuning_operand,
        family=contrast.family,
        pretraining_operand=contrast.pretraining_operand,
        offset=contrast.offset,
        train_correlation=settings["train_correlation"],
        pretraining_share=settings.get("pretraining_share", 0.0),
        randomised=settings.get("randomised", False),
        learning_rate=settings["learning_rate"],
        steps=settings["steps"],
        batch_size=settings["batch_size"],
        seed=settings["seed"],
        precision=_precision(settings),
        name="fine-tuned",
    )
    return _watched(plan, tests_of(base.task, settings), settings)


def tests_of(task: Task, settings: Settings) -> dict[str, Source]:
    """What is asked to measure a model, on strings from which neither operand's answer can be guessed."""
    return behaviour_queries(
        task,
        Contrast(**settings["contrast"]),
        randomised=settings.get("randomised", False),
        balanced=True,
    )


def _watched(plan: Plan, tests: Mapping[str, Source], settings: Settings) -> Plan:
    """The plan with these tests, asked after a tenth of the steps, too (Table 5)."""
    steps = plan.config.steps
    moments = tuple(sorted({*plan.config.evaluate_at, max(1, steps // 10)}))
    return replace(
        plan,
        evaluations=evaluation_batches(tests, settings["seed"], settings["evaluation_rows"]),
        config=replace(plan.config, evaluate_at=moments),
    )


def _leave_finetuned(trained: Trained, settings: Settings, folder: Path) -> None:
    write_frame(trained.history, folder / "history.csv")
    tests = tests_of(trained.task, settings)
    batches = evaluation_batches(tests, settings["seed"] + 1000, settings["rows"])
    rows = [
        {"evaluation": n, **share_values(accuracy(trained, b)), "commonest": commonest_answer(b)}
        for n, b in batches.items()
    ]
    write_frame(pd.DataFrame(rows), folder / "final.csv")


def reverse_work(settings: Settings, needs: Needs, folder: Path) -> None:
    """Train a model back on O_PT: a fine-tuned one (reFT), or the start of a control.

    Leaves: history.csv; the model is of no further use.
    """
    _leave_history(_carried_out(_reversal(settings, needs), folder), settings, folder)


def reverse_together(parts: Parts) -> list[str | None]:
    """``reverse_work`` of several jobs as one ensemble, on a GPU if there is one."""
    return _together(parts, _reversal, _leave_history)


def _reversal(settings: Settings, needs: Needs) -> Plan:
    start = load(needs["start"]).renamed("start")
    if settings["start"] == "fresh":
        start = fresh(start, settings["seed"])
    plan = reversal_plan(
        start,
        contrast=Contrast(**settings["contrast"]),
        learning_rate=settings["learning_rate"],
        steps=settings["steps"],
        batch_size=settings["batch_size"],
        seed=settings["seed"],
        precision=_precision(settings),
        name="trained back",
    )
    tests = tests_of(start.task, settings)
    watched = {name: query for name, query in tests.items() if name in plan.evaluations}
    return _watched(plan, watched, settings)


def _leave_history(trained: Trained, settings: Settings, folder: Path) -> None:
    write_frame(trained.history, folder / "history.csv")
    # Killed from here on, the checkpoint of the last step is still there and the model comes back.
    (folder / MODEL_FILE).unlink()


def _together(
    parts: Parts,
    plan: Callable[[Settings, Needs], Plan],
    leave: Callable[[Trained, Settings, Path], None],
) -> list[str | None]:
    plans = []
    for place, (settings, needs, _) in enumerate(parts):
        made = plan(settings, needs).on(device())
        name = f"{made.start.name} {place}"  # members are told apart by name
        plans.append(replace(made, start=made.start.renamed(name)))
    reasons: list[str | None] = []
    for trained, (settings, _, folder) in zip(carry_out_together(plans), parts, strict=True):
        diverged = trained.lineage[-1].get("diverged_at")
        reasons.append(None if diverged is None else f"Diverged at step {diverged}.")
        if diverged is None:
            save(trained.renamed(trained.name.rpartition(" ")[0]), folder / MODEL_FILE)
            leave(trained, settings, folder)
    return reasons


def device() -> str:
    """Where work is done: a GPU if there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _precision(settings: Settings) -> Precision:
    precision: Precision = settings.get(
        "precision", "float32"
    )  # named in jobs only if it is another
    return precision


def _carried_out(plan: Plan, folder: Path) -> Trained:
    try:
        return carry_out(plan.on(device()), folder)
    except TrainingDivergedError as error:  # a finding: the same settings would diverge again
        raise WorkFailedError(str(error)) from error


def share_values(share: Proportion) -> dict[str, Any]:
    """The columns of a share in tables."""
    return {"accuracy": share.value, "ci_low": share.low, "ci_high": share.high, "n": share.n}


def write_frame(frame: pd.DataFrame, path: Path) -> None:
    """Write a table, whole or not at all."""
    with replacing(path) as temporary:
        frame.to_csv(temporary, index=False)


def _without_kind(task: Settings) -> dict[str, Any]:
    return {name: value for name, value in task.items() if name != "kind"}
