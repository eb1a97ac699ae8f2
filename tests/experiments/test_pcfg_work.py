"""The PCFG study's jobs: each leaves the tables it says, and measures what the plain calls measure."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

from mechft.experiments.pcfg.bundled_runs import bundled_for
from mechft.experiments.pcfg.config import SCALES, STUDIES, StudyConfig, scale_of
from mechft.experiments.pcfg.jobs import base_job, data_digest
from mechft.experiments.pcfg.parts import PARTS, pieces_of
from mechft.experiments.store.entry import Entry, file_hash
from mechft.experiments.store.job import Job, in_order
from mechft.experiments.store.store import Store
from mechft.experiments.sweep.pools import GivenPool, ThisProcess
from mechft.experiments.sweep.sweep import run_sweep
from mechft.models.bundled import bundled_path
from mechft.tasks import pcfg_source
from mechft.tasks.contrast import Contrast
from mechft.training.behaviour import behaviour_queries, evaluation_batches
from mechft.training.evaluation import accuracy
from mechft.training.trained import load
from tests.experiments import micro


@pytest.fixture(scope="module")
def jobs() -> dict[str, Job]:
    plain, jailbreak = micro.base(), micro.base(jailbreak_families=("J1", "J2"))
    tuned = micro.finetuned(plain)
    return {
        "base": plain,
        "tuned": tuned,
        "mixed": micro.finetuned(plain, pretraining_share=0.5),
        "randomised": micro.finetuned(plain, None, randomised=True),
        "back": micro.reversed_(tuned),
        "nothing": micro.reversed_(plain, "fresh"),
        "pruned": micro.pruned(tuned),
        "probed": micro.probed(tuned),
        "untrained": micro.probed(plain, untrained=True),
        "asked": micro.asked(micro.finetuned(jailbreak)),
    }


@pytest.fixture(scope="module")
def done(jobs: dict[str, Job], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Entry]:
    found = run_sweep(jobs.values(), Store(tmp_path_factory.mktemp("micro") / "store"))
    assert all(entry.failed is None for entry in found.values())
    return {name: found[job] for name, job in jobs.items()}


def test_what_each_leaves(done: dict[str, Entry]) -> None:
    files = {name: set(entry.description["files"]) for name, entry in done.items()}
    model, history = "model.safetensors", "history.csv"
    assert files == {
        "base": {model, history},
        "tuned": {model, history, "final.csv"},
        "mixed": {model, history, "final.csv"},
        "randomised": {model, history, "final.csv"},
        "back": {history},
        "nothing": {history},
        "pruned": {"curve.csv"},
        "probed": {"probes.csv"},
        "untrained": {"probes.csv"},
        "asked": {"answers.csv", "probes.csv"},
    }
    assert not list(done["base"].folder.glob("checkpoint*"))


def test_final_is_what_the_model_answers(done: dict[str, Entry]) -> None:
    trained = load(done["tuned"].folder)
    queries = behaviour_queries(trained.task, Contrast(), balanced=True)
    batches = evaluation_batches(queries, 1000, 30)
    found = done["tuned"].frame("final").set_index("evaluation")
    assert set(found.index) == set(batches)
    for name, batch in batches.items():
        assert found.loc[name, "accuracy"] == pytest.approx(accuracy(trained, batch).value)
    assert "acc_randomised" in set(done["randomised"].frame("final")["evaluation"])


def test_variants_are_other_trainings(jobs: dict[str, Job], done: dict[str, Entry]) -> None:
    hashes = {
        file_hash(done[n].file("model.safetensors")) for n in ("tuned", "mixed", "randomised")
    }
    assert len(hashes) == 3
    assert load(done["mixed"].folder).lineage[-1]["pretraining_share"] == 0.5
    starts = [done[name].frame("history").iloc[0]["accuracy"] for name in ("back", "nothing")]
    assert all(0 <= start <= 1 for start in starts)


def test_every_token_is_asked(done: dict[str, Entry]) -> None:
    answers, probes = done["asked"].frame("answers"), done["asked"].frame("probes")
    assert list(answers["token"]) == ["C", "J1", "J2"] and (answers["n"] == 30).all()
    assert set(probes["token"]) == {"C", "J1", "J2"} and set(probes["block"]) >= {0, 1}


def test_a_second_store_gives_the_same_bytes(
    jobs: dict[str, Job], done: dict[str, Entry], tmp_path: Path
) -> None:
    again = run_sweep([jobs["back"], jobs["pruned"]], Store(tmp_path / "store"))
    for name in ("base", "tuned", "back", "pruned"):
        assert again[jobs[name]].description["files"] == done[name].description["files"]


@pytest.mark.parametrize("preset", SCALES)
@pytest.mark.parametrize("quick", [False, True])
def test_studies_share_their_runs(preset: str, quick: bool) -> None:
    keys = {}
    for name, made in STUDIES.items():
        config: StudyConfig = made(preset=preset, seeds=1, quick=quick)  # type: ignore[arg-type]
        pieces = pieces_of(config.parts, scale_of(config), config.seed_list)
        ordered = in_order(piece.job for piece in pieces)
        keys[name] = {job.key for job in ordered}
        assert len(keys[name]) == len(ordered) and all(job.cost > 0 for job in ordered)
        labelled = [(p.table, tuple(map(str, p.labels.values()))) for p in pieces]
        assert len(set(labelled)) == len(labelled), "two rows of a table would look the same"
    assert set(PARTS) == set(STUDIES["pcfg"].parts)
    assert all(keys[name] <= keys["pcfg"] for name in STUDIES)
    assert all(keys[f"fig{n}"] <= keys["main"] for n in range(5, 10))
    assert keys["fig5"] == keys["fig6"] == keys["table5"] < keys["fig7"] == keys["inhibitor"]


def test_bundled_models_stand_in_for_their_pretraining(tmp_path: Path) -> None:
    settings = base_job(SCALES["tiny"], "low", 0).settings
    assert bundled_for(settings) == "pcfg-tiny-low"
    assert settings["bundled"] == file_hash(bundled_path("pcfg-tiny-low"))
    store = Store(tmp_path / "store")
    entry = store.do(base_job(SCALES["tiny"], "low", 0))
    assert entry is not None and file_hash(entry.file("model.safetensors")) == settings["bundled"]
    wider = {**settings["model"], "d_model": 64}
    for name, value in (
        ("seed", 1), ("steps", 1999), ("learning_rate", 2e-3), ("batch_size", 95), ("model", wider),
    ):  # fmt: skip
        assert not bundled_for({**settings, name: value}), name
    assert not base_job(SCALES["tiny"], "low", 1).settings["bundled"]


def test_keys_cover_what_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    before = base_job(SCALES["tiny"], "low", 0)
    assert base_job(SCALES["tiny"], "low", 0) == before
    data_digest.cache_clear()
    monkeypatch.setattr(pcfg_source, "plant_count", lambda text, *rest: text.flip(1))
    assert base_job(SCALES["tiny"], "low", 0).key != before.key
    data_digest.cache_clear()


def test_jobs_done_together_are_those_done_alone(
    jobs: dict[str, Job], done: dict[str, Entry], tmp_path: Path
) -> None:
    """An ensemble's members equal their twins up to rounding; what differs in shape is kept apart."""
    names = ("tuned", "mixed", "randomised", "back", "nothing", "asked")
    pool = GivenPool(ThisProcess(), together=16)
    found = run_sweep([jobs[name] for name in names], Store(tmp_path / "store"), pool)
    others = {name: found[jobs[name]].description["made"].get("together with") for name in names}
    assert others == {
        "tuned": 2, "mixed": 2, "randomised": 2, "back": 1, "nothing": 1, "asked": None,
    }  # fmt: skip
    for name in ("tuned", "mixed", "randomised"):
        one, other = (load(entry.folder) for entry in (found[jobs[name]], done[name]))
        for p, q in zip(one.model.parameters(), other.model.parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5)
        assert one.name == other.name
    for name in ("tuned", "back", "nothing"):
        frames = [entry.frame("history") for entry in (found[jobs[name]], done[name])]
        pd.testing.assert_series_equal(frames[0]["train_loss"], frames[1]["train_loss"], rtol=1e-3)
    assert not list(found[jobs["back"]].folder.glob("*.safetensors"))
