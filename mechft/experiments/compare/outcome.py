"""What a stage gives: a result, what it says, and on which rows; or why it does not apply."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mechft.analysis.result import Result
from mechft.experiments.compare.findings import Finding
from mechft.experiments.compare.pair import Pair


@dataclass(frozen=True)
class Outcome:
    """What a stage found.

    Attributes:
        result: The analysis' result.
        findings: What it says.
        rows: Rows it saw; 0 for stages that look at weights alone.
        note: What a reader of its numbers should know.
    """

    result: Result
    findings: tuple[Finding, ...] = ()
    rows: int = 0
    note: str = ""


Stage = Callable[[Pair, Mapping[str, Result]], Outcome | str]
"""From the pair, and the results so far, to an outcome; a string says why the stage does not apply."""

ASKS_ANSWERS = (
    "It asks for prompts with answers, and the data are texts. Give records with prompt and answer."
)


def shown(rows: int, of: int) -> str:
    """Which rows a stage saw, where it was not all of them."""
    if rows == of:
        return ""
    return (
        f"{rows:,} of {of:,} rows, evenly spread over the data, to bound the time (settings.work)."
    )


def row_of(frame: Any, **wanted: Any) -> Any:
    """The first row of a frame that has these values; missing ones raise IndexError."""
    for column, value in wanted.items():
        frame = frame[frame[column] == value]
    return frame.iloc[0]
