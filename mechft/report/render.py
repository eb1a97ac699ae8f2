"""A report as one HTML file: a summary, then sections of text, figures, tables and code; nothing is fetched.

``render_tables`` and ``render_figures`` make its parts, ``render_style`` says how it looks, and
``render_script`` what it does in the browser.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mechft.errors import require
from mechft.files import write_text
from mechft.report.render_figures import figure_html
from mechft.report.render_script import SCRIPT
from mechft.report.render_style import style_sheet
from mechft.report.render_tables import checks_table, slug, table_html, with_scopes

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

__all__ = ["Section", "checks_table", "render", "table_html", "write_report"]

POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
    "base-uri 'none'; form-action 'none'"
)
"""What the browser is told to allow: what stands in the page, and nothing from anywhere else."""


@dataclass(frozen=True)
class Section:
    """One part of a report.

    Attributes:
        title: Its heading.
        text: Plain-language paragraphs; HTML, so escape what is not ours.
        figures: Plotly figures in light colours, drawn in this order.
        table: Shown folded under the figures; its CSV file is saved from the page.
        data: Names of the CSV files beside the report that hold its numbers in full.
        code: The lines that make the same result in Python, or the command.
        table_open: Whether the table is unfolded.
        captions: A sentence for each figure that says how to read it; HTML.
    """

    title: str
    text: Sequence[str] = ()
    figures: Sequence[go.Figure] = ()
    table: pd.DataFrame | None = None
    data: str = ""
    code: str = ""
    table_open: bool = False
    captions: Sequence[str] = ()

    def __post_init__(self) -> None:
        found = (len(self.captions), len(self.figures))
        require(
            not self.captions or found[0] == found[1],
            f"A section has a caption for each figure, or none; {self.title!r} has {found[0]} captions "
            f"and {found[1]} figures. Give as many, or leave captions out.",
        )


def render(title: str, lead: Sequence[str], sections: Sequence[Section]) -> str:
    """The HTML of a report; plotly's script is inside, once, and nothing is fetched.

    Args:
        title: Its heading.
        lead: The summary, which comes first: paragraphs of HTML.
        sections: What follows, each in the list of sections beside it.
    """
    from plotly.offline import get_plotlyjs

    links = "".join(
        f"<li><a href='#s{place}'>{html.escape(section.title)}</a></li>"
        for place, section in enumerate(sections)
    )
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        "<link rel='icon' href='data:,'>",
        f"<title>{html.escape(title)}</title><style>{style_sheet()}</style>",
        f"<script>{get_plotlyjs()}</script><script>{SCRIPT}</script></head><body>",
        "<a class='skip' href='#main'>Skip to the first section</a>",
        "<div class='columns'><header>",
        "<button type='button' id='theme' aria-pressed='false'>Dark colours</button>",
        f"<h1>{html.escape(title)}</h1>",
        *map(_paragraph, lead),
        "<noscript><p class='warning'>Figures and buttons need JavaScript; texts and tables do not."
        "</p></noscript></header>",
        f"<nav aria-label='Sections'><ol>{links}</ol></nav>",
        "<main id='main' tabindex='-1'>",
        *(_section(place, section) for place, section in enumerate(sections)),
        "</main></div><footer><p>Made by mechft. This page is one file: it opens offline, asks the "
        "network for nothing and sends nothing.</p></footer>",
        "<div id='status' role='status' class='unseen'></div></body></html>",
    ]
    return "\n".join(parts)


def _section(place: int, section: Section) -> str:
    name = slug(section.title)
    captions = section.captions or [""] * len(section.figures)
    parts = [f"<section id='s{place}'><h2>{html.escape(section.title)}</h2>"]
    parts += map(_paragraph, section.text)
    parts += [
        figure_html(figure, f"figure-{place}-{i}", caption, f"{name}-{i + 1}")
        for i, (figure, caption) in enumerate(zip(section.figures, captions, strict=True))
    ]
    if section.table is not None:
        rows, columns = section.table.shape
        table = table_html(section.table, label=f"Table of: {section.title}", file=f"{name}.csv")
        parts.append(
            f"<details{' open' * section.table_open}><summary>Table: {rows:,} row{'s' * (rows != 1)}, "
            f"{columns} column{'s' * (columns != 1)}</summary>{table}</details>"
        )
    if section.data:
        parts.append(f"<p class='note'>In full, beside this page: {html.escape(section.data)}</p>")
    if section.code:
        parts.append(
            "<div class='code'><button type='button' class='copy' aria-label='Copy this code'>Copy"
            f"</button><pre tabindex='0'>{html.escape(section.code)}</pre></div>"
        )
    return "\n".join([*parts, "</section>"])


def _paragraph(text: str) -> str:
    """A paragraph, or a box for what a paragraph must not hold: lists and tables."""
    if re.search(r"<(table|ul|ol|dl|div|details|p|pre|figure)\b", text):
        return f"<div class='text'>{with_scopes(text)}</div>"
    return f"<p>{text}</p>"


def write_report(path: Path, text: str) -> Path:
    """Write a report, replacing an earlier one in one step."""
    return write_text(path, text)
