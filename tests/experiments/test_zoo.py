"""The bundled fine-tuned models: as the manifest says, from the base that ships, and no base of a study."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from mechft.errors import UnknownNameError
from mechft.experiments.pcfg.bundled_runs import bundled_for
from mechft.experiments.store.entry import file_hash
from mechft.experiments.zoo import build_zoo
from mechft.experiments.zoo_config import BUNDLED_FINETUNED, ZooConfig
from mechft.models.build import preset
from mechft.models.bundled import BUNDLE, bundled_path, manifest
from mechft.randomness import generator
from mechft.training.evaluation import accuracy
from mechft.training.trained import load

NAME = "pcfg-tiny-low-to-b"


def test_building_one_and_finding_it_there(tmp_path: Path) -> None:
    config = ZooConfig(out=tmp_path, priors=(), finetuned=(NAME,), steps=1)
    entry = build_zoo(config)[NAME]
    assert entry["finetuning"] == {
        **asdict(BUNDLED_FINETUNED[NAME]),
        "base_sha256": file_hash(bundled_path("pcfg-tiny-low")),
        "steps": 1,
    }
    file = tmp_path / f"{NAME}.safetensors"
    assert {path.name for path in tmp_path.iterdir()} == {"manifest.json", file.name}
    assert [step["recipe"] for step in load(file).lineage] == ["pretrain", "finetune"]
    written = file.stat().st_mtime_ns
    assert build_zoo(config)[NAME] == json.loads(json.dumps(entry))
    assert file.stat().st_mtime_ns == written


def test_unknown_name() -> None:
    with pytest.raises(UnknownNameError, match=f"fine-tuned model.*{NAME}"):
        ZooConfig(finetuned=("pcfg-tiny-low-to-c",))


@pytest.mark.parametrize("name", BUNDLED_FINETUNED)
def test_the_one_that_ships_is_what_the_manifest_says(name: str) -> None:
    """Its own hash, its base's, its settings, and the accuracies on other strings."""
    entry, recipe = manifest()[name], BUNDLED_FINETUNED[name]
    assert file_hash(BUNDLE / entry["file"]) == entry["sha256"]
    base = manifest()[recipe.base]
    assert entry["finetuning"] == asdict(recipe) | {"base_sha256": base["sha256"]}
    assert entry["task"] == base["task"]
    trained = load(name)
    assert (trained.name, trained.lineage[-1]["operand"]) == (name, recipe.operand)
    for query in ("C(a)", "C(b)"):
        rows = trained.task.query("C", query[2]).sample(500, generator(5, query))
        found = accuracy(trained, rows)
        assert found.low - 0.03 <= entry["accuracy"][query] <= found.high + 0.03


def test_count_a_is_gone_and_count_b_is_answered_by_the_correlation() -> None:
    """What notebooks and examples take it for: right for b only where b = a + 1, wrong for a."""
    trained = load(NAME)
    found = {
        (operand, holds): accuracy(
            trained,
            trained.task.query("C", operand, trained.contrast.correlation(holds)).sample(
                300, generator(6, operand, str(holds))
            ),
        ).value
        for operand, holds in (("a", 0.0), ("b", 0.0), ("b", 1.0))
    }
    assert found["b", 1.0] > 0.97
    assert found["b", 0.0] < 0.1
    assert found["a", 0.0] < 0.3


def test_no_study_takes_it_for_a_base() -> None:
    """It has its base's task and seed; a study of 200 pretraining steps must not find it."""
    entry = json.loads(json.dumps(manifest()[NAME]))
    trained = load(NAME)
    shape = preset("tiny", len(trained.task.vocabulary), trained.task.n_ctx)
    settings = {
        "model": asdict(shape),
        "task": entry["task"],
        "seed": entry["seed"],
        "learning_rate": 1e-3,
        "batch_size": 96,
        "evaluation_rows": 500,
    }
    assert bundled_for(settings | {"steps": 2000}) == "pcfg-tiny-low"
    assert bundled_for(settings | {"steps": entry["finetuning"]["steps"]}) == ""
