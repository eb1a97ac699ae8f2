"""Figures of a report: drawn by plotly in the page, with a caption, in words, and to be saved."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import plotly.graph_objects as go

_KINDS = {
    "scatter": "lines or points",
    "bar": "bars",
    "heatmap": "coloured cells",
    "box": "boxes",
    "violin": "distributions",
    "histogram": "a histogram",
}
"""Kinds of traces in words."""


def figure_html(figure: go.Figure, place: str, caption: str, file: str) -> str:
    """A figure with its caption, and buttons that save it.

    Args:
        figure: A plotly figure in light colours.
        place: The id of the element that it is drawn in.
        caption: The sentence that says how to read it, as HTML; "" for none beside its title.
        file: Name of the files it is saved as, without their ending.
    """
    height = figure.layout.height or 450
    title = plain((figure.layout.title.text or "").split("<br>")[0])  # a subtitle follows
    named = html.escape(title or plain(caption) or "the figure")
    buttons = "".join(
        f"<button type='button' class='image' data-figure='{place}' data-format='{kind}' "
        f"data-file='{file}.{kind}' aria-label='Save as {kind.upper()}: {named}'>"
        f"{kind.upper()}</button>"
        for kind in ("png", "svg")
    )
    # plotly writes "<" as an escape sequence, so that no text of a figure ends the script.
    return (
        f"<figure><div class='drawing'><div id='{place}' class='plot' role='img' "
        f"style='height:{height}px' aria-label='{html.escape(figure_words(figure))}'></div></div>"
        f"{f'<figcaption>{caption}</figcaption>' * bool(caption)}<div class='tools'>Save as {buttons}</div>"
        f'<script>Plotly.newPlot("{place}", report.shown("{place}", {figure.to_json()}))</script>'
        "</figure>"
    )


def figure_words(figure: go.Figure) -> str:
    """What a figure shows, for those who do not see it: title, kinds, axes, panels and lines.

    Values are not told: the text beside a figure says what they mean, tables and CSV files hold them.
    """
    kinds = [_KINDS.get(trace.type, trace.type) for trace in figure.data]
    names = [plain(trace.name) for trace in figure.data if trace.showlegend is not False]
    panels = [
        plain(note.text)
        for note in figure.layout.annotations
        if note.xref == "paper" and note.yref == "paper" and not note.showarrow
    ]
    across = [plain(axis.title.text) for axis in figure.select_xaxes()]
    up = [plain(axis.title.text) for axis in figure.select_yaxes()]
    parts = {
        "Figure": [plain(figure.layout.title.text)],
        "Drawn as": kinds,
        "Across": across,
        "Up": up,
        "Notes and panels": panels,
        "Legend": names,
    }
    told = {name: list(dict.fromkeys(filter(None, words))) for name, words in parts.items()}
    return " ".join(f"{name}: {'; '.join(words)}." for name, words in told.items() if words)


def plain(text: str | None) -> str:
    """A text of plotly's without its markup."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", text or "")).split())
