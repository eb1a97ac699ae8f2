"""What a reproduction of the PCFG setup measured: tables, claims, and where it was run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mechft.errors import CheckpointError
from mechft.experiments.checks import Check
from mechft.experiments.pcfg.config import STUDIES, StudyConfig, StudyScale
from mechft.experiments.saved_tables import RESULT_FILE, read_tables, save_tables, tuples

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class StudyResult:
    """Tables of a study, tidy: one measured number a row, with the labels of its run.

    Labels are prior, rate ("" for base models and controls), c_tr, seed; and stage, kind, reverse_rate,
    share, pretraining_steps, token where a table has them.

    Attributes:
        config, scale: What was run.
        tables: By name: those of ``mechft.experiments.pcfg.parts``.
        checks: The paper's claims and whether they hold.
        left_out: Runs that diverged, and those that needed them, in words.
        versions: Of the packages it was run with.
    """

    config: StudyConfig
    scale: StudyScale
    tables: dict[str, pd.DataFrame]
    checks: tuple[Check, ...]
    left_out: tuple[str, ...]
    versions: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """What results.json says beside tables and claims: plain JSON values."""
        config = asdict(self.config)
        return {
            "reproduce": self.config.name,
            # How and where runs are done is not what they are.
            "config": {name: config[name] for name in ("preset", "seeds", "quick")},
            "scale": asdict(self.scale),
            "left_out": list(self.left_out),
            "versions": self.versions,
        }

    def save(self) -> Path:
        """Write a CSV file per table, claims.csv and results.json; returns their folder."""
        return save_tables(self.config.results, self.to_dict(), self.tables, self.checks)


def read_result(folder: str | Path) -> StudyResult:
    """The result that was saved to a folder, for its report and figures: nothing is trained.

    Raises:
        CheckpointError: If the folder holds no such result, or a table of it is missing.
    """
    folder = Path(folder)
    found, tables, checks = read_tables(folder, "a PCFG study")
    try:
        config = STUDIES[found["reproduce"]](**found["config"], out=folder)
        scale = StudyScale(**{name: tuples(value) for name, value in found["scale"].items()})
        left_out, versions = tuple(found["left_out"]), found["versions"]
    except (KeyError, TypeError) as error:
        raise CheckpointError(
            f"{folder / RESULT_FILE} holds no results of a PCFG study ({type(error).__name__}: {error}). "
            "Give the folder that mechft reproduce wrote."
        ) from error
    return StudyResult(config, scale, tables, checks, left_out, versions)
