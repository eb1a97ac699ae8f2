"""What the reports of all studies say alike: how claims fared, and how far a run can be trusted."""

from __future__ import annotations

import html
from collections import Counter
from typing import Any

from mechft.experiments.sweep.result import SweepResult


def seeds_told(result: SweepResult[Any, Any]) -> str:
    """How many seeds, as "3 seeds"."""
    seeds = len(result.config.seed_list)
    return f"{seeds} seed{'s' * (seeds != 1)}"


def verdicts_told(result: SweepResult[Any, Any], what: str) -> str:
    """How many of the claims hold, as HTML; ``what`` calls them."""
    verdicts = Counter(check.verdict for check in result.checks)
    return (
        f"Of {len(result.checks)} {what} <b>{verdicts['holds']} hold</b> here, "
        f"<b>{verdicts['does not hold']} do not</b>, and <b>{verdicts['unclear']}</b> cannot be told."
    )


def cautions(result: SweepResult[Any, Any], rows: str) -> list[str]:
    """Paragraphs of HTML on what a result cannot show: one seed, a quick run, runs left out.

    Args:
        result: What was measured.
        rows: What an interval of one seed is over ("test strings").
    """
    said = []
    if len(result.config.seed_list) == 1:
        said.append(
            f"One seed: intervals are over {rows}. They say how precisely these models were measured, and "
            "nothing about another training."
        )
    if result.config.quick:
        said.append(
            f"<span class='warning'>A --quick run: too few {rows} and steps to conclude anything from, so no "
            "claim is judged. It shows that everything runs.</span>"
        )
    if result.left_out:
        runs = "; ".join(html.escape(words) for words in result.left_out)
        said.append(f"Left out, {len(result.left_out)} of the runs: {runs}.")
    return said


def notes_told(result: SweepResult[Any, Any]) -> list[str]:
    """What is behind the verdicts, where somebody looked and wrote it down; as HTML."""
    if not result.notes:
        return []
    items = "".join(
        f"<li><b>{html.escape(claim)}</b>: {html.escape(note)}</li>"
        for claim, note in result.notes.items()
    )
    return [f"What was found on looking closer (written by hand, not by a rule):<ul>{items}</ul>"]
