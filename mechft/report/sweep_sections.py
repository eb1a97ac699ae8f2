"""Sections that the report of every study has: claims, settings that are not the paper's, provenance."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from mechft.experiments.sweep.result import RESULT_FILE, SweepResult
from mechft.report.render import Section, checks_table, table_html
from mechft.report.sweep_words import notes_told

if TYPE_CHECKING:
    import pandas as pd


def claims_section(result: SweepResult[Any, Any], rules: str) -> Section:
    """The paper's claims with evidence and verdict; ``rules`` says what numbers and brackets are."""
    return Section(
        "The paper's claims, and what was found",
        [
            f"Each rule and threshold is fixed in the code, not chosen by a result. {rules}",
            checks_table(result.checks, "Claim")
            if result.checks
            else "The tables of this study bear on none of the claims.",
            *notes_told(result),
        ],
        data="claims.csv",
    )


def provenance_section(
    result: SweepResult[Any, Any], options: str, again: str, source: str = ""
) -> Section:
    """What was run, with which versions, and the command.

    Args:
        result: The study.
        options: Of ``mechft reproduce``, after the name.
        again: What running the command again does.
        source: What it was run on, if it could have been something else; plain text.
    """
    config = result.config
    versions = ", ".join(f"{name} {number}" for name, number in result.versions.items())
    of = f", {source}" if source else ""
    return Section(
        "What was run, and how to run it again",
        [
            f"Reproduction {html.escape(config.name)}, preset {config.preset}{html.escape(of)}, seeds "
            f"{', '.join(map(str, config.seed_list))}{', quick' if config.quick else ''}. Versions: "
            f"{html.escape(versions)}. {RESULT_FILE} holds all settings, the CSV files all numbers of this "
            "page.",
            again,
        ],
        code=f"mechft reproduce {config.name}{options}",
    )


def setting_words(value: Any) -> str:
    """A setting as text: "M 0.001, S 0.0001"."""
    if value is None:
        return "all there are"
    if isinstance(value, tuple):
        pairs = bool(value) and isinstance(value[0], tuple)
        parts = [
            " ".join(map(setting_words, part)) if pairs else setting_words(part) for part in value
        ]
        return ", ".join(parts) or "none"
    if isinstance(value, float):
        return f"{value:g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def differing(
    scale: Any,
    paper: Any,
    meanings: Mapping[str, str],
    sizes: Iterable[tuple[str, str, Any, Any]],
) -> pd.DataFrame:
    """The settings that are not the paper's.

    Args:
        scale, paper: Sizes of the study, and of preset paper: dataclasses of one kind.
        meanings: Their fields in words.
        sizes: What a preset sets besides: name, meaning, here, paper.

    Returns:
        setting, meaning, here, paper.
    """
    import pandas as pd

    rows = [
        (field.name, meanings[field.name], getattr(scale, field.name), getattr(paper, field.name))
        for field in fields(scale)
    ]
    return pd.DataFrame(
        [
            (name, meaning, setting_words(here), setting_words(there))
            for name, meaning, here, there in [*rows, *sizes]
            if here != there
        ],
        columns=["setting", "meaning", "here", "paper"],
    )


def departures_section(
    table: pd.DataFrame, about: str, departures: Iterable[str], lead: str
) -> Section:
    """The section on settings.

    Args:
        table: Of ``differing``.
        about: What to know of the settings in it.
        departures: Departures of every preset, as HTML.
        lead: What these are called.
    """
    return Section(
        "Settings: where this preset departs from the paper",
        [
            f"{len(table)} settings differ from preset paper. {about}"
            if len(table)
            else "No setting differs from preset paper: the paper's, as far as it gives them.",
            *(
                [table_html(table, label="Settings", file="settings.csv", words=True)]
                if len(table)
                else []
            ),
            f"{lead}<ul>" + "".join(f"<li>{each}</li>" for each in departures) + "</ul>",
        ],
    )
