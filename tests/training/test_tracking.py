"""A tracker's table holds each step and evaluation of a run once, however often it was killed."""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
import torch

from mechft.errors import ConfigError, OutputExistsError
from mechft.randomness import generator
from mechft.tasks.pcfg import PCFGTask
from mechft.training.callbacks import Callback
from mechft.training.config import TrainConfig
from mechft.training.loop import train
from mechft.training.recipes import finetune, reverse_finetune
from mechft.training.table_file import TableFile
from mechft.training.tracking import TableLog, WandbLog
from mechft.training.trained import Trained

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

MakeModel = Callable[..., "HookedTransformer"]
CONFIG = TrainConfig(
    steps=9, learning_rate=1e-3, batch_size=4, evaluate_at=(4, 6, 9), checkpoint_every=3
)
FAST: dict[str, Any] = {"steps": 2, "batch_size": 4, "evaluation_size": 5}


class Killer(Callback):
    """Ends the run after some step, as a kill would, before it is saved."""

    def __init__(self, at: int) -> None:
        self.at = at

    def stepped(self, step: int, loss: float) -> None:
        if step == self.at:
            raise RuntimeError("killed")


def run(
    model: HookedTransformer,
    task: PCFGTask,
    *callbacks: Callback,
    label: str = "x",
    directory: Path | None = None,
) -> list[dict[str, Any]]:
    tests = {"a": task.query("C", "a").sample(5, generator(0))}
    return train(
        model, task.query("C", "a"), CONFIG,
        evaluations=tests, callbacks=callbacks, label=label, directory=directory,
    )  # fmt: skip


