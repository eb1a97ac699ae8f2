"""A report's page: sound HTML that needs nothing from outside, readable by all, with exact tables."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from io import StringIO

import numpy as np
import pandas as pd
import pytest
from plotly.offline import get_plotlyjs

from mechft.errors import ConfigError
from mechft.report.render import POLICY, Section, render, table_html
from mechft.report.render_figures import figure_words, plain
from mechft.report.render_style import DARK, LIGHT
from mechft.report.render_tables import csv_text, slug
from tests.pages import Resources
from tests.report_page import CODE, HOSTILE, LEVELS, NUMBERS, SECTIONS, cells, curves, small_report

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    """The elements of a page; an element that is not closed where it should be is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self._open[-1] if self._open else "", data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of all elements of a kind."""
        return [attrs for name, attrs in self.elements if name == tag]

    def words(self, tag: str) -> list[str]:
        """The texts directly in elements of a kind."""
        return [text for inside, text in self.texts if inside == tag]


@pytest.fixture(scope="module")
def text() -> str:
    return small_report()


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_headings_are_one_title_and_one_a_section(page: Page) -> None:
    found = [tag for tag, _ in page.elements if re.fullmatch(r"h\d", tag)]
    assert found == ["h1"] + ["h2"] * len(SECTIONS)
    assert "".join(page.words("h1")) == f"A report, {HOSTILE}"
    assert page.all("html") == [{"lang": "en"}]


def test_the_summary_comes_first_then_links_to_each_section(text: str, page: Page) -> None:
    assert text.index("<h1>") < text.index("It <b>holds</b>") < text.index("<nav")
    assert text.index("</nav>") < text.index("<main")
    targets = [link["href"] for link in page.all("a")]
    sections = [f"#{attrs['id']}" for attrs in page.all("section")]
    assert targets == ["#main", *sections] and len(sections) == len(SECTIONS)


def test_ids_are_unique(page: Page) -> None:
    found = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(found) == len(set(found))


def test_a_paragraph_holds_no_list_or_table(text: str) -> None:
    for paragraph in re.findall(r"<p\b.*?</p>", text[text.index("<h1>") :], re.DOTALL):
        assert not re.search(r"<(ul|table|div|details|pre)\b", paragraph)


def test_nothing_is_fetched_and_the_browser_is_told_so(text: str, page: Page) -> None:
    resources = Resources()
    resources.feed(text)
    assert [r for r in resources.found if not r.startswith("data:")] == []
    metas = page.all("meta")
    assert {"http-equiv": "Content-Security-Policy", "content": POLICY} in metas
    assert text.index("Content-Security-Policy") < text.index("<script")
    assert "default-src 'none'" in POLICY and "http:" not in POLICY and "https:" not in POLICY


def test_plotly_is_in_the_page_once_and_draws_each_figure(text: str) -> None:
    assert text.count(get_plotlyjs()) == 1
    assert text.count("Plotly.newPlot") == sum(len(s.figures) for s in SECTIONS)


def test_the_same_results_make_the_same_page(text: str) -> None:
    assert small_report() == text


def test_figures_have_words_and_captions(page: Page) -> None:
    drawn = [attrs for attrs in page.all("div") if attrs.get("class") == "plot"]
    assert [attrs["role"] for attrs in drawn] == ["img"] * 3
    told = drawn[0]["aria-label"] or ""
    for words in (HOSTILE[:5], "n = 40", "step", "accuracy", "base; fine-tuned", "lines"):
        assert words in told
    assert page.words("figcaption") == ["Each line is a ", "."]


def test_words_of_a_figure_name_its_panels() -> None:
    said = figure_words(cells())
    assert said == "Drawn as: coloured cells. Notes and panels: base; fine-tuned."
    assert "Legend: base; fine-tuned." in figure_words(curves())  # bands are not in it
    assert plain("a<br><sub>b &amp; c</sub>") == "a b & c"


def test_controls_have_names(page: Page) -> None:
    buttons = page.all("button")
    assert all(button["type"] == "button" for button in buttons)
    named = [b["aria-label"] for b in buttons if "aria-label" in b]
    assert len(named) == len(buttons) - 1 and "Dark colours" in page.words("button")
    classes = [button.get("class") for button in buttons]
    assert classes.count("csv") == 3 and classes.count("image") == 6 and classes.count("copy") == 2


def test_every_header_cell_says_what_it_heads(page: Page) -> None:
    heads = page.all("th")
    assert {head["scope"] for head in heads} == {"col", "colgroup"}
    groups = [(head["colspan"]) for head in heads if head["scope"] == "colgroup"]
    assert groups == ["2", "1"]  # O_PT over here and paper, O_FT over here


def test_tables_are_short_to_read(page: Page) -> None:
    cells = page.words("td")
    assert "0.3333" in cells and "–" in cells and "1000" in cells and HOSTILE in "".join(cells)
    wide = table_html(pd.DataFrame({"x": np.array([1 / 3], np.float32), "y": [None], "z": [True]}))
    assert "<td class='number'>0.3333</td><td>–</td><td>True</td>" in wide


def test_the_data_of_a_table_is_all_of_it(page: Page) -> None:
    scripts = page.all("script")
    assert [s.get("type") for s in scripts].count("application/json") == 3
    data = [json.loads(words) for words in page.words("script") if words.startswith('"')]
    assert data[1:] == [csv_text(NUMBERS), csv_text(LEVELS)]
    pd.testing.assert_frame_equal(pd.read_csv(StringIO(data[1])), NUMBERS)
    claims = pd.read_csv(StringIO(data[0]))
    assert list(claims.columns) == ["Claim", "Found", "Verdict"]
    assert list(claims["Verdict"]) == ["holds", "does not hold", "unclear"]
    levels = pd.read_csv(StringIO(data[2]))
    assert list(levels.columns) == ["prior", "O_PT: here", "O_PT: paper", "O_FT: here"]
    assert list(levels.iloc[0]) == ["low", 0.1, 2.0, 3.0]


def test_a_frame_is_left_as_it_was() -> None:
    names = list(LEVELS.columns)
    csv_text(LEVELS)
    assert list(LEVELS.columns) == names


def test_where_all_numbers_are_is_told(page: Page) -> None:
    notes = [words for words in page.words("p") if words.startswith("In full")]
    assert notes == [f"In full, beside this page: {name}.csv" for name in ("claims", "numbers")]


def test_code_is_as_it_is_run(page: Page) -> None:
    assert "".join(page.words("pre")) == f"{CODE}mechft demo"


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Fig. 5: counting b, learned or guessed from a", "fig-5-counting-b-learned-or-guessed-from-a"),
        ("C<sub>Tr</sub> = 1", "ctr-1"),
        ("→", "table"),
        ("x" * 100, "x" * 60),
    ],
)  # fmt: skip
def test_file_names(title: str, expected: str) -> None:
    assert slug(title) == expected


def test_a_section_has_a_caption_for_each_figure_or_none() -> None:
    with pytest.raises(ConfigError, match=r"'Two' has 1 captions and 2 figures\. Give as many"):
        Section("Two", figures=[cells(), cells()], captions=["one"])


def test_a_report_without_sections_is_a_page() -> None:
    Page(render("Nothing", [], []))


def luminance(colour: str) -> float:
    """Relative luminance by WCAG 2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("front", "back"),
    [*((front, back) for front in ("ink", "soft", "link") for back in ("paper", "raised")),
     ("yes", "paper"), ("no", "paper"), ("ink", "warning"), ("paper", "ink")],
)  # fmt: skip
def test_text_stands_out(theme: dict[str, str], front: str, back: str) -> None:
    high, low = sorted((luminance(theme[front]), luminance(theme[back])), reverse=True)
    assert (high + 0.05) / (low + 0.05) >= 4.5
