"""What a study done as a sweep measured, and its files: a CSV a table, and results.json for the rest."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from mechft.errors import CheckpointError
from mechft.experiments.checks import Check
from mechft.experiments.sweep.config import SweepConfig
from mechft.files import write_text

if TYPE_CHECKING:
    import pandas as pd

RESULT_FILE = "results.json"
NOTES_FILE = "notes.json"

ConfigT = TypeVar("ConfigT", bound=SweepConfig)
ScaleT = TypeVar("ScaleT")


@dataclass(frozen=True)
class SweepResult(Generic[ConfigT, ScaleT]):
    """Tables of a study, tidy: one measured number a row, with the labels of its run.

    Attributes:
        config: What was run; its ``told`` is kept.
        scale: Sizes; a frozen dataclass of plain values.
        tables: By name.
        checks: The paper's claims and whether they hold.
        left_out: Runs that diverged, and those that needed them, in words.
        versions: Of the packages it was run with.
        notes: What somebody who looked found behind a claim's verdict, by the claim. Nothing is measured by
            them; they are read from notes.json beside the tables, if it is there, and never written.
    """

    config: ConfigT
    scale: ScaleT
    tables: dict[str, pd.DataFrame]
    checks: tuple[Check, ...]
    left_out: tuple[str, ...]
    versions: dict[str, str]
    notes: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The content of results.json: plain JSON values."""
        scale: Any = self.scale
        return {
            "reproduce": self.config.name,
            "config": self.config.told,
            "scale": asdict(scale),
            "tables": sorted(self.tables),
            "claims": [check.to_dict() for check in self.checks],
            "left_out": list(self.left_out),
            "versions": self.versions,
        }

    def save(self) -> Path:
        """Write a CSV file a table, claims.csv and results.json, each in one step; returns their folder."""
        import pandas as pd

        folder = self.config.results
        folder.mkdir(parents=True, exist_ok=True)
        claims = pd.DataFrame([check.to_dict() for check in self.checks])
        for name, frame in {**self.tables, "claims": claims}.items():
            text = frame.to_csv(index=False, float_format="%.6g")
            write_text(folder / f"{name}.csv", text, shared=True)
        text = json.dumps(self.to_dict(), indent=1) + "\n"
        write_text(folder / RESULT_FILE, text, shared=True)
        return folder


ResultT = TypeVar("ResultT", bound=SweepResult[Any, Any])


def read_saved(
    folder: str | Path,
    made: type[ResultT],
    config: Callable[..., SweepConfig],
    scale: Callable[..., Any],
    what: str,
) -> ResultT:
    """The result that was saved to a folder; nothing is trained.

    Args:
        folder: Where it is.
        made: Its class.
        config: Makes the config from the reproduction's name and, by name, what was told of it and ``out``.
        scale: Makes the sizes from their values by name.
        what: What the folder should hold results of, for the error.

    Raises:
        CheckpointError: If the folder holds no such result, a table of it is missing, or a note is on no
            claim of it.
    """
    import pandas as pd

    folder = Path(folder)
    try:
        found = json.loads((folder / RESULT_FILE).read_text())
        return made(
            config(found["reproduce"], **found["config"], out=folder),
            scale(**{name: _tuples(value) for name, value in found["scale"].items()}),
            {name: pd.read_csv(folder / f"{name}.csv") for name in found["tables"]},
            tuple(Check(c["claim"], c["evidence"], c["holds"]) for c in found["claims"]),
            tuple(found["left_out"]),
            found["versions"],
            _notes(folder / NOTES_FILE, [claim["claim"] for claim in found["claims"]]),
        )
    except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise CheckpointError(
            f"{folder} holds no results of {what} ({type(error).__name__}: {error}). Give the folder "
            f"with {RESULT_FILE} and the CSV files that mechft reproduce wrote."
        ) from error


def _notes(path: Path, claims: Sequence[str]) -> dict[str, str]:
    """Notes by claim; the file names each by how it begins."""
    written: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    notes = {}
    for beginning, note in written.items():
        meant = [claim for claim in claims if claim.startswith(beginning)]
        if len(meant) != 1:
            raise CheckpointError(
                f"A note of {path} is on the one claim that begins with its name; {beginning!r} begins "
                f"{len(meant)} of them. Give the claim's first words, as claims.csv has them."
            )
        notes[meant[0]] = note
    return notes


def reproduction_of(folder: str | Path) -> str:
    """The name of the reproduction whose results a folder holds; "" if it holds none."""
    try:
        found = json.loads((Path(folder) / RESULT_FILE).read_text())
    except (OSError, json.JSONDecodeError):
        return ""
    return str(found.get("reproduce", "")) if isinstance(found, dict) else ""


def _tuples(value: Any) -> Any:
    """Lists, as JSON has them, as tuples, as frozen settings have them; at every depth."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
