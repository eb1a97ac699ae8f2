"""The paper's first setup: compiled programs, fine-tuned over a grid, looked into and revived.

Table 3, attention (Figs. 10, 40-45, 52), the first MLP (46, 53), single weights removed and put back
(55-59) and reFT beside Scr.+FT (27) of Jain et al. (2024), for the Counter or the Max-identifier.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from mechft.analysis.finetuning_grid import FinetuningGrid
from mechft.analysis.revival import Revival, revival
from mechft.errors import require
from mechft.experiments.paper_tables import table3
from mechft.experiments.run_folder import claim_folder
from mechft.experiments.tracr_cells import (
    contrast_of,
    finetuned_name,
    folder_of,
    grid,
    reversals,
    start_of,
)
from mechft.experiments.tracr_claims import tracr_checks
from mechft.experiments.tracr_config import TracrConfig, TracrScale, scale_of
from mechft.experiments.tracr_looks import (
    attention_of,
    closer_look,
    histogram,
    single_weights,
)
from mechft.experiments.tracr_result import REVIVED, TracrResult
from mechft.experiments.tracr_runs import QUESTIONS, run_cells
from mechft.randomness import generator
from mechft.statistics import Proportion, proportion
from mechft.training.evaluation import accuracy
from mechft.training.protocols import protocol_of
from mechft.training.trained import Trained, load, package_versions, steps_to


def run_tracr(config: TracrConfig) -> TracrResult:
    """Run a reproduction, or what is left of it, and write its results (not the report) to its folder.

    Raises:
        OutputExistsError: If the folder holds anything but this very run.
        UnknownNameError: If a bundled program is missing.

    Cost: the Max-identifier's 28 fine-tunings of 10,000 steps took 51 minutes on 2 cores with other work
    beside them, its 15 trainings back of 2,500 steps 4, looking 1. Two trainings of the Counter of 10,000
    steps take 13 minutes beside each other, so 28 about three hours; its looking 4. --quick: 60 to
    90 seconds.
    """
    # How and where trainings are done does not change what they are.
    settings = {k: v for k, v in asdict(config).items() if k not in ("out", "jobs", "ensemble")}
    settings["reverse_steps"] = config.reverse_steps or config.steps
    settings |= {"reproduce": f"tracr-{config.program}", **package_versions()}
    if claim_folder(config.out, settings):
        print(f"Continuing the run in {config.out}.")
    scale = scale_of(config)
    cells = grid(scale)
    print(f"Fine-tuning: {len(cells)} trainings of {scale.steps:,} steps, {_at_a_time(config)}.")
    rows = run_cells(config, scale, cells)
    going = {(row["rate"], row["correlation"]) for row in rows if row["diverged_at"] is None}
    require(
        bool(going),
        f"All {len(cells)} trainings diverged at {scale.steps} steps; nothing is left to look into.",
    )
    back = [c for c in reversals(scale) if not c.started or (c.started, c.correlation) in going]
    print(f"Fine-tuning back: {len(back)} trainings, {_at_a_time(config)}.")
    back_rows = run_cells(config, scale, back)
    print("Looking inside: attention, weights removed and put back, answers.")
    start = start_of(config, config.base).renamed("base")
    models = [
        load(folder_of(config, cell)).renamed(
            finetuned_name(cell.rate, float(cell.correlation or 0))
        )
        for cell in cells
        if (cell.rate, cell.correlation) in going
    ]
    base = _base_accuracy(config, scale, start)
    prune, graft = single_weights(config, scale, start, models)
    maps, neurons = closer_look(config, start, models)
    result = TracrResult(
        config,
        scale,
        base,
        _grid(config, scale, rows),
        attention_of(config, scale, start, models),
        prune,
        graft,
        histogram(config, scale, models, prune),
        histogram(config, scale, models, graft, start),
        maps,
        neurons,
        _reversal_frame(rows, back_rows, base["densified"]),
        _curves(back_rows),
    )
    result = replace(result, checks=tracr_checks(result))
    result.save()
    return result


def _at_a_time(config: TracrConfig) -> str:
    return "all at once" if config.ensemble else f"{config.jobs or os.cpu_count() or 1} at a time"


def _base_accuracy(
    config: TracrConfig, scale: TracrScale, densified: Trained
) -> dict[str, Proportion]:
    contrast = contrast_of(config)
    query = densified.task.query(
        contrast.family, contrast.pretraining_operand, contrast.correlation(0.0)
    )
    batch = query.sample(scale.rows, generator(config.seed, "base"))
    compiled = load(config.base)
    return {"compiled": accuracy(compiled, batch), "densified": accuracy(densified, batch)}


def _grid(
    config: TracrConfig, scale: TracrScale, rows: Sequence[Mapping[str, Any]]
) -> FinetuningGrid:
    import pandas as pd

    rates = protocol_of(load(config.base).task).learning_rates
    # The paper's table has one Max-identifier; its main text's q = 1 is what it is held against.
    paper = table3(config.program) if config.offset == 1 else {}
    found = []
    for row in rows:
        rate, c_tr = rates[row["rate"]], float(row["correlation"])
        for question in QUESTIONS:
            value = row[question]
            share = None if value is None else proportion(round(value * row["rows"]), row["rows"])
            theirs = paper.get((rate, c_tr), {}).get(question, float("nan"))
            nan = float("nan")
            found.append(
                {
                    "rate": row["rate"],
                    "learning_rate": rate,
                    "c_tr": c_tr,
                    "question": question,
                    "accuracy": nan if share is None else share.value,
                    "ci_low": nan if share is None else share.low,
                    "ci_high": nan if share is None else share.high,
                    "n": row["rows"],
                    "paper": theirs,
                    "difference": nan if share is None else share.value - theirs,
                    "steps": row["steps"],
                    "seed": config.seed,
                }
            )
    return FinetuningGrid(pd.DataFrame(found))


def _reversal_frame(
    grid_rows: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], base: Proportion
) -> Any:
    import pandas as pd

    before = {(row["rate"], row["correlation"]): row["acc_pt_cte0"] for row in grid_rows}
    found = []
    for row in rows:
        watched = [r for r in row["history"] if r["evaluation"] == "acc_pt_cte0"]
        steps = [r["step"] for r in watched]  # none, if the training diverged
        values = [r["accuracy"] for r in watched]
        reached = steps_to(steps, values, REVIVED * base.value)
        earlier = [step for step in steps if reached is None or step < reached]
        started = before.get((row["started"], row["correlation"]))
        found.append(
            {
                "kind": {"reverse": "reFT", "control": "Scr.+FT"}[row["kind"]],
                "started": row["started"],
                "c_tr": row["correlation"],
                "rate": row["rate"],
                "acc_pt_before": values[0] if started is None and values else started,
                **{question: row[question] for question in QUESTIONS},
                "steps_to_revival": float("nan") if reached is None else float(reached),
                "steps_before": max(earlier, default=0),
                "steps": row["steps"],
                "diverged": row["diverged_at"] is not None,
                "n": row["rows"],
            }
        )
    return pd.DataFrame(found)


def _curves(rows: Sequence[Mapping[str, Any]]) -> Revival:
    """The reversals' accuracies as a revival: one model a start, its rate in the name."""
    import pandas as pd

    runs = {
        (
            f"Scr.+FT, {row['rate']}"
            if row["kind"] == "control"
            else f"{finetuned_name(row['started'], row['correlation'])}, then {row['rate']}"
        ): pd.DataFrame(row["history"])
        for row in rows
        if row["history"]
    }
    require(bool(runs), f"All {len(rows)} trainings back diverged; nothing is left to compare.")
    return revival(runs, evaluation="acc_pt_cte0")
