"""What the sections of the stories report have in common: settings and shares in words, code that runs."""

from __future__ import annotations

import html
import shlex
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from mechft.experiments.stories.claims import share, words
from mechft.experiments.stories.result import StoriesResult
from mechft.plots.stories_style import MODEL, model_name, with_models

if TYPE_CHECKING:
    import pandas as pd


def source_of(result: StoriesResult) -> str:
    """Where stories came from, without where a file lay."""
    return result.config.source_name


def options(result: StoriesResult) -> str:
    """The options of ``mechft reproduce tinystories`` that make a study."""
    config = result.config
    source = shlex.quote(source_of(result))
    return (
        f" --source {source} --preset {config.preset} --feature {config.feature} "
        f"--seeds {config.seeds}{' --quick' * config.quick}"
    )


def code(result: StoriesResult, tables: Iterable[str], calls: Iterable[str]) -> str:
    """How to make a section's runs again (a comment), and its figures from the CSV files.

    Args:
        result: The study.
        tables: The tables that the figures are drawn from.
        calls: A call of a function of ``mechft.plots.stories`` for each figure.
    """
    calls = list(calls)
    functions = ", ".join(sorted({call.split("(")[0] for call in calls}))
    return "\n".join(
        [
            f"# mechft reproduce {result.config.name}{options(result)}",
            "# Then, in the folder of its results:",
            "import pandas as pd",
            f"from mechft.plots.stories import {functions}",
            *(f'{table} = pd.read_csv("{table}.csv")' for table in tables),
            *(f"{call}.show()" for call in calls),
        ]
    )


def share_words(frame: pd.DataFrame, **labels: Any) -> str:
    """The share of stories of the rows with these labels, over all seeds, with Wilson's interval."""
    for name, value in labels.items():
        frame = frame[frame[name].fillna("") == value]
    return words(share(frame)) if len(frame) else "not measured"


def deleted_models(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """Protocol and rate of the deleted models in a table, in order."""
    rows = with_models(frame)
    rows = rows[rows["model"] == "deleted"]
    return list(dict.fromkeys(zip(rows["protocol"], rows["rate"], strict=True)))


def by_model(frame: pd.DataFrame, value: str, number: str = ".1%") -> dict[str, str]:
    """The mean of a column for every model, over its seeds, in words."""
    rows = with_models(frame)
    return {
        model_name(*labels): format(float(part[value].mean()), number)
        for labels, part in rows.groupby(MODEL, sort=False)
    }


def listing(title: str, items: dict[str, str]) -> str:
    """Names with their numbers as an HTML list, a line each; without an item the title says so."""
    if not items:
        return f"{title} none."
    lines = "".join(f"<li>{html.escape(name)}: {told}</li>" for name, told in items.items())
    return f"{title}<ul>{lines}</ul>"
