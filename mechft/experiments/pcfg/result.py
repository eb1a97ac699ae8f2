"""What a reproduction of the PCFG setup measured: tables, claims, and where it was run."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mechft.errors import CheckpointError
from mechft.experiments.checks import Check
from mechft.experiments.pcfg.config import STUDIES, StudyConfig, StudyScale

if TYPE_CHECKING:
    import pandas as pd

RESULT_FILE = "results.json"


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
        """The content of results.json: plain JSON values."""
        config = asdict(self.config)
        return {
            "reproduce": self.config.name,
            # How and where runs are done is not what they are.
            "config": {name: config[name] for name in ("preset", "seeds", "quick")},
            "scale": asdict(self.scale),
            "tables": sorted(self.tables),
            "claims": [check.to_dict() for check in self.checks],
            "left_out": list(self.left_out),
            "versions": self.versions,
        }

    def save(self) -> Path:
        """Write a CSV file per table, claims.csv and results.json; returns their folder."""
        import pandas as pd

        folder = self.config.results
        folder.mkdir(parents=True, exist_ok=True)
        claims = pd.DataFrame([check.to_dict() for check in self.checks])
        for name, frame in {**self.tables, "claims": claims}.items():
            _replace(folder / f"{name}.csv", frame.to_csv(index=False, float_format="%.6g"))
        _replace(folder / RESULT_FILE, json.dumps(self.to_dict(), indent=1) + "\n")
        return folder


def read_result(folder: str | Path) -> StudyResult:
    """The result that was saved to a folder, for its report and figures: nothing is trained.

    Raises:
        CheckpointError: If the folder holds no such result, or a table of it is missing.
    """
    import pandas as pd

    folder = Path(folder)
    try:
        found = json.loads((folder / RESULT_FILE).read_text())
        made = STUDIES[found["reproduce"]]
        tables = {name: pd.read_csv(folder / f"{name}.csv") for name in found["tables"]}
    except (OSError, KeyError, json.JSONDecodeError) as error:
        raise CheckpointError(
            f"{folder} holds no results of a PCFG study ({type(error).__name__}: {error}). Give the folder "
            f"with {RESULT_FILE} and the CSV files that mechft reproduce wrote."
        ) from error
    known = {field.name for field in fields(Check)}
    checks = tuple(Check(**{k: v for k, v in c.items() if k in known}) for c in found["claims"])
    return StudyResult(
        made(**found["config"], out=folder),
        StudyScale(**{name: _tuples(value) for name, value in found["scale"].items()}),
        tables,
        checks,
        tuple(found["left_out"]),
        found["versions"],
    )


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text)
    temporary.replace(path)
