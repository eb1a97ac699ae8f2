"""The report of a Tracr reproduction: the paper's claims, with the tables and figures behind each."""

from __future__ import annotations

from pathlib import Path

from mechft.experiments.tracr_result import TracrResult
from mechft.report.render import render, write_report
from mechft.report.tracr_sections import all_sections, operand_words

_NAMES = {"counter": "Counter", "max": "Max-identifier"}


def write_tracr_report(result: TracrResult) -> Path:
    """Write report.html of a reproduction into its folder and return its path."""
    return write_report(result.config.out / "report.html", tracr_report(result))


def tracr_report(result: TracrResult) -> str:
    """The HTML of a reproduction's report."""
    config = result.config
    held = dict.fromkeys(("holds", "does not hold", "unclear"), 0)
    for check in result.checks:
        held[check.verdict] += 1
    name, back = _NAMES[config.program], result.scale.reverse_steps
    lead = [
        f"A program whose mechanism is known, the <b>{name}</b>, was compiled into a transformer "
        f"of three blocks (Tracr), fine-tuned from {operand_words(result, 'pt')} (O_PT) to "
        f"{operand_words(result, 'ft')} (O_FT) at {len(result.scale.rates)} learning rates and "
        f"{len(result.scale.correlations)} strengths of a shortcut (C<sub>Tr</sub>), looked into, "
        "and fine-tuned back. This is the first setup of Jain et al. (ICLR 2024).",
        f"Of {len(result.checks)} claims {held['holds']} hold here, {held['does not hold']} do "
        f"not, and {held['unclear']} cannot be told. One training run a cell, "
        f"{result.scale.steps:,} steps each"
        + (" (the paper: 10,000)" if result.scale.steps != 10_000 else ", as in the paper")
        + (f"; {back:,} to train back." if back != result.scale.steps else "."),
    ]
    if config.quick:
        lead.append(
            "<span class='warning'>A --quick run: too few trainings and steps to conclude "
            "anything from. It shows that everything runs.</span>"
        )
    return render(
        f"What fine-tuning does to a compiled {name}",
        lead,
        all_sections(result),
    )
