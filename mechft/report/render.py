"""A report as HTML: sections of text, figures and tables; plotly inside, nothing fetched."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mechft.experiments.checks import Check

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


@dataclass(frozen=True)
class Section:
    """One part of a report.

    Attributes:
        title: Its heading.
        text: Plain-language paragraphs; HTML, so escape what is not ours.
        figures: Plotly figures, drawn in this order.
        table: Shown folded under the figures.
        data: Name of the CSV file that holds the table in full.
        code: The line that makes the same result in Python.
    """

    title: str
    text: Sequence[str] = ()
    figures: Sequence[go.Figure] = ()
    table: pd.DataFrame | None = None
    data: str = ""
    code: str = ""
    table_open: bool = False


_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif;
  max-width: 1080px; margin: 2rem auto; padding: 0 1.2rem; color: #1b1b1b; background: #fff; }
h1 { font-size: 1.7rem; line-height: 1.25; } h2 { font-size: 1.25rem; margin-top: 2.6rem;
  border-top: 1px solid #ddd; padding-top: 1.2rem; }
p { max-width: 46rem; } nav a { margin-right: 1rem; } a { color: #00558a; }
table { border-collapse: collapse; font-size: .88rem; margin: .6rem 0; }
td:first-child { white-space: nowrap; } table.words td:first-child { white-space: normal; }
th, td { padding: .28rem .7rem; border-bottom: 1px solid #e4e4e4; text-align: right; }
th { border-bottom: 2px solid #999; } td:first-child, th:first-child { text-align: left; }
table.words td, table.words th { text-align: left; vertical-align: top; }
pre, code { background: #f4f4f4; font-size: .86rem; } pre { padding: .7rem; overflow-x: auto; }
details { margin: .4rem 0; } summary { cursor: pointer; color: #00558a; }
.scroll { overflow: auto; max-height: 26rem; }
.yes { color: #00664b; font-weight: 600; } .no { color: #b03a00; font-weight: 600; }
.warning { display: block; background: #fff4e0; border-left: 4px solid #e69f00; padding: .6rem 1rem; }
"""


def render(title: str, lead: Sequence[str], sections: Sequence[Section]) -> str:
    """The HTML of a report; plotly's script is inside, once, and nothing is fetched."""
    from plotly.offline import get_plotlyjs

    links = " ".join(f'<a href="#s{i}">{html.escape(s.title)}</a>' for i, s in enumerate(sections))
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        "<link rel='icon' href='data:,'>",
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style>",
        f"<script>{get_plotlyjs()}</script></head><body><h1>{html.escape(title)}</h1>",
        *(f"<p>{paragraph}</p>" for paragraph in lead),
        f"<nav aria-label='Sections'>{links}</nav>",
        *(_section(i, section) for i, section in enumerate(sections)),
        "</body></html>",
    ]
    return "\n".join(parts)


def _section(number: int, section: Section) -> str:
    parts = [f"<section id='s{number}'><h2>{html.escape(section.title)}</h2>"]
    parts += [f"<p>{paragraph}</p>" for paragraph in section.text]
    parts += [
        figure.to_html(
            full_html=False,
            include_plotlyjs=False,
            config={"displaylogo": False, "responsive": True},
            div_id=f"figure-{number}-{i}",
        )
        for i, figure in enumerate(section.figures)
    ]
    if section.table is not None:
        where = f" (in full: {html.escape(section.data)})" if section.data else ""
        state = " open" if section.table_open else ""
        parts.append(
            f"<details{state}><summary>Table{where}</summary><div class='scroll'>"
            f"{table_html(section.table)}</div></details>"
        )
    if section.code:
        parts.append(f"<pre>{html.escape(section.code)}</pre>")
    return "\n".join([*parts, "</section>"])


def checks_table(checks: Iterable[Check], claim: str) -> str:
    """Claims with their evidence and verdict, as an HTML table; ``claim`` heads the first column."""
    marks = {True: "yes", False: "no", None: ""}
    rows = "".join(
        f"<tr><td>{html.escape(c.claim)}</td><td>{html.escape(c.evidence)}</td>"
        f"<td class='{marks[c.holds]}'>{c.verdict}</td></tr>"
        for c in checks
    )
    return (
        f"<table class='words'><thead><tr><th>{html.escape(claim)}</th><th>Found</th><th>Verdict</th>"
        f"</tr></thead><tbody>{rows}</tbody></table>"
    )


def write_report(path: Path, text: str) -> Path:
    """Write a report, replacing an earlier one in one step."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
    return path


def table_html(frame: pd.DataFrame) -> str:
    """A frame as an HTML table with four significant digits."""
    made: str = frame.to_html(index=False, border=0, float_format=lambda x: f"{x:.4g}", na_rep="–")
    return made
