"""The trainings of a Tracr reproduction: what is done, kept, resumed and survived."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mechft.errors import ConfigError, OutputExistsError, TrainingDivergedError, UnknownNameError
from mechft.experiments import tracr_runs
from mechft.experiments.paper_tables import table3
from mechft.experiments.tracr_cells import (
    Cell,
    contrast_of,
    folder_of,
    grid,
    reversals,
    start_of,
)
from mechft.experiments.tracr_config import (
    CORRELATIONS,
    RATES,
    TracrCounterConfig,
    TracrMaxConfig,
    TracrScale,
    scale_of,
)
from mechft.experiments.tracr_runs import ROW_FILE, run_cells
from mechft.randomness import generator
from mechft.training.densify import COMPILED_NOISE
from mechft.training.evaluation import accuracy
from mechft.training.trained import load
from tests.conftest import heed_ctrl_c

SMALL = TracrScale(
    rates=("S", "VS"),
    correlations=(1.0,),
    reverse_correlations=(1.0,),
    steps=4,
    reverse_steps=3,
    rows=50,
    evaluation_rows=20,
)


@pytest.fixture
def config(tmp_path: Path) -> TracrMaxConfig:
    return TracrMaxConfig(out=tmp_path / "run", steps=4, jobs=1)


def test_the_grid_is_the_papers_and_reft_goes_to_every_smaller_rate() -> None:
    cells = grid(TracrScale())
    assert [(c.rate, c.correlation) for c in cells] == [(r, c) for r in RATES for c in CORRELATIONS]
    back = reversals(TracrScale())
    pairs = {(c.started, c.rate) for c in back if c.kind == "reverse"}
    assert pairs == {("L", "M"), ("L", "S"), ("L", "VS"), ("M", "S"), ("M", "VS"), ("S", "VS")}
    assert {c.rate for c in back if c.kind == "control"} == {"M", "S", "VS"}
    names = [c.name for c in (*cells, *back)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("program", ["counter", "max"])
def test_the_papers_table_has_every_cell_of_the_grid(program: str) -> None:
    found = table3(program)
    rates = {"L": 1e-1, "M": 1e-2, "S": 1e-3, "VS": 1e-4}
    assert set(found) == {(rates[c.rate], c.correlation) for c in grid(TracrScale())}
    assert all(len(row) == 4 and all(0 <= v <= 1 for v in row.values()) for row in found.values())


def test_the_papers_table_is_read_by_column() -> None:
    # From the paper: Counter, rate 1e-3, C_Tr = 0.5.
    assert table3("counter")[1e-3, 0.5] == pytest.approx(
        {"acc_pt_cte1": 0.071, "acc_ft_cte1": 0.909, "acc_pt_cte0": 0.198, "acc_ft_cte0": 0.023}
    )
    with pytest.raises(UnknownNameError, match="counter"):
        table3("sort")


def test_a_cell_leaves_its_model_and_row_and_is_not_done_again(
    config: TracrMaxConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = Cell("finetune", "VS", correlation=1.0)
    (row,) = run_cells(config, SMALL, [cell])
    trained = load(folder_of(config, cell))
    assert row["steps"] == 4 and row["diverged_at"] is None
    assert [r["step"] for r in row["history"]][-1] == 4
    assert trained.lineage[-1]["train_correlation"] == 1.0
    assert trained.lineage[-1]["learning_rate"] == 1e-4

    def never(*_: Any) -> Any:
        raise AssertionError("done again")

    monkeypatch.setattr(tracr_runs, "_train", never)
    assert run_cells(config, SMALL, [cell]) == [row]


def test_what_processes_do_is_what_one_process_does(config: TracrMaxConfig, tmp_path: Path) -> None:
    cells = [*grid(SMALL), Cell("control", "VS")]
    alone = run_cells(config, SMALL, cells)
    both = replace(config, out=tmp_path / "both", jobs=2)
    together = run_cells(both, SMALL, cells)
    for one, other in zip(alone, together, strict=True):
        assert {**one, "seconds": 0, "history": 0} == {**other, "seconds": 0, "history": 0}
    (reverse,) = run_cells(both, SMALL, [Cell("reverse", "VS", "S", 1.0)])
    assert load(folder_of(both, Cell("reverse", "VS", "S", 1.0))).lineage[-1]["operand"] == "5"
    assert [reverse["history"][i]["step"] for i in (0, -1)] == [0, SMALL.reverse_steps]


def test_an_ensemble_does_what_one_after_the_other_does(
    config: TracrMaxConfig, tmp_path: Path
) -> None:
    cells = [*grid(SMALL), Cell("control", "VS")]
    alone = run_cells(config, SMALL, cells)
    at_once = replace(config, out=tmp_path / "at once", ensemble=True)
    together = run_cells(at_once, SMALL, cells)
    for cell, one, other in zip(cells, alone, together, strict=True):
        assert {k: one[k] for k in ("name", "steps", "rows")} == {
            k: other[k] for k in ("name", "steps", "rows")
        }
        ours, theirs = (load(folder_of(c, cell)) for c in (config, at_once))
        assert ours.lineage[-1].keys() == theirs.lineage[-1].keys()
        for (name, a), (_, b) in zip(
            ours.model.named_parameters(), theirs.model.named_parameters(), strict=True
        ):
            # Single precision; compiled weights reach 100.
            assert torch.allclose(a, b, atol=1e-4), name


def test_a_diverged_training_is_marked_and_the_others_go_on(
    config: TracrMaxConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = tracr_runs._train

    def explodes_at_s(config: Any, scale: Any, cell: Cell) -> Any:
        if cell.rate == "S":
            raise TrainingDivergedError("too fast", 3)
        return real(config, scale, cell)

    monkeypatch.setattr(tracr_runs, "_train", explodes_at_s)
    lost, kept = run_cells(config, SMALL, grid(SMALL))
    assert lost["diverged_at"] == 3 and lost["acc_pt_cte0"] is None
    assert kept["diverged_at"] is None and 0 <= kept["acc_pt_cte0"] <= 1
    assert json.loads((folder_of(config, grid(SMALL)[0]) / ROW_FILE).read_text()) == lost


@pytest.mark.parametrize(
    ("make", "program"), [(TracrCounterConfig, "counter"), (TracrMaxConfig, "max")]
)
def test_the_noise_costs_no_accuracy(make: Any, program: str) -> None:
    config = make()
    contrast = contrast_of(config)
    compiled, noisy = load(config.base), start_of(config, config.base)
    query = compiled.task.query(program, contrast.pretraining_operand)
    batch = query.sample(1000, generator(0, "noise"))
    assert accuracy(noisy, batch).value >= accuracy(compiled, batch).value - 0.002
    assert noisy.lineage[-1] == {"recipe": "densify", "deviation": COMPILED_NOISE, "seed": 0}
    # And it reaches the weights of a block that was compiled to nothing but zeros.
    weights = noisy.model.blocks[0 if program == "counter" else 1].attn.W_Q
    assert float((weights == 0).float().mean()) < 0.01


def test_controls_answer_for_o_ft_and_not_for_o_pt() -> None:
    for config in (TracrCounterConfig(), TracrMaxConfig(), TracrMaxConfig(against="7")):
        contrast, never = contrast_of(config), load(config.never)
        family = contrast.family
        asked = {
            operand: accuracy(
                never,
                never.task.query(family, operand, contrast.correlation(1.0)).sample(
                    200, generator(0, operand)
                ),
            ).value
            for operand in (contrast.pretraining_operand, contrast.finetuning_operand)
        }
        assert asked[contrast.finetuning_operand] > 0.95
        assert asked[contrast.pretraining_operand] == 0  # the correlation keeps the two apart


def test_quick_is_small_and_the_settings_are_checked(tmp_path: Path) -> None:
    assert (
        scale_of(TracrMaxConfig(quick=True)).steps
        < 1000
        == scale_of(TracrMaxConfig(steps=1000)).steps
    )
    wrongs: tuple[dict[str, Any], ...] = (
        {"steps": 0},
        {"reverse_steps": -1},
        {"seed": -1},
        {"jobs": -1},
    )
    for wrong in wrongs:
        with pytest.raises(ConfigError, match=next(iter(wrong)).rstrip("s")):
            TracrMaxConfig(out=tmp_path, **wrong)


def test_a_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    from mechft.experiments.tracr import run_tracr

    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match="not empty"):
        run_tracr(TracrMaxConfig(out=tmp_path, quick=True))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_grid_leaves_no_worker_behind(tmp_path: Path, how: int) -> None:
    command = [sys.executable, "-m", "mechft.cli", "reproduce", "tracr-max", "--out"]
    command += [str(tmp_path / "run"), "--quick", "--steps", "20", "--jobs", "2"]
    process = subprocess.Popen(
        command, start_new_session=True, stderr=subprocess.PIPE, text=True, preexec_fn=heed_ctrl_c
    )
    begun = time.monotonic()
    while not list(tmp_path.glob("run/runs/*/checkpoint.safetensors")):
        assert process.poll() is None and time.monotonic() - begun < 120
        time.sleep(0.05)
    if how == signal.SIGKILL:
        process.kill()  # the parent alone: it cannot tell its workers
    else:
        os.killpg(process.pid, how)  # as a terminal's Ctrl-C
    _, said = process.communicate(timeout=60)
    assert process.returncode == (130 if how == signal.SIGINT else -how), said
    while True:  # nobody of the session is left
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            break
        assert time.monotonic() - begun < 180
        time.sleep(0.2)
