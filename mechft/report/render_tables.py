"""Tables of a report: for reading in the page, and as CSV from the page itself."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from mechft.experiments.checks import Check

if TYPE_CHECKING:
    import pandas as pd


def slug(title: str) -> str:
    """A title as part of a file name: "Fig. 5: counting b" becomes "fig-5-counting-b"."""
    plain = html.unescape(re.sub(r"<[^>]*>", "", title))
    return "-".join(re.findall(r"[a-z0-9_]+", plain.lower()))[:60].strip("-") or "table"


def table_html(
    frame: pd.DataFrame, *, label: str = "", file: str = "table.csv", words: bool = False
) -> str:
    """A frame as an HTML table with four significant digits, and a button that saves it as CSV with all.

    Args:
        frame: What it shows; the index is left out. Columns may have two levels.
        label: What the table is, for those who do not see it.
        file: The name that the CSV file is given.
        words: Whether cells hold sentences, which may run over several lines.
    """
    return _block(_head(frame), _body(frame), csv_text(frame), label, file, words)


def checks_table(checks: Iterable[Check], claim: str) -> str:
    """Claims with their evidence and verdict, as an HTML table; ``claim`` heads the first column."""
    import pandas as pd

    checks = list(checks)
    frame = pd.DataFrame(
        [(check.claim, check.evidence, check.verdict) for check in checks],
        columns=[claim, "Found", "Verdict"],
    )
    marks = {True: "yes", False: "no", None: ""}
    body = "".join(
        f"<tr><td>{html.escape(check.claim)}</td><td>{html.escape(check.evidence)}</td>"
        f"<td class='{marks[check.holds]}'>{check.verdict}</td></tr>"
        for check in checks
    )
    return _block(_head(frame), body, csv_text(frame), f"{claim}s", f"{slug(claim)}s.csv", True)


def csv_text(frame: pd.DataFrame) -> str:
    """A frame as CSV with all its digits; the levels of a column's name are joined by ": "."""
    flat = frame.copy(deep=False)
    flat.columns = [": ".join(filter(None, levels)) for levels in _levels(frame)]
    text: str = flat.to_csv(index=False, lineterminator="\n")
    return text


def with_scopes(text: str) -> str:
    """HTML whose header cells all say what they head: a column, if they do not say more."""
    return re.sub(r"<th(?=[\s>])(?![^>]*\bscope=)", "<th scope='col'", text)


def _block(head: str, body: str, csv: str, label: str, file: str, words: bool) -> str:
    """The table in a box that scrolls, its button, and its CSV as data that nothing runs."""
    escaped = html.escape(label or "Table")
    data = json.dumps(csv, ensure_ascii=False).replace("<", "\\u003c")
    return (
        f"<div class='table'><div class='scroll' tabindex='0' role='region' aria-label='{escaped}'>"
        f"<table class='{'words' if words else 'data'}'><caption class='unseen'>{escaped}</caption>"
        f"<thead>{head}</thead><tbody>{body}</tbody></table></div><div class='tools'>"
        f"<button type='button' class='csv' data-file='{html.escape(file)}' "
        f"aria-label='Save as CSV: {escaped}'>Save as CSV</button></div>"
        f"<script type='application/json'>{data}</script></div>"
    )


def _levels(frame: pd.DataFrame) -> list[tuple[str, ...]]:
    """The names of the columns, a part for each level."""
    several = frame.columns.nlevels > 1
    return [tuple(map(str, name)) if several else (str(name),) for name in frame.columns]


def _head(frame: pd.DataFrame) -> str:
    """The header rows, one a level; columns beside each other that share a name share a cell."""
    names = _levels(frame)
    *upper, last = range(frame.columns.nlevels)
    rows = []
    for level in upper:
        shared = groupby(levels[: level + 1] for levels in names)
        spans = [(levels[-1], len(list(group))) for levels, group in shared]
        rows.append("".join(_group_head(text, span) for text, span in spans))
    rows.append(
        "".join(
            f"<th scope='col'{mark}>{html.escape(levels[last])}</th>"
            for levels, mark in zip(names, _marks(frame), strict=True)
        )
    )
    return "".join(f"<tr>{row}</tr>" for row in rows)


def _group_head(text: str, span: int) -> str:
    """The header of columns that share a level."""
    if not text:
        return f"<td colspan='{span}'></td>"
    return f"<th scope='colgroup' colspan='{span}'>{html.escape(text)}</th>"


def _body(frame: pd.DataFrame) -> str:
    marks = _marks(frame)
    return "".join(
        f"<tr>{''.join(f'<td{m}>{_cell(v)}</td>' for m, v in zip(marks, row, strict=True))}</tr>"
        for row in frame.itertuples(index=False, name=None)
    )


def _marks(frame: pd.DataFrame) -> Sequence[str]:
    """What the cells of each column are marked as: numbers stand to the right."""
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    return [
        " class='number'" if is_numeric_dtype(dtype) and not is_bool_dtype(dtype) else ""
        for dtype in frame.dtypes
    ]


def _cell(value: Any) -> str:
    """A value for reading: four significant digits, a dash for what is missing."""
    import pandas as pd

    if value is None or value is pd.NA or value is pd.NaT or value != value:
        return "–"
    if isinstance(value, Real) and not isinstance(value, Integral):
        return f"{float(value):.4g}"
    return html.escape(str(value))
