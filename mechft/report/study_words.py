"""What the sections of a study's report have in common: numbers in words, lists, and code that runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from mechft.experiments.pcfg.claims.evidence import by_seed, estimate, rows_of
from mechft.experiments.pcfg.result import StudyResult

if TYPE_CHECKING:
    import pandas as pd

O_FT = ("acc_ft_cte1", "acc_ft_cte0")
"""Counting b on correlated and on uncorrelated test strings."""

GUESSED = (
    "Where a colour's solid line (with the correlation) lies above its dashed one (without), the answer is "
    "guessed from the other operand's."
)
KEPT = "The higher a line stays, the more of what the base answers for O_PT is kept"
REVIVED = (
    "Where O_PT rises and O_FT falls as the first neurons go, and neither does with random ones, these "
    "neurons hid it."
)
"""How to read the figures that several sections have."""


def options(result: StudyResult) -> str:
    """The options of ``mechft reproduce`` that make a study."""
    config = result.config
    return f" --preset {config.preset} --seeds {config.seeds}{' --quick' * config.quick}"


def code(
    result: StudyResult,
    name: str,
    tables: Iterable[str],
    drawn: Iterable[str],
    prepared: Iterable[str] = (),
) -> str:
    """How to make a section's runs again (a comment), and its figures from the CSV files.

    Args:
        result: The study.
        name: The smallest reproduction that has the section.
        tables: The tables that the figures are drawn from.
        drawn: A call of a function of ``mechft.plots.study`` for each figure.
        prepared: Lines between reading and drawing.
    """
    calls = list(drawn)
    functions = ", ".join(sorted({call.split("(")[0] for call in calls}))
    return "\n".join(
        [
            f"# mechft reproduce {name}{options(result)}",
            "# Then, in the folder of its results:",
            "import pandas as pd",
            f"from mechft.plots.study import {functions}",
            *(f'{table} = pd.read_csv("{table}.csv")' for table in tables),
            *prepared,
            *(f"{call}.show()" for call in calls),
        ]
    )


def cell(frame: pd.DataFrame, **labels: Any) -> str:
    """Mean accuracy over seeds of the rows with these labels, its interval cut at 0 and 100%, in words."""
    found = estimate(by_seed(frame, **labels))
    if found is None:
        return "none"
    if found.n == 1:
        return f"{found.value:.1%}"
    return f"{found.value:.1%} [{max(0.0, found.low):.1%}, {min(1.0, found.high):.1%}]"


def behaviour_words(frame: pd.DataFrame, **labels: Any) -> str:
    """Counting b at each rate with the correlation and without, in words."""
    cells = rows_of(frame, **labels)
    return "; ".join(
        f"{rate} {cell(cells, rate=rate, evaluation=O_FT[0])} with, "
        f"{cell(cells, rate=rate, evaluation=O_FT[1])} without"
        for rate in dict.fromkeys(cells["rate"])
    )


def ends(result: StudyResult) -> tuple[str, str]:
    """The lowest and the highest prior."""
    return result.scale.priors[0], result.scale.priors[-1]


def listed(title: str, items: Mapping[str, str]) -> str:
    """Numbers as an HTML list: a line an item, its name first."""
    lines = "".join(f"<li>{name}: {words}</li>" for name, words in items.items())
    return f"{title}<ul>{lines}</ul>"
