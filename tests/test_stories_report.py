"""The report of a stories study is made from its tables alone, and says what they hold."""

from __future__ import annotations

import html
import re
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest

from mechft.experiments.stories.config import STORY_SCALES, StoriesConfig, StoriesScale
from mechft.experiments.stories.result import StoriesResult, read_stories_result
from mechft.plots.stories_style import model_name
from mechft.report.render import Section
from mechft.report.stories import stories_report, write_stories_report
from mechft.report.stories_inside import inside_sections
from mechft.report.stories_samples import samples_section, verdict_words
from mechft.report.stories_sections import behaviour_sections
from mechft.report.stories_settings import MEANINGS, PROCEDURAL, counts_table, settings_table
from tests.pages import Resources
from tests.stories_tables import made_up_study

Sections = list[Section]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> StoriesResult:
    return made_up_study(tmp_path_factory.mktemp("stories"))


@pytest.fixture(scope="module")
def sections(whole: StoriesResult) -> Sections:
    return figures_of(whole)


@pytest.fixture(scope="module")
def page(whole: StoriesResult) -> str:
    return stories_report(whole)


def figures_of(result: StoriesResult) -> Sections:
    return [*behaviour_sections(result), *inside_sections(result)]


def some(result: StoriesResult, *tables: str) -> StoriesResult:
    """The result with a few of its tables."""
    return replace(result, tables={name: result.tables[name] for name in tables})


def headings(text: str) -> list[str]:
    return [html.unescape(title) for title in re.findall(r"<h2>(.*?)</h2>", text)]


def test_sections_stand_in_the_order_of_the_story(page: str) -> None:
    firsts = [title.split(":")[0].split(",")[0] for title in headings(page)]
    assert firsts == [
        "The paper's claims", "Settings", "Table 1", "Fig. 11 and Table 1", "Table 1", "Losses",
        "Figs. 31-38",
        "What deletion changed", "What deletion changed", "What deletion changed", "Pruning", "Patching",
        "Stories to read", "What each protocol did to the stories", "What was run",
    ]  # fmt: skip


TABLES = {
    "writing": "Table 1: ",
    "reversal_writing": "Fig. 11 and Table 1",
    "deletion": "Losses",
    "probes": "Figs. 31-38",
    "weights": "What deletion changed: weights",
    "activations": "What deletion changed: activations",
    "decisions": "What deletion changed: the word",
    "pruning": "Pruning",
    "patching": "Patching",
}


@pytest.mark.parametrize("table", TABLES)
def test_each_table_alone_has_its_section(whole: StoriesResult, table: str) -> None:
    found = [section for section in figures_of(some(whole, table)) if section.figures]
    assert len(found) == 1 and found[0].title.startswith(TABLES[table])
    assert found[0].code


def test_a_study_without_tables_has_a_report(whole: StoriesResult) -> None:
    found = headings(stories_report(replace(whole, tables={}, checks=())))
    assert len(found) == 3  # claims, settings, what was run


def test_the_summary_says_what_was_run_and_found(page: str) -> None:
    lead = page[page.index("<h1>") : page.index("<nav")]
    for words in (
        "Preset <b>tiny</b>, stories from <b>procedural</b>, <b>2 seeds</b>", "Of 3 checks",
        "<b>1 hold</b>", "<b>1 do not</b>", "<b>1</b> cannot be told", "run 7: &lt;diverged&gt;",
        "the classifier's accuracy on stories held out", "the generator's own rule",
    ):  # fmt: skip
        assert words in lead
    assert "--quick run" not in lead and "One seed" not in lead
    assert "one &lt;claim&gt;" in page and "a &amp; b" in page
    command = (
        "mechft reproduce tinystories --source procedural --preset tiny --feature Twist --seeds 2"
    )
    assert f"{command}</pre>" in page


def test_a_quick_run_says_so() -> None:
    quick = made_up_study(Path("unused"), quick=True, seeds=1)
    text = stories_report(some(quick, "writing", "samples"))
    assert "A --quick run" in text and "<b>1 seed</b>" in text and "One seed: intervals" in text
    assert "--seeds 1 --quick</pre>" in text
    assert len(headings(text)) == 5


def test_stories_that_nobody_knows_the_truth_of(tmp_path: Path) -> None:
    hub = made_up_study(tmp_path, seeds=1, source="hub", feature="BadEnding")
    assert not {"decisions", "pruning", "patching"} & set(hub.tables)
    text = stories_report(some(hub, "writing", "reversal_writing", "samples"))
    assert "by the classifier" in text and "by the rule" not in text and PROCEDURAL not in text
    assert "BadEnding deleted from a story model" in text and "Twist only" not in text
    assert "rule:" not in samples_section(hub)[0].text[1]


