"""A whole study at a size of seconds: runs shared between figures, tables kept, nothing done twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from mechft.errors import CheckpointError, OutputExistsError, UnknownNameError
from mechft.experiments.pcfg import config as configs
from mechft.experiments.pcfg.config import PCFG, Fig9, Main, StudyScale, scale_of
from mechft.experiments.pcfg.result import StudyResult, read_result
from mechft.experiments.pcfg.study import run_study
from mechft.experiments.runs import run_command
from mechft.experiments.runs_config import RunsExport, RunsList, RunsRemove, RunsShow
from mechft.experiments.store.entry import file_hash
from mechft.experiments.store.store import Store
from mechft.experiments.sweep.pools import GivenPool, ThisProcess
from tests.experiments import micro


@pytest.fixture(scope="module")
def small() -> Iterator[None]:
    with micro.small_presets():
        yield


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("study") / "study"


@pytest.fixture(scope="module")
def whole(small: None, out: Path) -> StudyResult:
    return run_study(PCFG(out=out, seeds=2), GivenPool(ThisProcess()))


def test_every_table_has_every_seed(whole: StudyResult) -> None:
    assert set(whole.tables) == {
        "pretraining", "finetuning", "finetuning_final", "pruning", "probing", "reversal", "mixing",
        "mixing_final", "mixing_pruning", "jailbreak", "jailbreak_probing", "randft", "randft_final",
        "indexer", "indexer_final", "steps", "steps_final",
    }  # fmt: skip
    for name, frame in whole.tables.items():
        assert set(frame["seed"]) == {0, 1}, name
    final = whole.tables["finetuning_final"]
    assert len(final) == 2 * 2 * 2 * 2 * 4  # seeds, priors, rates, C_Tr, questions
    assert set(whole.tables["reversal"]["kind"]) == {"reFT", "Scr.+FT", "Scr.", "randFT"}
    assert not whole.left_out and len(whole.checks) >= 12


def test_what_is_done_is_not_done_again(
    whole: StudyResult, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {entry.key: entry.description["made"] for entry in Store(out / "store").entries()}
    again = run_study(Fig9(out=out, seeds=2), GivenPool(ThisProcess()))
    assert "30 runs, 30 of them done already" in capsys.readouterr().out
    after = {entry.key: entry.description["made"] for entry in Store(out / "store").entries()}
    assert before == after
    ours, theirs = (r.tables["reversal"] for r in (again, whole))
    theirs = theirs[theirs["kind"] != "randFT"]
    key = ["seed", "kind", "prior", "rate", "reverse_rate", "step", "evaluation"]
    pd.testing.assert_frame_equal(
        ours.sort_values(key, ignore_index=True), theirs.sort_values(key, ignore_index=True)
    )


def test_result_is_read_back_from_its_tables(whole: StudyResult) -> None:
    found = read_result(whole.config.results)
    assert found.scale == whole.scale and found.checks == whole.checks
    assert found.config == replace(whole.config, out=whole.config.results)
    for name, frame in whole.tables.items():
        read = found.tables[name].select_dtypes("number")
        assert list(found.tables[name]) == list(frame) and len(read) == len(frame)
        pd.testing.assert_frame_equal(read, frame[list(read)], check_dtype=False, rtol=1e-5)
    with pytest.raises(CheckpointError, match="holds no results"):
        read_result(whole.config.out)


def test_a_damaged_run_is_done_again_with_the_same_bits(whole: StudyResult, out: Path) -> None:
    tables = {p.name: file_hash(p) for p in whole.config.results.glob("*.csv")}
    entry = next(e for e in Store(out / "store").entries() if e.kind == "pretrain")
    model = entry.file("model.safetensors")
    good = file_hash(model)
    model.write_bytes(model.read_bytes()[:-7])
    with pytest.warns(UserWarning, match="damaged run was moved"):
        run_study(whole.config, GivenPool(ThisProcess()))
    assert file_hash(model) == good
    assert {p.name: file_hash(p) for p in whole.config.results.glob("*.csv")} == tables
    said = run_command(RunsRemove(quarantine=True, store=out / "store"))
    assert said.startswith("Removed damaged pretrain-")


def test_other_settings_do_not_share_a_folder(whole: StudyResult, out: Path) -> None:
    (out / "main-tiny-1-seed").mkdir()
    (out / "main-tiny-1-seed/notes.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match="left as it is"):
        run_study(Main(out=out, seeds=1))


def test_runs_are_listed_shown_exported_and_removed(
    whole: StudyResult, out: Path, tmp_path: Path
) -> None:
    store = out / "store"
    entries = Store(store).entries()
    listed = run_command(RunsList(store=store)).splitlines()
    assert listed[-1].startswith(f"{len(entries)} runs, ")
    only = run_command(RunsList(store=store, kind="prune")).splitlines()
    assert len(only) - 1 == sum(entry.kind == "prune" for entry in entries)
    entry = next(entry for entry in entries if entry.kind == "finetune")
    told = json.loads(run_command(RunsList(store=store, kind="prune", json=True)))
    assert len(told["runs"]) == len(only) - 1 and {r["kind"] for r in told["runs"]} == {"prune"}
    shown = run_command(RunsShow(entry.key[:10], store))
    assert '"state": "whole"' in shown and '"train_correlation"' in shown
    target = tmp_path / "exported"
    assert "copied" in run_command(RunsExport((entry.key,), store=store, out=target))
    table = pd.read_csv(target / "runs.csv")
    assert table.loc[0, "key"] == entry.key and table.loc[0, "steps"] == 3
    assert sorted(p.name for p in target.rglob("*.csv")) == ["final.csv", "history.csv", "runs.csv"]
    with pytest.raises(OutputExistsError, match="another --out"):
        run_command(RunsExport((entry.key,), store=store, out=target))
    with pytest.raises(UnknownNameError, match="kind of run"):
        run_command(RunsList(store=store, kind="sing"))
    with pytest.raises(CheckpointError, match="no store of runs"):
        run_command(RunsList(store=tmp_path))
    with pytest.raises(UnknownNameError, match="Unknown run"):
        run_command(RunsRemove((entry.key, "nothing"), store=store))
    assert Store(store).entry(entry.key), "nothing is removed when one key is wrong"
    run_command(RunsRemove((entry.key,), store=store))
    with pytest.raises(UnknownNameError):
        Store(store).entry(entry.key)


def test_quick_and_presets() -> None:
    quick = scale_of(PCFG(quick=True))
    assert max(steps for _, steps in quick.pretraining_steps) <= 60 and quick.steps <= 60
    assert scale_of(PCFG(preset="paper")) == StudyScale() == configs.SCALES["paper"]
    assert PCFG(quick=True).seed_list == (0,) and PCFG().seed_list == (0, 1, 2)