def table(path: Path) -> pd.DataFrame:
    return pd.read_csv(path) if path.suffix == ".csv" else pd.read_json(path, lines=True)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_the_table_is_the_history_and_every_step(
    make_model: MakeModel, task: PCFGTask, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / "folder" / f"log{suffix}"
    history = pd.DataFrame(run(make_model(), task, TableLog(path)))
    found = table(path)
    assert set(found["run"]) == {"x"}
    measured = found[found["evaluation"].notna()].drop(columns="run").reset_index(drop=True)
    pd.testing.assert_frame_equal(measured, history, check_dtype=False)
    steps = found[found["evaluation"].isna()]
    assert list(steps["step"]) == list(range(1, 10))
    assert list(steps["learning_rate"]) == pytest.approx([CONFIG.rate(i) for i in range(9)])
    # The loss an evaluation names is the one of the step before it.
    of_step = steps.set_index("step")["train_loss"]
    assert list(history["train_loss"][1:]) == pytest.approx(list(of_step[[4, 6, 9]]))
    assert list(found["step"]) == sorted(found["step"])


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
@pytest.mark.parametrize("kills", [(5,), (6,), (4, 7, 8)])
def test_a_resumed_run_leaves_the_table_of_an_undisturbed_one(
    make_model: MakeModel, task: PCFGTask, tmp_path: Path, suffix: str, kills: tuple[int, ...]
) -> None:
    whole, path = tmp_path / f"whole{suffix}", tmp_path / f"parts{suffix}"
    run(make_model(), task, TableLog(whole))
    for at in kills:
        with pytest.raises(RuntimeError, match="killed"):
            run(make_model(), task, TableLog(path), Killer(at), directory=tmp_path / "run")
        path.write_text(path.read_text() + '{"run": "x", "st')  # a line cut off in the middle
    run(make_model(), task, TableLog(path), directory=tmp_path / "run")
    assert path.read_text() == whole.read_text()
    run(make_model(), task, TableLog(path), directory=tmp_path / "run")  # nothing is left to do
    assert path.read_text() == whole.read_text()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([whole.name, path.name, "run"])


def test_a_run_killed_before_its_first_checkpoint_begins_anew(
    make_model: MakeModel, task: PCFGTask, tmp_path: Path
) -> None:
    path, whole = tmp_path / "log.csv", tmp_path / "whole.csv"
    run(make_model(), task, TableLog(whole))
    with pytest.raises(RuntimeError):
        run(make_model(), task, TableLog(path), Killer(2), directory=tmp_path / "run")
    with pytest.warns(UserWarning, match="up to step 2, from before its first checkpoint"):
        run(make_model(), task, TableLog(path), directory=tmp_path / "run")
    assert path.read_text() == whole.read_text()


def test_rows_are_in_the_file_before_the_next_step(
    make_model: MakeModel, task: PCFGTask, tmp_path: Path
) -> None:
    path, seen = tmp_path / "log.jsonl", []

    class Reader(Callback):
        def stepped(self, step: int, loss: float) -> None:
            seen.append(json.loads(path.read_text().splitlines()[-1]))
            assert seen[-1]["step"] == step and seen[-1]["train_loss"] == loss

    run(make_model(), task, TableLog(path), Reader())
    assert len(seen) == 9


@pytest.mark.parametrize(("every", "steps"), [(4, [4, 8]), (0, []), (9, [9])])
def test_steps_are_thinned_and_evaluations_are_not(
    make_model: MakeModel, task: PCFGTask, tmp_path: Path, every: int, steps: list[int]
) -> None:
    run(make_model(), task, TableLog(tmp_path / "log.csv", every))
    found = table(tmp_path / "log.csv")
    assert list(found[found["evaluation"].isna()]["step"]) == steps
    assert list(found[found["evaluation"].notna()]["step"]) == [0, 4, 6, 9]


def test_several_runs_share_a_file(trained: Trained, tmp_path: Path) -> None:
    log = TableLog(tmp_path / "log.csv")
    tuned = finetune(trained, **FAST, callbacks=[log])
    back = reverse_finetune(tuned, **FAST, callbacks=[log])
    found = table(log.path)
    assert list(dict.fromkeys(found["run"])) == ["small+ft", "small+ft+reft"]
    for made in (tuned, back):
        mine = found[(found["run"] == made.name) & found["evaluation"].notna()]
        assert list(mine["accuracy"]) == list(made.history["accuracy"])


def test_another_run_of_the_same_name_is_refused(
    make_model: MakeModel, task: PCFGTask, tmp_path: Path
) -> None:
    path = tmp_path / "log.csv"
    run(make_model(), task, TableLog(path))
    before = path.read_bytes()
    with pytest.raises(OutputExistsError, match=r"rows of x up to step 9.*another run's"):
        run(make_model(), task, TableLog(path))
    assert path.read_bytes() == before
    run(make_model(), task, TableLog(path), label="y")
    assert path.read_bytes().startswith(before)


def test_steps_that_were_not_logged_are_said(
    make_model: MakeModel, task: PCFGTask, tmp_path: Path
) -> None:
    with pytest.raises(RuntimeError):
        run(make_model(), task, Killer(5), directory=tmp_path)
    with pytest.warns(UserWarning, match="up to step 0, and the run goes on after step 3"):
        run(make_model(), task, TableLog(tmp_path / "log.csv"), directory=tmp_path)
    assert table(tmp_path / "log.csv")["step"].min() == 4


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("log.csv", "step,loss\n1,2\n"),
        ("log.csv", "my notes"),
        ("log.jsonl", '{"loss": 1}\n'),
        ("log.jsonl", "[1]\n"),
        ("log.jsonl", "my notes\n"),
        ("log.jsonl", '{"run": "x", "step": 1, "mood": "good"}\n'),
    ],
)
def test_a_file_of_something_else_is_left_alone(
    make_model: MakeModel, task: PCFGTask, tmp_path: Path, name: str, content: str
) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(OutputExistsError, match=r"no table with the columns run, step"):
        run(make_model(), task, TableLog(path))
    assert path.read_text() == content


@pytest.mark.parametrize(
    ("text", "rows"), [("", 0), ("run,st", 0), ("run,step\na,1\nb", 1), ("run,step\n", 0)]
)
def test_a_csv_file_cut_off_anywhere_goes_on(tmp_path: Path, text: str, rows: int) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    file = TableFile(path, ("run", "step"))
    assert len(file.read()) == rows
    with file.open() as stream:
        stream.write(file.line({"run": "so, so", "step": 2}))
    assert path.read_text() == "run,step\n" + "a,1\n" * rows + '"so, so",2\n'