def test_where_a_file_lay_is_not_told(tmp_path: Path) -> None:
    path = tmp_path / "secret" / "my stories.txt"
    path.parent.mkdir()
    path.write_text("x")
    result = made_up_study(tmp_path / "out", seeds=1, source=str(path))
    text = stories_report(replace(result, tables={}))
    assert "my stories.txt" in text and "secret" not in text
    assert "--source &#x27;my stories.txt&#x27;" in text  # quoted for a shell


@pytest.mark.parametrize("preset", ["tiny", "small", "paper"])
def test_settings_name_all_that_differs_and_nothing_else(preset: str, tmp_path: Path) -> None:
    config = StoriesConfig(out=tmp_path, preset=preset)  # type: ignore[arg-type]
    result = StoriesResult(config, STORY_SCALES[preset], {}, (), (), {})
    table = settings_table(result).set_index("setting")
    scale, paper = STORY_SCALES[preset], STORY_SCALES["paper"]
    names = {f.name for f in fields(StoriesScale)}
    different = {name for name in names if getattr(scale, name) != getattr(paper, name)}
    assert set(table.index) & names == different
    assert (table["here"] != table["paper"]).all()
    if preset == "tiny":
        assert tuple(table.loc["rates", ["here", "paper"]]) == (
            "M 0.001, S 0.0001", "M 0.0001, S 1e-05",
        )  # fmt: skip
        assert tuple(table.loc["train_stories", ["here", "paper"]]) == ("60,000", "all there are")
        assert tuple(table.loc["d_model", ["here", "paper"]]) == ("128", "768")
    if preset == "paper":
        assert table.empty and "No setting differs" in stories_report(result)


def test_every_setting_has_a_meaning() -> None:
    assert list(MEANINGS) == [field.name for field in fields(StoriesScale)]


def test_numbers_in_words_are_those_of_the_tables(whole: StoriesResult, sections: Sections) -> None:
    writing = whole.tables["writing"]
    rows = writing[(writing["by"] == "rule") & writing["asked"] & (writing["model"] == "base")]
    share = rows["has"].sum() / rows["n"].sum()
    assert f"<li>base: {share:.1%} [" in sections[0].text[1]
    probes = next(s for s in sections if s.title.startswith("Figs. 31-38"))
    assert "<li>always the commonest answer: 60.0%" in probes.text[1]
    decisions = next(s for s in sections if s.title.endswith("the word that decides"))
    assert "<li>base: 75.0%" in decisions.text[1]


def test_the_papers_table_beside_ours(whole: StoriesResult, sections: Sections) -> None:
    table = next(s for s in sections if s.title.endswith("the paper's numbers")).table
    assert table is not None
    ours, theirs = table.columns[1:]
    assert theirs == "paper, after 0, 30, 300, 3,000 steps, %" and "after 0, 6 steps" in ours
    rows = table.set_index("model")
    assert rows.loc[model_name("deleted", "F", "M"), theirs] == "44 → 81 → 81 → 82"
    assert rows.loc[model_name("never", "", ""), theirs] == "12 → 31 → 44 → 81"
    assert rows.loc[model_name("deleted", "F+RR", "S"), theirs] == "12 → 44 → 81 → 81"
    back = whole.tables["reversal_writing"]
    here = back[(back["by"] == "rule") & back["asked"] & (back["model"] == "never")]
    shares = here.groupby("step")[["has", "n"]].sum().eval("100 * has / n")
    assert rows.loc[model_name("never", "", ""), ours] == " → ".join(f"{s:.0f}" for s in shares)


def test_counts_are_a_row_a_corpus(whole: StoriesResult) -> None:
    counts = whole.tables["counts"]
    table = counts_table(counts).set_index("corpus")
    assert list(table.index) == ["identity", "F", "keep", "held_out"]
    row = counts[(counts["corpus"] == "F") & (counts["what"] == "removed")]
    assert table.loc["F", "removed"] == str(row["count"].item())
    assert table.loc["held_out", "removed"] == "–" and table.loc["held_out", "left"] == "200"
    counts = counts.assign(count=counts["count"].where(counts["what"] != "removed", 0))
    assert "removed" not in counts_table(counts)  # 0 everywhere


@pytest.mark.parametrize(
    ("value", "words"),
    [(True, "yes"), (False, "no"), ("True", "yes"), ("False", "no"), (None, "cannot tell"),
     (float("nan"), "cannot tell"), ("", "cannot tell"), (1.0, "yes"), (0.0, "no")],
)  # fmt: skip
def test_verdicts_are_read_from_csv_files_too(value: Any, words: str) -> None:
    assert verdict_words(value) == words


