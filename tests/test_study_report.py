"""The report of a PCFG study is made from its tables alone, and says what they hold."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import pytest
import torch

from mechft.errors import CheckpointError
from mechft.experiments.checks import Check
from mechft.experiments.pcfg.config import SCALES, STUDIES, StudyScale, scale_of
from mechft.experiments.pcfg.parts import pieces_of
from mechft.experiments.pcfg.result import StudyResult, read_result
from mechft.experiments.sweep.pieces import Piece
from mechft.report.render import Section
from mechft.report.study import MEANINGS, settings_table, study_report, write_study_report
from mechft.report.study_sections import part_sections
from mechft.report.study_tables import revival_table, table5_table
from mechft.statistics import proportion
from tests.pages import Resources

QUESTIONS = ("acc_pt_cte0", "acc_pt_cte1", "acc_ft_cte0", "acc_ft_cte1")
CHECKS = (
    Check("one <claim>", "a & b", True),
    Check("another", "c", False),
    Check("third", "d", None),
)


def made_up(piece: Piece, random: torch.Generator) -> pd.DataFrame:
    """A job's table with the columns that it would have and accuracies drawn at random."""

    def hits() -> dict[str, float]:
        share = proportion(int(torch.randint(0, 41, (), generator=random)), 40)
        return {"accuracy": share.value, "ci_low": share.low, "ci_high": share.high, "n": 40}

    asked = QUESTIONS + ("acc_randomised",) * piece.table.startswith("randft")
    if piece.table == "pretraining":
        asked = ("C(a)", "C(b)")
    tokens: list[dict[str, Any]] = [{"token": t} for t in ("C", "J1")]
    rows: list[dict[str, Any]]
    if piece.file == "history":
        rows = [{"step": s, "evaluation": e} for s in (0, 8, 20) for e in asked]
    elif piece.file == "final":
        rows = [{"evaluation": e} for e in asked]
    elif piece.file == "curve":
        scores, tasks = ("gradient×weight", "random"), ("acc_pt", "acc_ft_cte1")
        rows = [{"k": k, "score": s, "task": t} for k in (0, 5, 15) for s in scores for t in tasks]
    elif piece.file == "answers":
        rows = [{**token, "wrapper": 0.1} for token in tokens]
    else:
        of = tokens if piece.table == "jailbreak_probing" else [{}]
        rows = [{**t, "block": b, "control": "none", "majority": 0.25} for t in of for b in (0, 1)]
    return pd.DataFrame([{**piece.labels, **row, **hits()} for row in rows])


