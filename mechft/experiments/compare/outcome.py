"""What a stage gives: a result, what it says, and on which rows; or why it does not apply."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mechft.analysis.result import Result
from mechft.experiments.compare.findings import Finding, counted
from mechft.experiments.compare.pair import Pair
from mechft.experiments.compare.rows import Rows


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

LEAST_ROWS = 8
"""Rows below which a share of rows says nothing."""

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


def too_few(differing: int, pair: Pair, asks: str, *, halved: bool = False) -> str:
    """Why a stage that asks where the models' answers part does not apply; "" where they part often enough.

    Args:
        differing: Rows that the models answer differently.
        pair: The models.
        asks: What it asks.
        halved: Whether these are half of them, the other half being kept to measure on.
    """
    if differing >= LEAST_ROWS:
        return ""
    needed = f"{LEAST_ROWS} in either half" if halved else f"{LEAST_ROWS}"
    half = " in the smaller half" if halved else ""
    return (
        f"It asks {asks}, and the two models' answers part on {counted(differing, 'row')}{half} of "
        f"{len(pair.asked.rows):,}; it takes {needed}. Give data on which the models differ."
    )


def differing_halves(pair: Pair, asks: str) -> tuple[Rows, Rows] | str:
    """Rows that the models answer differently, in two halves, the base's answers being right; or why not.

    Args:
        pair: The models.
        asks: What the stage asks.
    """
    if pair.kind != "answers":
        return ASKS_ANSWERS
    differing, ours, _ = pair.asked.differing()
    halves = differing.answered(ours).halves()
    least = min(len(half) for half in halves)
    if few := too_few(least, pair, asks, halved=True):
        return few
    return halves


def too_dear(pair: Pair, what: str, cost: float, technique: str) -> str:
    """Why something is left out that takes far more than a stage may; "" where it does not.

    Args:
        pair: The models.
        what: What is left out.
        cost: Operations it takes, about.
        technique: The module of mechft.analysis that does it whatever it takes.
    """
    times = cost / pair.settings.work
    if times <= 2:
        return ""
    return (
        f"{what} would take about {times:,.0f} times the work a stage may take (settings.work); "
        f"mechft.analysis.{technique} has them."
    )


def row_of(frame: Any, **wanted: Any) -> Any:
    """The first row of a frame that has these values; missing ones raise IndexError."""
    for column, value in wanted.items():
        frame = frame[frame[column] == value]
    return frame.iloc[0]