def test_ten_stories_each_stand_beside_each_other(whole: StoriesResult) -> None:
    (section,) = samples_section(whole)
    text = section.text[1]
    assert text.count("<details") == 10 and text.count("<details open") == 1
    assert (
        text.count("<th>the base</th>") == text.count("<th>the model after F+RR, rate M</th>") == 10
    )
    assert text.count("<th>it brought back (6 steps)</th>") == 10
    assert text.count("Once &lt;b&gt;3&lt;/b&gt; &amp; on.\nThe end.") == 3
    assert "<b>3</b>" not in text and "a &amp; 3" in text
    first = text[: text.index("</details>")]
    assert first.count("rule: <span class='yes'>yes</span>") == 3
    third = text.split("<details")[3]
    assert third.count("rule: <span>cannot tell</span>") == 3


def test_instructions_that_ask_for_the_same_are_all_shown(whole: StoriesResult) -> None:
    tables = {n: whole.tables[n].assign(prompt="Story:") for n in ("samples", "reversal_samples")}
    text = samples_section(replace(whole, tables=tables))[0].text[1]
    assert text.count("<details") == 10
    assert text.count("Once &lt;b&gt;7&lt;/b&gt;") == 3


def test_samples_do_without_deletions(whole: StoriesResult) -> None:
    samples = whole.tables["samples"]
    base = samples[samples["model"] == "base"]
    (section,) = samples_section(replace(whole, tables={"samples": base}))
    assert section.text[1].count("<th>") == 10
    other = samples[samples["protocol"] != "F+RR"]
    (section,) = samples_section(replace(whole, tables={"samples": other}))
    assert "<th>the model after F, rate M</th>" in section.text[1]
    assert samples_section(replace(whole, tables={"samples": samples[~samples["asked"]]})) == []


def test_models_without_a_gap_have_no_figure_of_patching(whole: StoriesResult) -> None:
    table = whole.tables["patching"].assign(recovered=float("nan"))
    (section,) = inside_sections(replace(whole, tables={"patching": table}))
    assert not section.figures and not section.code and "there is no gap" in section.text[1]


def test_a_feature_that_all_stories_have_is_not_probed(whole: StoriesResult) -> None:
    table = whole.tables["probes"]
    some = table[table["target"] != "Twist"]
    (section,) = inside_sections(replace(whole, tables={"probes": some}))
    assert len(section.figures) == 1 and "no probe of it" in section.text[1]


def numbers(figure: go.Figure) -> list[float]:
    """Every trace's places and values."""
    lines = [t for t in figure.data if t.type == "scatter" and t.mode != "text"]
    found = [float(v) for t in lines for values in (t.x, t.y) for v in values if v is not None]
    return found + [float(v) for t in figure.data if t.type == "bar" for v in t.x]


def same(one: go.Figure, other: go.Figure) -> None:
    assert numbers(one) == pytest.approx(numbers(other), abs=1e-4)
    assert [t.name for t in one.data] == [t.name for t in other.data]
    assert one.layout.title == other.layout.title


def test_the_report_from_csv_files_is_that_from_memory(whole: StoriesResult) -> None:
    names = ("writing", "reversal", "decisions", "samples", "reversal_samples")
    made, read = some(whole, *names), some(read_stories_result(whole.save()), *names)
    for one, other in zip(figures_of(made), figures_of(read), strict=True):
        assert (one.title, one.text, one.code) == (other.title, other.text, other.code)
        for first, second in zip(one.figures, other.figures, strict=True):
            same(first, second)
    assert samples_section(made)[0].text == samples_section(read)[0].text


def test_code_in_the_report_draws_its_figures(
    whole: StoriesResult, sections: Sections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(whole.save())
    shown: list[go.Figure] = []
    monkeypatch.setattr(go.Figure, "show", lambda figure: shown.append(figure))
    for section in sections:
        shown.clear()
        exec(section.code, {})
        for drawn, own in zip(shown, section.figures, strict=True):
            same(drawn, own)
        for name in re.findall(r"\w+\.csv", section.data):
            assert Path(name).is_file()


def test_the_report_goes_where_it_is_told_and_needs_no_model_code(tmp_path: Path) -> None:
    result = replace(made_up_study(tmp_path / "study", seeds=1), tables={})
    folder = result.save()
    beside = write_stories_report(result)
    assert beside == result.config.results / "report.html"
    told = tmp_path / "elsewhere"
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from mechft.experiments.stories.result import read_stories_result\n"
        "from mechft.report.stories import write_stories_report\n"
        f"write_stories_report(read_stories_result({str(folder)!r}), Path({str(told)!r}))\n"
        "print('transformer_lens' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.split() == ["False"]
    assert (told / "report.html").read_text() == beside.read_text()


def test_the_report_opens_offline(page: str, sections: Sections) -> None:
    resources = Resources()
    resources.feed(page)
    assert [r for r in resources.found if not r.startswith("data:")] == []
    body = page[page.index("<h1>") :]
    assert body.count("Plotly.newPlot") == sum(len(section.figures) for section in sections)
    ids = re.findall(r"id=['\"](figure-[\d-]+)", body)
    assert len(ids) == len(set(ids))
