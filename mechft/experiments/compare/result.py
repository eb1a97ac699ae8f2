"""What a comparison of two models found: results by stage, findings in words, and what was left out."""

from __future__ import annotations

import html
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mechft.analysis.result import Result
from mechft.experiments.compare.config import CompareSettings
from mechft.experiments.compare.findings import Finding
from mechft.experiments.compare.tables import frames_of

if TYPE_CHECKING:
    import pandas as pd

State = Literal["done", "skipped", "failed", "interrupted"]


@dataclass(frozen=True)
class ModelFacts:
    """One of the models, in words.

    Attributes:
        name: Its folder's, class's or file's name.
        kind: What it was opened from.
        given: The path or name that was given; "" for an object in memory.
        parameters: Numbers in it.
        shape: Its sizes by name: n_layers, n_heads, d_model, d_vocab, n_ctx.
        fingerprint: A short hash of its weights.
    """

    name: str
    kind: str
    given: str
    parameters: int
    shape: dict[str, int]
    fingerprint: str


@dataclass(frozen=True)
class DataFacts:
    """The data, in words.

    Attributes:
        given: The path that was given; "" for an object in memory.
        kind: "answers" or "text".
        counts: What became of what was read, as in ``Prompts``.
        rows: Rows that the models were shown.
        shortest, longest: Tokens of the shortest and the longest row.
        digest: A short hash of all rows.
    """

    given: str
    kind: str
    counts: dict[str, int]
    rows: int
    shortest: int
    longest: int
    digest: str


@dataclass(frozen=True)
class StageRecord:
    """What became of a stage.

    Attributes:
        name: Its name.
        question: What it asks.
        state: Whether it ran to its end.
        reason: Why it was skipped, the error it failed with, or that Ctrl-C came in it or before it.
        note: What a reader of its numbers should know: which rows, which sites, and why these.
        rows: Rows it saw; 0 for stages that look at weights alone.
        seconds: How long it took.
    """

    name: str
    question: str
    state: State
    reason: str = ""
    note: str = ""
    rows: int = 0
    seconds: float = 0.0


class ComparisonInterrupted(KeyboardInterrupt):
    """Ctrl-C during a comparison, after a stage had finished.

    Attributes:
        found: The comparison as far as it came.
    """

    def __init__(self, message: str, found: Comparison) -> None:
        super().__init__(message)
        self.found = found


@dataclass(frozen=True)
class Comparison:
    """What fine-tuning did to a model, on a user's own data.

    Attributes:
        base, finetuned: The two models. In frames they are called "base" and "finetuned"; "random change" is
            the base with a random change as large, weight by weight, as fine-tuning's.
        data: What they were shown.
        settings: How much was looked at.
        stages: Every stage there is, and what became of it.
        results: The analyses' own results by stage; ``mf.plot`` draws them, but for "loss", a table.
        moved_most: Where the answers moved most, in words. Columns: number (in the data), prompt,
            right_answer, base_answer, finetuned_answer, kl_from_base (nats), base_probability, probability
            (of the right answer).
        findings: What the numbers say.
        versions: Of the packages it was made with.
        control: The model that never had what the base can, if one was given.
    """

    base: ModelFacts
    finetuned: ModelFacts
    data: DataFacts
    settings: CompareSettings
    stages: tuple[StageRecord, ...]
    results: dict[str, Result] = field(repr=False)
    moved_most: pd.DataFrame = field(repr=False)
    findings: tuple[Finding, ...]
    versions: dict[str, str] = field(repr=False)
    control: ModelFacts | None = None

    @property
    def skipped(self) -> dict[str, str]:
        """Stages that gave no result, and why."""
        return {stage.name: stage.reason for stage in self.stages if stage.state != "done"}

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended it before all stages had run."""
        return any(stage.state == "interrupted" for stage in self.stages)

    @property
    def frames(self) -> dict[str, pd.DataFrame]:
        """All tables by name: each stage's, those beside it, and where answers moved most."""
        found = {
            key: f for name, r in self.results.items() for key, f in frames_of(name, r).items()
        }
        return found | ({"moved_most": self.moved_most} if len(self.moved_most) else {})

    def stage(self, name: str) -> StageRecord:
        """What became of one stage."""
        return next(stage for stage in self.stages if stage.name == name)

    def to_dict(self) -> dict[str, Any]:
        """The content of results.json, but for the tables: plain JSON values."""
        return {
            "base": asdict(self.base),
            "finetuned": asdict(self.finetuned),
            "data": asdict(self.data),
            "settings": asdict(self.settings),
            "stages": [asdict(stage) for stage in self.stages],
            "findings": [finding.to_dict() for finding in self.findings],
            "versions": self.versions,
            "control": None if self.control is None else asdict(self.control),
        }

    def save(self, folder: str | Path) -> Path:
        """Write a CSV file a table and results.json, all in one step.

        Args:
            folder: Made if missing. An earlier comparison there is replaced.

        Returns:
            The folder.

        Raises:
            OutputExistsError: If the folder holds anything that no comparison wrote; it is left as it is.
        """
        from mechft.experiments.compare.files import save_comparison

        return save_comparison(self, Path(folder))

    def __str__(self) -> str:
        lines = [f"{self.base.name} → {self.finetuned.name}, {self._shown()}"]
        lines += [f"  {finding.stage}: {finding.text}" for finding in self.findings]
        names: dict[str, list[str]] = {}
        for name, reason in self.skipped.items():
            names.setdefault(reason, []).append(name)
        lines += [f"  {', '.join(those)}: left out. {reason}" for reason, those in names.items()]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(f.stage)}</td><td style='text-align:left'>{html.escape(f.text)}<br>"
            f"<small>{html.escape(f.caution)}</small></td></tr>"
            for f in self.findings
        )
        left = ", ".join(self.skipped)
        return (
            f"<p><b>{html.escape(self.base.name)} → {html.escape(self.finetuned.name)}</b>, "
            f"{html.escape(self._shown())}</p><table>{rows}</table>"
            + (f"<p>Left out (see <code>.skipped</code>): {html.escape(left)}</p>" if left else "")
        )

    def _shown(self) -> str:
        of = "prompts with answers" if self.data.kind == "answers" else "windows of text"
        return f"{self.data.rows:,} {of}"
