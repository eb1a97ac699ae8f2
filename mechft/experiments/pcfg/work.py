"""What is done in each job of the PCFG study: files in a folder from settings and what it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mechft.analysis.diagnosis import commonest_answer
from mechft.analysis.pruning import prune_curve
from mechft.errors import TrainingDivergedError
from mechft.experiments.pcfg.bundled_runs import bundled_for, copy_bundled
from mechft.experiments.store.job import WorkFailedError
from mechft.models.build import ModelConfig
from mechft.randomness import generator
from mechft.shortcuts.probing import probe
from mechft.statistics import proportion
from mechft.tasks.batch import Source
from mechft.tasks.contrast import Contrast
from mechft.tasks.pcfg_config import PCFGConfig
from mechft.tasks.task import Task
from mechft.training.behaviour import behaviour_queries, evaluation_batches
from mechft.training.evaluation import accuracy, predictions
from mechft.training.many import carry_out_together
from mechft.training.plan import Plan, carry_out, finetuning_plan, reversal_plan
from mechft.training.precision import Precision
from mechft.training.pretraining import pretraining_plan
from mechft.training.recipes import fresh
from mechft.training.trained import MODEL_FILE, Trained, load, save

if TYPE_CHECKING:
    import pandas as pd

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
    _write(trained.history, folder / "history.csv")


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
    return _watched(plan, _tests(base.task, settings), settings)


def _tests(task: Task, settings: Settings) -> dict[str, Source]:
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
    _write(trained.history, folder / "history.csv")
    tests = _tests(trained.task, settings)
    batches = evaluation_batches(tests, settings["seed"] + 1000, settings["rows"])
    rows = [
        {"evaluation": n, **_share(accuracy(trained, b)), "commonest": commonest_answer(b)}
        for n, b in batches.items()
    ]
    _write(_frame(rows), folder / "final.csv")


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
    tests = _tests(start.task, settings)
    watched = {name: query for name, query in tests.items() if name in plan.evaluations}
    return _watched(plan, watched, settings)


def _leave_history(trained: Trained, settings: Settings, folder: Path) -> None:
    _write(trained.history, folder / "history.csv")
    # Killed from here on, the checkpoint of the last step is still there and the model comes back.
    (folder / MODEL_FILE).unlink()


def _together(
    parts: Parts,
    plan: Callable[[Settings, Needs], Plan],
    leave: Callable[[Trained, Settings, Path], None],
) -> list[str | None]:
    plans = []
    for place, (settings, needs, _) in enumerate(parts):
        made = plan(settings, needs).on(_device())
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


def prune_work(settings: Settings, needs: Needs, folder: Path) -> None:
    """Remove the neurons that most hurt O_PT. Leaves: curve.csv, as ``PruneCurve``, and commonest."""
    trained, seed = load(needs["model"]).to(_device()), settings["seed"]
    tests = _tests(trained.task, settings)
    score = tests["acc_pt_cte0"].sample(settings["score_size"], generator(seed, "prune", "score"))
    batches = {
        name: tests[test].sample(settings["test_size"], generator(seed, "behaviour", name))
        for name, test in (("acc_pt", "acc_pt_cte0"), ("acc_ft_cte1", "acc_ft_cte1"))
    }
    curve = prune_curve(
        trained.model,
        score,
        batches,
        counts=settings["counts"],
        random_draws=settings["random_draws"],
        seed=seed,
        name="model",
    )
    floors = {name: commonest_answer(batch) for name, batch in batches.items()}
    _write(curve.frame.assign(commonest=curve.frame["task"].map(floors)), folder / "curve.csv")


def probe_work(settings: Settings, needs: Needs, folder: Path) -> None:
    """Read r(x, O_PT) after every block. Leaves: probes.csv, as ``ProbeResult``."""
    model = load(needs["model"]).renamed("model").to(_device())
    if settings["untrained"]:
        model = fresh(model, settings["seed"], "model")
    contrast = Contrast(**settings["contrast"])
    found = probe(
        model,
        operands=(contrast.pretraining_operand,),
        contrast=contrast,
        train_size=settings["train_size"],
        test_size=settings["test_size"],
        balanced=True,
        seed=settings["seed"],
    )
    _write(found.frame, folder / "probes.csv")


def ask_work(settings: Settings, needs: Needs, folder: Path) -> None:
    """Ask for O_PT with every token that counts (App. E.2), and probe for it when each is asked.

    Leaves: answers.csv (token, accuracy, ci_low, ci_high, n, wrapper: the share answered with
    r(x, O_PT) + q) on uncorrelated strings, and probes.csv, as ``ProbeResult`` with a column token.
    """
    import pandas as pd

    model = load(needs["model"]).renamed("model").to(_device())
    contrast = Contrast(**settings["contrast"])
    rows, probes = [], []
    for token in (contrast.family, *model.task.config.jailbreak_families):
        asked = Contrast(**{**asdict(contrast), "family": token})
        operand = asked.pretraining_operand
        batch = behaviour_queries(model.task, asked, balanced=True)["acc_pt_cte0"].sample(
            settings["test_size"], generator(settings["seed"], "ask", token)
        )
        answers = predictions(model, batch).cpu()
        zero = model.task.vocabulary.id("0")
        wrapped = answers == zero + batch.labels[f"{token}({operand})"] + asked.offset
        right = answers == batch.answer
        rows.append(
            {
                "token": token,
                **_share(proportion(int(right.sum()), len(batch))),
                "wrapper": float(wrapped.double().mean()),
            }
        )
        found = probe(
            model,
            operands=(operand,),
            contrast=asked,
            train_size=settings["train_size"],
            test_size=settings["test_size"],
            balanced=True,
            seed=settings["seed"],
        )
        probes.append(found.frame.assign(token=token))
    _write(_frame(rows), folder / "answers.csv")
    _write(pd.concat(probes, ignore_index=True), folder / "probes.csv")


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _precision(settings: Settings) -> Precision:
    precision: Precision = settings.get(
        "precision", "float32"
    )  # named in jobs only if it is another
    return precision


def _carried_out(plan: Plan, folder: Path) -> Trained:
    try:
        return carry_out(plan.on(_device()), folder)
    except TrainingDivergedError as error:  # a finding: the same settings would diverge again
        raise WorkFailedError(str(error)) from error


def _share(share: Any) -> dict[str, Any]:
    return {"accuracy": share.value, "ci_low": share.low, "ci_high": share.high, "n": share.n}


def _frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(rows)


def _write(frame: pd.DataFrame, path: Path) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    frame.to_csv(temporary, index=False)
    temporary.replace(path)


def _without_kind(task: Settings) -> dict[str, Any]:
    return {name: value for name, value in task.items() if name != "kind"}
