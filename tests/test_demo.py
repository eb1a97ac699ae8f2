"""The demo end to end in its quick form: files, keys, a report that needs nothing from outside."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from mechft import cli
from mechft.errors import OutputExistsError
from mechft.experiments.run_folder import claim_folder
from tests.pages import Resources


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "run"
    assert cli.main(["demo", "--out", str(out), "--quick"]) == 0
    return out


def test_results_have_what_they_promise(folder: Path) -> None:
    found = json.loads((folder / "results.json").read_text())
    assert 0.95 <= found["base"]["acc_pt"] <= 1
    for run in ("c1", "c0"):
        assert {"acc_pt", "acc_ft_cte0", "acc_ft_cte1"} <= found["finetuned"][run].keys()
        assert {"k", "acc_pt", "acc_ft_cte1", "random_acc_pt"} <= found["prune"][run][0].keys()
    keys = {"model", "block", "target", "accuracy", "ci_low", "ci_high", "majority"}
    assert all(keys <= row.keys() for row in found["probe"])
    controls = {"never asked for a", "untrained"}
    assert {row["model"] for row in found["probe"]} == {"base", "C_Tr = 1", "C_Tr = 0", *controls}
    for run in ("c1", "scratch_finetune"):
        assert {"step", "acc_pt"} <= found["reft"][run][0].keys()
        assert run in found["reft"]["steps_to_95"]
    assert found["ablation"] and found["weight_diff"] and len(found["checks"]) == 6
    accuracies = [row["accuracy"] for row in found["probe"]]
    accuracies += [row["value"] for row in found["ablation"] + found["patching"]]
    assert all(0 <= value <= 1 for value in accuracies)
    verdicts = ("retained", "wrapped", "damaged", "undecided")
    assert found["diagnosis"]["verdict"] in verdicts and found["interpolation"]


def test_tables_are_tidy(folder: Path) -> None:
    files = {path.stem for path in folder.glob("*.csv")}
    assert files >= {
        "behaviour",
        "training",
        "probe",
        "prune",
        "ablation",
        "revival",
        "patching",
        "outputs",
    }
    for name in files:
        assert len(pd.read_csv(folder / f"{name}.csv")) > 0


def test_report_is_self_contained(folder: Path) -> None:
    text = (folder / "report.html").read_text()
    page = Resources()
    page.feed(text)
    assert [r for r in page.found if not r.startswith("data:")] == []
    body = text[text.index("<h1>") :]
    assert body.count("Plotly.newPlot") >= 7
    assert "--quick run" in body and "mechft demo --out" in body
    ids = re.findall(r"id=['\"](figure-[\d-]+)", body)
    assert len(ids) == len(set(ids))


def test_running_again_continues(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (folder / "results.json").read_text()
    assert cli.main(["demo", "--out", str(folder), "--quick"]) == 0
    assert "Continuing the run" in capsys.readouterr().out
    assert (folder / "results.json").read_text() == before


def test_other_settings_and_other_folders_are_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (folder / "results.json").read_text()
    assert cli.main(["demo", "--out", str(folder), "--quick", "--seed", "1"]) == 1
    assert "seed is 0 there and 1 here" in capsys.readouterr().err
    assert (folder / "results.json").read_text() == before
    (tmp_path / "thesis.txt").write_text("mine")
    assert cli.main(["demo", "--out", str(tmp_path), "--quick"]) == 1
    assert "holds no run of ours" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_demo_shows_what_it_is_for(tmp_path: Path, seed: int) -> None:
    """All six expectations hold, at full size (about four minutes a seed)."""
    assert cli.main(["demo", "--out", str(tmp_path / "run"), "--seed", str(seed)]) == 0
    found = json.loads((tmp_path / "run" / "results.json").read_text())
    assert [check["claim"] for check in found["checks"] if not check["holds"]] == []


def test_a_damaged_claim_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("[1]")
    with pytest.raises(OutputExistsError, match="another run"):
        claim_folder(tmp_path, {"seed": 1})


def test_claim_folder(tmp_path: Path) -> None:
    assert not claim_folder(tmp_path / "new", {"seed": 1, "shape": (1, 2)})
    assert claim_folder(tmp_path / "new", {"seed": 1, "shape": (1, 2)})
