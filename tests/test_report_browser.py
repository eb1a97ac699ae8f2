"""A report in a real browser: nothing fetched, no error, both themes, keyboard, narrow, paper, files."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mechft.report.render_style import DARK, LIGHT
from mechft.report.render_tables import csv_text
from mechft.report.stories import stories_report
from mechft.report.study import study_report
from tests.chromium import Chromium, find_browser
from tests.report_page import CODE, LEVELS, NUMBERS, SECTIONS, small_report
from tests.stories_tables import made_up_study
from tests.test_report_render import luminance
from tests.test_study_report import study

FIGURES = sum(len(section.figures) for section in SECTIONS)
WIDE, NARROW = (1200, 800), (400, 800)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("browser")


@pytest.fixture(scope="module")
def browser(folder: Path) -> Iterator[Chromium]:
    path = find_browser()
    if path is None:
        if os.environ.get("CI"):
            pytest.fail("CI is set, but there is no browser to test reports in: install chromium.")
        pytest.skip("no Chromium or Chrome is installed; reports are not tested in a browser")
    with Chromium(path, folder / "profile") as found:
        found.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
        found.call("Emulation.setFocusEmulationEnabled", enabled=True)
        yield found


@pytest.fixture(scope="module")
def report(browser: Chromium, folder: Path) -> Path:
    path = folder / "report.html"
    path.write_text(small_report(), encoding="utf-8")
    resize(browser, WIDE)
    prefer(browser, "light")
    browser.open(path)
    return path


@pytest.fixture
def page(browser: Chromium, report: Path) -> Iterator[Chromium]:
    """The small report: wide, light, at its top. Whatever a test does, it must leave no error behind."""
    resize(browser, WIDE)
    prefer(browser, "light")
    if browser.run("location.pathname + typeof report") != f"{report.as_posix()}object":
        browser.open(report)
    browser.run(
        "document.documentElement.dataset.theme == 'dark' && document.getElementById('theme').click(), "
        "document.activeElement.blur(), scrollTo(0, 0)"
    )
    yield browser
    assert complaints(browser) == [] and fetched(browser, report) == []


def resize(browser: Chromium, size: tuple[int, int]) -> None:
    width, height = size
    browser.call(
        "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
    )  # fmt: skip


def prefer(browser: Chromium, theme: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": theme}]
    browser.call("Emulation.setEmulatedMedia", features=features)


def complaints(browser: Chromium) -> list[Any]:
    """Exceptions, and what was written to the console as a warning or an error."""
    logged = [e["entry"] for e in browser.seen("Log.entryAdded")]
    spoken = [e for e in browser.seen("Runtime.consoleAPICalled") if e["type"] != "log"]
    return [
        *browser.seen("Runtime.exceptionThrown"),
        *[entry for entry in logged if entry["level"] in ("warning", "error")],
        *spoken,
    ]


def fetched(browser: Chromium, path: Path) -> list[str]:
    """Addresses that were asked for, but for the page itself and what stands in it."""
    asked = [event["request"]["url"] for event in browser.seen("Network.requestWillBeSent")]
    return [
        url
        for url in asked
        if not url.startswith(("data:", "blob:")) and url.split("#")[0] != path.as_uri()
    ]


def drawn(browser: Chromium) -> list[int]:
    """How many marks each figure shows: lines, bars, images of cells."""
    marks = (
        ".scatterlayer path.js-line, .scatterlayer .point, .barlayer .point, .heatmaplayer image"
    )
    return list(
        browser.run(
            "[...document.querySelectorAll('.plot')]"
            f".map(plot => plot.querySelectorAll({marks!r}).length)"
        )
    )


def colours(browser: Chromium) -> dict[str, str]:
    """Colours of the page and of its first figure, as "#rrggbb"."""
    found = browser.run(
        """(() => {
        const plot = document.querySelector('.plot');
        const look = (query, name) => getComputedStyle(plot.querySelector(query))[name];
        return {
            page: getComputedStyle(document.body).backgroundColor,
            words: getComputedStyle(document.body).color,
            paper: look('.main-svg', 'backgroundColor'),
            title: look('.gtitle', 'fill'), tick: look('.xtick text', 'fill'),
            legend: look('.legendtext', 'fill'), axis: look('path.xlines-above', 'stroke'),
            black: look('.scatterlayer .trace:nth-child(2) .js-line', 'stroke'),
            blue: look('.scatterlayer .trace:nth-child(4) .js-line', 'stroke'),
        };
        })()"""
    )
    return {name: hexed(value) for name, value in found.items()}


def hexed(colour: str) -> str:
    """A colour in hexadecimal digits."""
    return "#" + "".join(f"{int(part):02x}" for part in re.findall(r"\d+", colour)[:3])


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def click(browser: Chromium, query: str) -> None:
    browser.run(f"document.querySelector({query!r}).click()")


def saved(browser: Chromium, path: Path) -> bytes:
    """A file that the page saves, once it is all there."""
    end = time.monotonic() + browser.patience
    while not path.exists() or not path.stat().st_size:
        assert time.monotonic() < end, f"{path.name} was not saved"
        browser.run("new Promise(done => setTimeout(done, 50))")
    content = path.read_bytes()
    path.unlink()
    return content


def test_all_figures_are_drawn(page: Chromium) -> None:
    found = drawn(page)
    assert len(found) == FIGURES and all(found)


def test_the_browser_refuses_the_network(browser: Chromium, report: Path) -> None:
    browser.open(report)
    refused = browser.run(
        """new Promise(done => {
            document.addEventListener('securitypolicyviolation', e => done(e.effectiveDirective));
            fetch('https://example.invalid/').catch(() => {});
        })"""
    )
    assert refused == "connect-src"
    browser.events.clear()  # the browser complains of it, as it should


def test_plotly_sends_nothing_anywhere(page: Chromium) -> None:
    buttons = page.run("[...document.querySelectorAll('.modebar-btn')].map(b => b.dataset.title)")
    assert set(buttons) == {"Zoom", "Pan", "Zoom in", "Zoom out", "Reset axes"}


def test_the_button_changes_all_colours_and_back(page: Chromium) -> None:
    before = colours(page)
    assert before["page"] == before["paper"] == LIGHT["paper"] and before["black"] == "#000000"
    click(page, "#theme")
    dark = colours(page)
    assert dark["page"] == dark["paper"] == DARK["paper"] and dark["words"] == DARK["ink"]
    for text in ("title", "tick", "legend"):
        assert contrast(dark[text], dark["paper"]) >= 4.5, text
    for line in ("axis", "black", "blue"):
        assert contrast(dark[line], dark["paper"]) >= 3, line
    assert dark["black"] != dark["blue"]
    assert page.run("document.getElementById('theme').ariaPressed") == "true"
    click(page, "#theme")
    assert colours(page) == before


def test_a_zoomed_figure_stays_zoomed(page: Chromium) -> None:
    page.run("Plotly.relayout('figure-1-0', {'xaxis.range': [0.5, 1.5]}).then(() => 0)")
    click(page, "#theme")
    axis = "document.getElementById('figure-1-0')._fullLayout.xaxis"
    assert page.run(f"{axis}.range.map(Number)") == [0.5, 1.5]
    page.run("Plotly.relayout('figure-1-0', {'xaxis.autorange': true}).then(() => 0)")


def test_colours_follow_the_system_until_one_is_chosen(browser: Chromium, report: Path) -> None:
    prefer(browser, "dark")
    browser.open(report)
    theme = "document.documentElement.dataset.theme"
    assert colours(browser)["paper"] == DARK["paper"] and browser.run(theme) == "dark"
    assert browser.run("document.getElementById('theme').ariaPressed") == "true"
    prefer(browser, "light")
    browser.wait(f"{theme} == 'light'")
    assert colours(browser)["paper"] == LIGHT["paper"]
    click(browser, "#theme")
    prefer(browser, "dark")
    prefer(browser, "light")
    assert browser.run(theme) == "dark"  # the reader's choice stays
    browser.open(report)
    assert browser.run(theme) == "light"  # but is not kept
    assert complaints(browser) == []


def test_links_go_to_their_sections_and_mark_them(page: Chromium) -> None:
    marked = "[...document.querySelectorAll('nav [aria-current]')].map(link => link.hash)"
    page.wait(f"{marked}.join() == '#s0'")
    for place in range(len(SECTIONS)):
        click(page, f"nav a[href='#s{place}']")
        page.wait(f"{marked}.join() == '#s{place}'")
        top = page.run(f"document.getElementById('s{place}').getBoundingClientRect().top")
        assert -1 <= top < WIDE[1]
    page.run("scrollTo(0, 0)")
    page.wait(f"{marked}.join() == '#s0'")


def test_the_list_stays_in_sight(page: Chromium) -> None:
    for size in (WIDE, NARROW):
        resize(page, size)
        page.run("document.getElementById('s2').scrollIntoView()")
        box = page.run("document.querySelector('nav').getBoundingClientRect().toJSON()")
        assert 0 <= box["top"] < 60 and box["bottom"] <= size[1]


def test_the_page_works_by_keyboard(page: Chromium) -> None:
    click(page, "nav a")  # then from the start
    page.run("location.hash = '', document.activeElement.blur(), getSelection().removeAllRanges()")
    page.run(
        "document.body.tabIndex = -1, document.body.focus(), document.body.removeAttribute('tabindex')"
    )
    active = "document.activeElement"
    reached = []
    for _ in range(2 + len(SECTIONS)):
        page.press("Tab", 9)
        reached.append(page.run(f"{active}.hash || {active}.id"))
        outline = page.run(f"getComputedStyle({active}).outlineStyle")
        assert outline == "solid"
    assert reached == ["#main", "theme", *(f"#s{place}" for place in range(len(SECTIONS)))]
    page.run("document.querySelector('.skip').focus()")
    box = page.run("document.querySelector('.skip').getBoundingClientRect().toJSON()")
    assert box["left"] >= 0 and box["top"] >= 0
    page.press("Enter", 13, text="\r")
    page.press("Tab", 9)
    assert page.run(f"Boolean({active}.closest('#s0'))")
    page.run("document.getElementById('theme').focus()")
    page.press(" ", 32, text=" ")
    assert page.run("document.documentElement.dataset.theme") == "dark"


def test_tables_are_saved_exactly(page: Chromium, folder: Path) -> None:
    for section, frame in (("s1", NUMBERS), ("s2", LEVELS)):
        name = page.run(f"document.querySelector('#{section} .csv').dataset.file")
        click(page, f"#{section} .csv")
        assert saved(page, folder / name).decode() == csv_text(frame)
    click(page, "#s0 .csv")
    assert b"does not hold" in saved(page, folder / "claims.csv")


def test_figures_are_saved_in_light_colours(page: Chromium, folder: Path) -> None:
    click(page, "#theme")
    click(page, "#s1 [data-format=svg]")
    svg = saved(page, folder / "lines-and-a-table-1.svg").decode()
    assert svg.startswith("<svg") and "rgb(0, 0, 0)" in svg and DARK["ink"] not in svg
    click(page, "#s1 [data-format=png]")
    png = saved(page, folder / "lines-and-a-table-1.png")
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width = page.run("document.getElementById('figure-1-0').clientWidth")
    assert int.from_bytes(png[16:20], "big") == pytest.approx(2 * width, abs=2)


def test_code_is_copied(page: Chromium) -> None:
    page.call(
        "Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"]
    )
    click(page, "#s1 .copy")
    page.wait("document.getElementById('status').textContent == 'Copied'")
    assert page.run("navigator.clipboard.readText()") == CODE


def test_a_narrow_page_does_not_scroll_sideways(page: Chromium) -> None:
    resize(page, NARROW)
    page.run("document.querySelectorAll('details').forEach(part => { part.open = true })")
    assert page.run("document.documentElement.scrollWidth") == NARROW[0]
    boxes = page.run(
        "[...document.querySelectorAll('.drawing, .scroll, pre')].map(box => box.clientWidth)"
    )
    assert max(boxes) < NARROW[0]


def test_paper_is_light_and_folds_nothing(page: Chromium) -> None:
    click(page, "#theme")
    folded = "document.querySelectorAll('details:not([open])').length"
    before = page.run(folded)
    page.run("dispatchEvent(new Event('beforeprint'))")
    assert page.run(folded) == 0
    found = colours(page)
    assert found["page"] == found["paper"] == LIGHT["paper"]
    page.run("dispatchEvent(new Event('afterprint'))")
    assert page.run(folded) == before and colours(page)["paper"] == DARK["paper"]


def test_a_page_says_what_it_needs_if_it_may_not_run_scripts(
    browser: Chromium, report: Path
) -> None:
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    browser.call("Page.navigate", url=report.as_uri())
    browser.wait("document.readyState == 'complete'")
    text = browser.run("document.body.innerText")
    browser.call("Emulation.setScriptExecutionDisabled", value=False)
    assert "Figures and buttons need JavaScript" in text and "Dark colours" not in text


@pytest.mark.parametrize("kind", ["study", "stories"])
def test_reports_of_studies_open_without_a_word(browser: Chromium, folder: Path, kind: str) -> None:
    prefer(browser, "dark")
    resize(browser, NARROW)
    path = folder / f"{kind}.html"
    if kind == "study":
        whole = study("pcfg", folder / "study")
        tables = {name: whole.tables[name] for name in ("finetuning_final", "probing", "jailbreak")}
        path.write_text(study_report(replace(whole, tables=tables)), encoding="utf-8")
    else:
        told = made_up_study(folder / "stories")
        names = ("writing", "patching", "samples", "counts")
        tables = {name: told.tables[name] for name in names}
        path.write_text(stories_report(replace(told, tables=tables)), encoding="utf-8")
    browser.open(path)
    found = drawn(browser)
    assert found and all(found), json.dumps(found)
    assert browser.run("document.documentElement.scrollWidth") == NARROW[0]
    assert complaints(browser) == [] and fetched(browser, path) == []
