"""What results say of themselves."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd

from mechft.analysis.result import Result


@dataclass(frozen=True)
class _Lengths(Result):
    """Lengths of things.

    Columns: thing, length.
    """

    unit: str
    things: dict[str, pd.DataFrame] = field(default_factory=dict)


@dataclass(frozen=True)
class _Own(_Lengths):
    """One that speaks for itself."""

    def __repr__(self) -> str:
        return "own"


def test_a_console_shows_one_line() -> None:
    frame = pd.DataFrame({"thing": range(1200), "length": 1.0})
    said = "<_Lengths: Lengths of things. 1,200 rows in .frame: thing, length>"
    assert repr(_Lengths(frame, "m", {"all": frame})) == said
    assert "1 row in" in repr(_Lengths(frame[:1], "m"))
    assert repr(_Own(frame, "m")) == "own"


def test_a_notebook_shows_the_table() -> None:
    shown = _Lengths(pd.DataFrame({"thing": ["x" * 80], "length": [0.123456]}), "m")._repr_html_()
    assert "Lengths of things." in shown and "x" * 80 in shown and "0.1235" in shown
