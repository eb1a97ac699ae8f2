"""The report of a comparison: what was found first, then a section a stage, what was left out, provenance."""

from __future__ import annotations

import html
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mechft.experiments.compare.config import CompareSettings
from mechft.experiments.compare.files import REPORT_FILE, RESULT_FILE
from mechft.experiments.compare.result import Comparison, DataFacts, ModelFacts
from mechft.report.comparison_sections import call_line, stage_sections
from mechft.report.render import Section, render, table_html, write_report


def write_comparison_report(comparison: Comparison, folder: Path) -> Path:
    """Write report.html of a comparison, made or read back by ``read_comparison``, and return its path.

    Args:
        comparison: The comparison.
        folder: Where to; made if missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return write_report(folder / REPORT_FILE, comparison_report(comparison))


def comparison_report(comparison: Comparison) -> str:
    """The HTML of a comparison's report."""
    return render(
        f"{comparison.finetuned.name}: what did fine-tuning change?",
        _lead(comparison),
        [
            _findings(comparison),
            *stage_sections(comparison),
            _stages(comparison),
            _provenance(comparison),
        ],
    )


def _lead(comparison: Comparison) -> list[str]:
    base, finetuned, data = comparison.base, comparison.finetuned, comparison.data
    size = finetuned.shape
    shape = (
        f"{size['n_layers']} blocks of {size['n_heads']} heads, {size['d_model']:,} wide, a vocabulary of "
        f"{size['d_vocab']:,} tokens"
    )
    kind = "prompts with an answer each" if data.kind == "answers" else "windows of text"
    lengths = (
        f"{data.shortest:,}"
        if data.shortest == data.longest
        else f"{data.shortest:,} to {data.longest:,}"
    )
    lead = [
        f"<b>{html.escape(finetuned.name)}</b> ({_kind(finetuned)}) against the model it was fine-tuned "
        f"from, <b>{html.escape(base.name)}</b> ({_kind(base)}): {finetuned.parameters:,} parameters, "
        f"{shape}.",
        f"Both were shown {data.rows:,} {kind}, of {lengths} tokens"
        f"{f', from {html.escape(data.given)}' if data.given else ''}. {_counts(data)}",
        "Beside the fine-tuned model, where that is cheap, stands the base with a <b>random change</b> "
        "of its weights, as large in every weight as fine-tuning's: what a change of that size does on "
        "its own.",
    ]
    if comparison.control is not None:
        lead.append(
            f"What training back is held against: <b>{html.escape(comparison.control.name)}</b> "
            f"({_kind(comparison.control)}), which never had what the base can."
        )
    if comparison.settings.quick:
        lead.append(
            "<span class='warning'>A quick comparison: the first answer, on few rows. Without quick the "
            "other stages run, on more.</span>"
        )
    if comparison.interrupted:
        lost = [s.name.replace("_", " ") for s in comparison.stages if s.state == "interrupted"]
        lead.append(
            "<span class='warning'>This comparison was interrupted: what follows is of the stages that had "
            f"finished. Not run to their end: {', '.join(lost)}.</span>"
        )
    return lead


def _kind(model: ModelFacts) -> str:
    told = model.given not in ("", model.name)
    return f"{html.escape(model.kind)}{f', {html.escape(model.given)}' if told else ''}"


_COUNTED = {
    "empty": "{n} empty",
    "too_short": "{n} too short to predict anything",
    "no_answer": "{n} without an answer",
    "cut": "{n} prompts lost their beginning, being longer than the model's context",
    "split": "{n} texts were cut into several windows",
    "merged": "in {n} the answer's first token reaches into the prompt",
    "answers_of_several_tokens": "of {n} answers the first token alone is asked",
    "stopped": "reading stopped at the limit of rows",
}


def _counts(data: DataFacts) -> str:
    """What became of what was read, in words."""
    told = [
        words.format(n=f"{data.counts[key]:,}")
        for key, words in _COUNTED.items()
        if data.counts.get(key)
    ]
    read = data.counts.get("read", data.rows)
    return (
        f"Of {read:,} records read: {'; '.join(told)}."
        if told
        else f"All {read:,} records read were used."
    )


def _findings(comparison: Comparison) -> Section:
    rows, last = [], ""
    for finding in comparison.findings:
        stage = "" if finding.stage == last else finding.stage.replace("_", " ")
        cells = (stage, finding.text, finding.caution)
        rows.append("".join(f"<td>{html.escape(cell)}</td>" for cell in cells))
        last = finding.stage
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return Section(
        "What was found",
        [
            "Sentences made from the numbers below by fixed rules. Brackets are 95% intervals over rows: "
            "how precisely these two models were measured on these data, not how another training would "
            "come out.",
            "<table class='words'><thead><tr><th>Stage</th><th>Found</th><th>With care</th></tr></thead>"
            f"<tbody>{body}</tbody></table>",
        ],
    )


def _stages(comparison: Comparison) -> Section:
    import pandas as pd

    frame = pd.DataFrame(
        [
            (
                stage.name.replace("_", " "),
                stage.question,
                stage.state,
                f"{stage.rows:,}" if stage.rows else "–",
                f"{stage.seconds:.0f} s" if stage.seconds or stage.state == "done" else "–",
                stage.reason or stage.note,
            )
            for stage in comparison.stages
        ],
        columns=["Stage", "Question", "State", "Rows", "Time", "Why, or which rows"],
    )
    left = len(comparison.skipped)
    return Section(
        "What was run, and what was left out",
        [
            f"{len(comparison.stages) - left} of {len(comparison.stages)} stages gave a result. A stage "
            "that was skipped, failed or was interrupted says why; nothing else was left out.",
            table_html(frame, label="Stages", file="stages.csv", words=True),
        ],
    )


def _provenance(comparison: Comparison) -> Section:
    base, finetuned, data = comparison.base, comparison.finetuned, comparison.data
    settings = ", ".join(
        f"{name} {_plain(value)}" for name, value in asdict(comparison.settings).items()
    )
    versions = ", ".join(f"{name} {number}" for name, number in comparison.versions.items())
    return Section(
        "What was run, and how to run it again",
        [
            f"Settings: {html.escape(settings)}. Versions: {html.escape(versions)}.",
            f"Fingerprints of the weights: base {base.fingerprint}, fine-tuned {finetuned.fingerprint}; "
            f"of the rows: {data.digest}. {RESULT_FILE} beside this page holds all settings and findings, "
            "the CSV files all numbers.",
        ],
        code=call_line(comparison) + command_line(comparison),
    )


def command_line(comparison: Comparison) -> str:
    """The command that makes the comparison again; "" where the models or data were objects in memory."""
    given = (comparison.base.given, comparison.finetuned.given, comparison.data.given)
    control = comparison.control
    if not all(given) or (control is not None and not control.given):
        return ""
    held = "" if control is None else f" --control {control.given}"
    options = "".join(
        f" --{name}" + ("" if value is True else f" {_plain(value)}")
        for name, value in _told(comparison.settings).items()
    )
    return f"# or: mechft diff {given[0]} {given[1]} --data {given[2]}{held}{options}\n"


def _told(settings: CompareSettings) -> dict[str, Any]:
    """The settings that differ from the default."""
    usual = asdict(CompareSettings())
    return {name: value for name, value in asdict(settings).items() if value != usual[name]}


def _plain(value: Any) -> str:
    """A setting as it is written on the command line."""
    if isinstance(value, tuple | list):
        return " ".join(value) or "all"
    return f"{value:g}" if isinstance(value, float) else str(value)