def test_bad_arguments(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ends in .csv or .jsonl; got 'log.txt'"):
        TableLog(tmp_path / "log.txt")
    for make in (lambda: TableLog("log.csv", -1), lambda: WandbLog("p", every=-1)):
        with pytest.raises(ConfigError, match="got -1"):
            make()


def test_wandb_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match="pip install wandb"):
        WandbLog("p")


def test_wandb_offline(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real package, without a network: what it has written down is what the run's history says."""
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    log = WandbLog("tests", mode="offline", directory=tmp_path, group="g", config={"C_Tr": 1.0})
    state = torch.get_rng_state()
    made = finetune(trained, **FAST, callbacks=[log])
    assert torch.equal(torch.get_rng_state(), state)
    wandb.teardown()  # waits until its other process has written everything
    rows, settings = _offline_run(tmp_path)
    assert settings["C_Tr"] == 1.0 and settings["steps"] == 2 and settings["label"] == "small+ft"
    history = made.history.set_index(["step", "evaluation"])
    for (step, name), found in history.iterrows():
        for value in ("accuracy", "ci_low", "ci_high"):
            assert rows[step][f"{value}/{name}"] == pytest.approx(found[value])
    assert [step for step, row in rows.items() if "train/loss" in row] == [1, 2]
    assert rows[2]["train/loss"] == pytest.approx(history.loc[2, "train_loss"].iloc[0])
    # The training is the one without a tracker.
    bare = finetune(trained, **FAST)
    assert made.records == bare.records


def _offline_run(folder: Path) -> tuple[dict[int, dict[str, Any]], dict[str, Any]]:
    """Logged values by step, and the config, from the file that wandb writes offline.

    A header of 7 bytes, then records: checksum, length and type (1: whole) before each.
    """
    messages: Any = import_module("wandb.proto.wandb_internal_pb2")
    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    content, place = path.read_bytes(), 7
    rows: dict[int, dict[str, Any]] = {}
    settings: dict[str, Any] = {}
    while place < len(content):
        _, length, kind = struct.unpack_from("<IHB", content, place)
        assert kind == 1
        record = messages.Record()
        record.ParseFromString(content[place + 7 : place + 7 + length])
        place += 7 + length
        for item in (*record.run.config.update, *record.config.update):
            settings[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
        items = {i.key or "/".join(i.nested_key): i.value_json for i in record.history.item}
        row = {key: json.loads(value) for key, value in items.items()}
        if row:
            rows.setdefault(int(row["_step"]), {}).update(row)
    return rows, settings


class Recorder:
    """Stands in for wandb: the same calls, written down."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []

    def init(self, **settings: Any) -> Recorder:
        self.calls.append(("init", settings))
        return self

    def log(self, values: dict[str, float], step: int) -> None:
        self.calls.append(("log", (step, sorted(values))))

    def finish(self) -> None:
        self.calls.append(("finish", None))


def test_wandb_is_told_in_order(
    make_model: MakeModel, task: PCFGTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was killed is finished there, and goes on under its id from its checkpoint."""
    stand_in = Recorder()
    monkeypatch.setitem(sys.modules, "wandb", stand_in)
    log = WandbLog("p", id="one", every=2, directory=tmp_path / "made")
    with pytest.raises(RuntimeError):
        run(make_model(), task, log, Killer(5), directory=tmp_path)
    steps = ["train/learning_rate", "train/loss"]
    measured = ["accuracy/a", "ci_high/a", "ci_low/a"]
    assert stand_in.calls[0][1]["resume"] == "allow" and stand_in.calls[0][1]["name"] == "x"
    assert stand_in.calls[1:] == [
        ("log", (0, measured)), ("log", (2, steps)), ("log", (4, steps)), ("log", (4, measured)),
        ("finish", None),
    ]  # fmt: skip
    run(make_model(), task, log, directory=tmp_path)
    again = stand_in.calls[6:]
    assert again[0][0] == "init" and again[1] == ("log", (4, steps)) and again[-1][0] == "finish"
    with pytest.raises(ConfigError, match="stands for one run, x; got another, y"):
        run(make_model(), task, log, label="y")
    assert stand_in.calls[6:] == again
