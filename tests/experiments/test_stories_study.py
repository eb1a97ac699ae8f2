"""The stories study, whole, in seconds: of procedural stories and of a file in the real format."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from mechft import cli
from mechft.errors import CheckpointError, ConfigError, UnknownNameError
from mechft.experiments import zoo_stories
from mechft.experiments.store.entry import file_hash
from mechft.experiments.stories import study
from mechft.experiments.stories.claims import story_checks
from mechft.experiments.stories.config import DELETIONS, StoriesConfig, StoriesScale
from mechft.experiments.stories.jobs import NEVER, StoryJobs
from mechft.experiments.stories.result import StoriesResult, read_stories_result
from mechft.experiments.sweep.pools import GivenPool, ThisProcess
from mechft.experiments.zoo import build_zoo
from mechft.experiments.zoo_config import BUNDLED_STORIES, ZooConfig
from mechft.models import bundled, llama_config
from mechft.models.llama_config import LlamaConfig
from mechft.models.opening import open_model
from mechft.tasks.stories.layout import render
from mechft.tasks.stories.procedural import ProceduralStories
from mechft.training.trained import load

MICRO = StoriesScale(
    preset="tiny", train_stories=250, test_stories=60, labelled_stories=60, n_ctx=64, batch_size=4,
    micro_batches=2, copying_steps=2, copying_length=16, pretraining_steps=4, deletion_steps=2,
    rates=(("M", 1e-3),), reverse_steps=3, reverse_rate=1e-3, moments=(0, 3), generations=4,
    new_tokens=8, loss_stories=4, classifier_steps=2, classifier_rate=1e-3,
    probe_stories=60,
)  # fmt: skip


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = LlamaConfig(1, 2, 16, d_vocab=400, n_ctx=64)
    monkeypatch.setitem(llama_config.LLAMA_PRESETS, "tiny", shape)
    monkeypatch.setattr(study, "story_scale_of", lambda config: MICRO)


def run(config: StoriesConfig) -> StoriesResult:
    return study.run_stories(config, GivenPool(ThisProcess()))


def check_tables(result: StoriesResult, judges: set[str]) -> None:
    tables = result.tables
    deleted = {(protocol, "M") for protocol in DELETIONS}
    writing = tables["writing"]
    assert set(writing["by"]) == judges
    assert set(zip(writing["protocol"], writing["rate"], strict=True)) == {("", ""), *deleted}
    assert set(writing["model"]) == {"base", "never", "deleted"}
    assert (writing["has"] + writing["has_not"] + writing["unclear"] == writing["n"]).all()
    back = tables["reversal_writing"]
    assert set(back["step"]) == {0, 3}
    assert set(back["model"]) == {"never", "deleted"}
    assert set(tables["probes"]["control"]) == {"none", "random_model"}
    assert set(tables["losses"]["texts"]) == {"with", "without"}
    assert tables["pretraining"].groupby("model")["step"].max().to_dict() == {"base": 4, "never": 4}
    # At step 0 of bringing back, a model is the one that deletion left.
    history = tables["reversal"].set_index(["model", "protocol", "texts", "step"])["loss"]
    ended = tables["deletion"].set_index(["model", "protocol", "texts", "step"])["loss"]
    for protocol in DELETIONS:
        for texts in ("with", "without"):
            first = history["deleted", protocol, texts, 0]
            assert first == pytest.approx(ended["deleted", protocol, texts, 2], rel=1e-5)


def test_procedural_stories(
    small: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = StoriesConfig(out=tmp_path, feature="Twist")
    result = run(config)
    check_tables(result, {"classifier", "rule"})
    assert {"decisions", "pruning", "patching", "weights", "activations"} <= set(result.tables)
    counts = result.tables["counts"].set_index(["corpus", "what"])["count"]
    assert counts["F", "removed"] == counts["F+MM", "removed"] == counts["keep", "records_out"]
    assert counts["F+MM", "renamed"] > 0 and counts["F+RR", "added"] > 0
    assert counts["refusal", "refused"] == counts["F", "removed"]
    # An untrained model writes nothing of the kind, so nothing is judged.
    assert result.checks[-1].holds is None
    assert "nothing else" in result.checks[-1].claim.lower()

    capsys.readouterr()
    again = run(config)
    told = re.match(r"tinystories: (\d+) runs, (\d+) of them done already", capsys.readouterr().out)
    assert told is not None and told[1] == told[2]
    for name, table in result.tables.items():
        pd.testing.assert_frame_equal(table, again.tables[name])
    read = read_stories_result(config.results)
    assert read.checks == result.checks
    assert (read.config.feature, read.scale) == ("Twist", MICRO)


def test_a_file_in_the_real_format(small: None, tmp_path: Path) -> None:
    rng = random.Random(0)
    texts = [render(record, rng).text for record in ProceduralStories().stories(1400, 5)]
    path = tmp_path / "TinyStories-Instruct.txt"
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    result = run(StoriesConfig(out=tmp_path / "out", source=str(path), feature="BadEnding"))
    check_tables(result, {"classifier"})
    assert not {"decisions", "pruning", "patching"} & set(result.tables)
    assert str(tmp_path) not in (result.config.results / "results.json").read_text()


def shares(numbers: dict[tuple[str, str, bool], int], step: int | None = None) -> pd.DataFrame:
    rows = [
        {"model": model, "protocol": protocol, "rate": "M" if protocol else "", "seed": 0}
        | ({} if step is None else {"step": step})
        | {"asked": asked, "by": "rule", "has": has, "has_not": 100 - has, "unclear": 0, "n": 100}
        for (model, protocol, asked), has in numbers.items()
    ]
    return pd.DataFrame(rows)


def made_up(after: int, back: int, control: int) -> StoriesResult:
    """A study where every deleted model has these shares: after deletion and 3 steps on; the control."""
    writing = shares(
        {("base", "", True): 90, ("base", "", False): 5, ("never", "", True): 4}
        | {("deleted", p, True): after - 25 * (p != "F") for p in DELETIONS}
    )  # fmt: skip
    reversal = shares(
        {("deleted", p, True): back for p in DELETIONS} | {("never", "", True): control}, 3
    )
    probes = pd.DataFrame(
        [
            {"model": m, "protocol": p, "rate": "M", "seed": 0, "block": b, "target": "Twist",
             "control": "none", "accuracy": 0.6 + 0.2 * b, "majority": 0.5}
            for m, p in [("base", ""), *(("deleted", p) for p in DELETIONS)]
            for b in range(2)
        ]
    )  # fmt: skip
    classifier = pd.DataFrame(
        [{"has": "both, half of each", "accuracy": 0.95, "ci_low": 0.9, "ci_high": 0.98, "n": 500}]
    )
    tables = {
        "writing": writing, "reversal_writing": reversal, "probes": probes, "classifier": classifier
    }  # fmt: skip
    return StoriesResult(StoriesConfig(feature="Twist"), MICRO, tables, (), (), {})


@pytest.mark.parametrize(
    ("after", "back", "control", "expected"),
    [
        (50, 95, 10, [True, True, True, True, True, True, True]),
        (88, 95, 10, [True, True, False, True, True, True, True]),  # F costs nothing
        (50, 40, 10, [True, True, True, True, True, False, True]),  # does not come back whole
        (50, 95, 99, [True, True, True, True, None, True, True]),  # as soon to who never had it
        (50, 50, 90, [True, True, True, True, False, False, True]),
    ],
)
def test_verdicts(after: int, back: int, control: int, expected: list[bool | None]) -> None:
    assert [check.holds for check in story_checks(made_up(after, back, control))] == expected


def test_the_feature_is_the_presets_unless_another_is_asked_for() -> None:
    assert [StoriesConfig(preset=preset).feature for preset in ("tiny", "small", "paper")] == [
        "Conflict", "Twist", "Twist",
    ]  # fmt: skip
    assert StoriesConfig(feature="MoralValue").feature == "MoralValue"


def test_a_base_and_the_one_that_never_saw_the_feature_start_alike() -> None:
    jobs = StoryJobs(StoriesConfig(), replace(MICRO, copying_steps=2))
    assert jobs.base(0).needs["start"] == jobs.base(0, NEVER).needs["start"] == jobs.copying(0)
    assert (
        jobs.copying(0).settings["batch_size"] == 16
    )  # as many tokens a step as of stories: 4 × 64
    assert "start" not in StoryJobs(StoriesConfig(), replace(MICRO, copying_steps=0)).base(0).needs


def test_bad_input_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="Twist"):
        StoriesConfig(feature="Tragedy")
    with pytest.raises(UnknownNameError, match=r"preset 'huge'.*tiny"):
        StoriesConfig(preset="huge")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="there is no"):
        study.run_stories(StoriesConfig(out=tmp_path / "a", source=str(tmp_path / "none.txt")))
    other = tmp_path / "other.txt"
    other.write_text("It was a day like any other.")
    with pytest.raises(ConfigError, match="neither"):
        study.run_stories(StoriesConfig(out=tmp_path / "b", source=str(other)))
    assert not (tmp_path / "a").exists() and not (tmp_path / "b").exists()


def test_the_models_that_ship_are_a_finished_studys(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Weights rounded to 16 bits, the tokenizer inside, shares as the study measured them."""
    monkeypatch.setattr(zoo_stories, "story_scale_of", lambda config: MICRO)
    config = ZooConfig(out=tmp_path / "zoo", priors=(), stories=tmp_path / "study")
    with pytest.raises(ConfigError, match=r"taken from a finished study; .* lacks"):
        build_zoo(config)
    assert not (tmp_path / "study").exists()  # asking for it made nothing
    result = run(StoriesConfig(out=tmp_path / "study", seeds=1))
    entries = build_zoo(config)
    assert set(entries) == set(BUNDLED_STORIES)
    writing = result.tables["writing"].fillna("")
    for name, recipe in BUNDLED_STORIES.items():
        rows = writing[(writing["by"] == "rule") & (writing["model"] == recipe.model)]
        rows = rows[(rows["protocol"] == recipe.protocol) & (rows["rate"] == recipe.rate)]
        asked = rows.set_index("asked")["share"]
        assert entries[name]["accuracy"] == {
            "Conflict when asked": asked[True], "Conflict when not": asked[False],
        }  # fmt: skip
        file = tmp_path / "zoo" / entries[name]["file"]
        assert file_hash(file) == entries[name]["sha256"]
        opened = open_model(file)
        assert opened.name == name and opened.coder is not None
        text = "Once upon a time, there was a duck."
        assert opened.coder.decode(opened.coder.encode(text)) == text
        with pytest.raises(CheckpointError, match=r"open it: mechft\.open_model"):
            load(file)
    written = file.stat().st_mtime_ns
    assert build_zoo(config) == entries and file.stat().st_mtime_ns == written
    monkeypatch.setattr(bundled, "manifest", lambda: entries)
    capsys.readouterr()
    assert cli.main(["zoo", "list"]) == 0
    told = capsys.readouterr().out
    assert "a language model of procedural stories: deleted, F+RR at rate M" in told