def study(name: str, out: Path, *, seeds: int = 2, quick: bool = False) -> StudyResult:
    """A study of small size whose tables have the labels of the real pieces."""
    config = STUDIES[name](out=out, seeds=seeds, quick=quick)
    scale = scale_of(replace(config, quick=True))
    random = torch.Generator().manual_seed(0)
    tables: dict[str, list[pd.DataFrame]] = {}
    for piece in pieces_of(config.parts, scale, config.seed_list):
        tables.setdefault(piece.table, []).append(made_up(piece, random))
    frames = {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()}
    return StudyResult(config, scale, frames, CHECKS, ("run 7: <diverged>",), {"torch": "2.x"})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> StudyResult:
    return study("pcfg", tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def sections(whole: StudyResult) -> list[Section]:
    return part_sections(whole)


@pytest.fixture(scope="module")
def some(whole: StudyResult) -> StudyResult:
    """A part of the study, as far as the page as a whole is concerned."""
    return replace(whole, tables={n: whole.tables[n] for n in ("probing", "reversal", "jailbreak")})


@pytest.fixture(scope="module")
def page(some: StudyResult) -> str:
    return study_report(some)


def headings(text: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", text)


SECTIONS = {
    "finetuning": ["Fig. 5", "Fig. 6", "Table 5"],
    "pruning": ["Fig. 7"],
    "probing": ["Fig. 8"],
    "reversal": ["Fig. 9"],
    "mixing": ["Figs. 18-23"],
    "jailbreak": ["Figs. 24-25"],
    "randft": ["Figs. 28-30"],
    "indexer": ["Table 7"],
    "steps": ["Figs. 60-78"],
}


def titles(sections: list[Section]) -> list[str]:
    return [section.title.split(":")[0].split(",")[0] for section in sections]


@pytest.mark.parametrize("table", SECTIONS)
def test_a_part_has_its_sections_exactly_if_it_has_tables(whole: StudyResult, table: str) -> None:
    own = {table, f"{table}_final", f"{table}_probing", f"{table}_pruning"}
    alone = replace(whole, tables={n: t for n, t in whole.tables.items() if n in own})
    found = part_sections(alone)
    assert titles(found) == SECTIONS[table]
    assert all(section.figures and section.code for section in found)


def test_all_parts_have_theirs_in_order(sections: list[Section]) -> None:
    assert titles(sections) == [title for of in SECTIONS.values() for title in of]


def test_a_study_without_tables_has_a_report(whole: StudyResult) -> None:
    found = headings(study_report(replace(whole, tables={}, checks=())))
    assert len(found) == 3  # claims, settings, what was run


def test_the_summary_says_what_was_run_and_found(page: str) -> None:
    text = page
    lead = text[text.index("<h1>") : text.index("<nav")]
    steps = scale_of(STUDIES["pcfg"](quick=True)).steps
    for words in (
        "Preset <b>tiny</b>, <b>2 seeds</b>", f"{steps} fine-tuning steps", "Of 3 claims <b>1 hold</b>",
        "<b>1 do not</b>", "<b>1</b> cannot be told", "run 7: &lt;diverged&gt;",
    ):  # fmt: skip
        assert words in lead
    assert "--quick run" not in lead
    assert "one &lt;claim&gt;" in text and "a &amp; b" in text
    assert "mechft reproduce pcfg --preset tiny --seeds 2" in text
    quick = study("fig8", Path("unused"), quick=True)
    text = study_report(replace(quick, tables={}))
    assert "--quick run" in text and "<b>1 seed</b>" in text and "--quick</pre>" in text


@pytest.mark.parametrize("preset", ["tiny", "small", "paper"])
def test_settings_name_all_that_differs_and_nothing_else(preset: str, tmp_path: Path) -> None:
    config = STUDIES["pcfg"](out=tmp_path, preset=preset)  # type: ignore[arg-type]
    result = StudyResult(config, SCALES[preset], {}, (), (), {})
    table = settings_table(result).set_index("setting")
    scale, paper = SCALES[preset], SCALES["paper"]
    different = {f.name for f in fields(scale) if getattr(scale, f.name) != getattr(paper, f.name)}
    assert different <= set(table.index)
    assert set(table.index) & {f.name for f in fields(StudyScale)} == different
    assert (table["here"] != table["paper"]).all()
    if preset == "tiny":
        assert tuple(table.loc["rates", ["here", "paper"]]) == (
            "L 0.001, M 0.0001, S 1e-05", "L 0.0001, M 1e-05, S 1e-06",
        )  # fmt: skip
        assert tuple(table.loc["text_length", ["here", "paper"]]) == ("32", "250")
        assert tuple(table.loc["steps", ["here", "paper"]]) == ("300", "10,000")
    if preset == "paper":
        assert table.empty and "No setting differs" in study_report(result)


def test_every_setting_has_a_meaning() -> None:
    assert list(MEANINGS) == [field.name for field in fields(StudyScale)]


def numbers(figure: go.Figure) -> list[float]:
    """Every trace's places and values."""
    return [float(v) for t in figure.data for values in (t.x, t.y) for v in values if v is not None]


def test_the_report_from_csv_files_is_that_from_memory(
    whole: StudyResult, sections: list[Section]
) -> None:
    whole.save()
    found = part_sections(read_result(whole.config.results))
    assert [s.title for s in sections] == [s.title for s in found]
    assert [s.text for s in sections] == [s.text for s in found]
    for one, other in zip(sections, found, strict=True):
        assert len(one.figures) == len(other.figures)
        for first, second in zip(one.figures, other.figures, strict=True):
            assert numbers(first) == pytest.approx(numbers(second), abs=1e-5)
            assert [t.name for t in first.data] == [t.name for t in second.data]


def test_the_report_goes_where_it_is_told(tmp_path: Path) -> None:
    result = replace(study("fig8", tmp_path / "study", seeds=1), tables={})
    result.save()
    beside = write_study_report(result)
    assert beside == result.config.results / "report.html"
    told = write_study_report(read_result(result.config.results), tmp_path / "elsewhere")
    assert told == tmp_path / "elsewhere" / "report.html"
    assert told.read_text() == beside.read_text()


def test_notes_beside_the_tables_are_in_the_report_under_their_claims(tmp_path: Path) -> None:
    result = replace(study("main", tmp_path, seeds=1), tables={})
    folder = result.save()
    assert "looking closer" not in study_report(read_result(folder))
    (folder / "notes.json").write_text('{"anoth": "It was <chance>."}')
    found = read_result(folder)
    assert found.notes == {"another": "It was <chance>."}
    assert "<b>another</b>: It was &lt;chance&gt;." in study_report(found)
    (folder / "notes.json").write_text('{"a fourth": "Nobody claims this."}')
    with pytest.raises(CheckpointError, match="begins 0 of them"):
        read_result(folder)


def test_code_in_the_report_draws_its_figures(
    whole: StudyResult, sections: list[Section], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(whole.save())
    shown: list[go.Figure] = []
    monkeypatch.setattr(go.Figure, "show", lambda figure: shown.append(figure))
    for section in sections:
        shown.clear()
        assert section.code.startswith("# mechft reproduce ")
        assert section.code.split()[3] in STUDIES
        exec(section.code, {})
        for drawn, own in zip(shown, section.figures, strict=True):
            assert numbers(drawn) == pytest.approx(numbers(own), abs=1e-5), section.title
            assert len(drawn.layout.shapes) == len(own.layout.shapes)
            assert drawn.layout.title == own.layout.title
        for name in re.findall(r"\w+\.csv", section.data):
            assert Path(name).is_file()


def test_table5_is_beside_the_papers(whole: StudyResult) -> None:
    final = whole.tables["finetuning_final"]
    compared = pd.DataFrame(
        [{"prior": "low", "rate": "L", "c_tr": 1.0, "evaluation": "acc_pt_cte0", "paper": 0.152}]
    )
    table = table5_table(whole, compared)
    row = table[
        (table["", "prior"] == "low") & (table["", "rate"] == "L") & (table["", "C_Tr"] == 1.0)
    ]
    rows = final.query(
        "prior == 'low' and rate == 'L' and c_tr == 1 and evaluation == 'acc_pt_cte0'"
    )
    name = "O_PT, uncorrelated"
    assert row[name, "here"].item() == pytest.approx(100 * rows["accuracy"].mean(), abs=0.051)
    assert row[name, "paper"].item() == 15.2
    assert table.shape == (2 * 2 * 2, 3 + 2 * 4)
    assert table[[(q, "paper") for q in ("O_FT, correlated",)]].isna().all().all()


def test_a_median_of_runs_that_did_not_get_there_is_over_their_steps() -> None:
    labels = {"kind": "reFT", "prior": "low", "rate": "L", "c_tr": 1.0, "reverse_rate": "M"}
    runs = [(10.0, 0.97), (float("nan"), 0.5), (float("nan"), 0.6)]
    found = pd.DataFrame(
        [
            {**labels, "seed": i, "steps": s, "last": 400, "accuracy": a}
            for i, (s, a) in enumerate(runs)
        ]
    )
    table = revival_table(found).iloc[0]
    assert table["median step"] == "over 400" and table["back"] == 1 and table["seeds"] == 3
    assert revival_table(found[:1]).iloc[0]["median step"] == "10"


def test_the_report_opens_offline(page: str) -> None:
    resources = Resources()
    resources.feed(page)
    assert [r for r in resources.found if not r.startswith("data:")] == []
    body = page[page.index("<h1>") :]
    assert body.count("Plotly.newPlot") == 3  # a figure a table
    ids = re.findall(r"id=['\"](figure-[\d-]+)", body)
    assert len(ids) == len(set(ids))


def test_the_report_needs_no_model_code(tmp_path: Path) -> None:
    study("fig8", tmp_path, seeds=1).save()
    folder = tmp_path / "fig8-tiny-1-seed"
    program = (
        "import sys\n"
        "from mechft.experiments.pcfg.result import read_result\n"
        "from mechft.report.study import write_study_report\n"
        f"print(write_study_report(read_result({str(folder)!r})).name)\n"
        "print('transformer_lens' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.split() == ["report.html", "False"]
