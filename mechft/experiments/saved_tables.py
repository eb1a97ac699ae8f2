"""A study's results as files: a CSV a table, and results.json for the rest."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mechft.errors import CheckpointError
from mechft.experiments.checks import Check

if TYPE_CHECKING:
    import pandas as pd

RESULT_FILE = "results.json"


def save_tables(
    folder: Path,
    description: Mapping[str, Any],
    tables: Mapping[str, pd.DataFrame],
    checks: Iterable[Check],
) -> Path:
    """Write a CSV file a table, claims.csv and results.json; returns their folder.

    Args:
        folder: Where to; made if missing. Each file is replaced in one step.
        description: JSON values; names of tables and the claims are added.
        tables: By name.
        checks: The claims.
    """
    import pandas as pd

    folder.mkdir(parents=True, exist_ok=True)
    judged = [check.to_dict() for check in checks]
    for name, frame in {**tables, "claims": pd.DataFrame(judged)}.items():
        _replace(folder / f"{name}.csv", frame.to_csv(index=False, float_format="%.6g"))
    content = {**description, "tables": sorted(tables), "claims": judged}
    _replace(folder / RESULT_FILE, json.dumps(content, indent=1) + "\n")
    return folder


def reproduction_of(folder: Path) -> str:
    """The name of the reproduction whose results a folder holds; "" if it holds none."""
    try:
        found = json.loads((folder / RESULT_FILE).read_text())
    except (OSError, json.JSONDecodeError):
        return ""
    return str(found.get("reproduce", "")) if isinstance(found, dict) else ""


def read_tables(
    folder: Path, what: str
) -> tuple[dict[str, Any], dict[str, pd.DataFrame], tuple[Check, ...]]:
    """What ``save_tables`` wrote: description, tables, claims.

    Raises:
        CheckpointError: If the folder holds no such thing, or a table of it is missing; says that it was to
            hold ``what``.
    """
    import pandas as pd

    try:
        found: dict[str, Any] = json.loads((folder / RESULT_FILE).read_text())
        tables = {name: pd.read_csv(folder / f"{name}.csv") for name in found["tables"]}
        checks = tuple(
            Check(check["claim"], check["evidence"], check["holds"]) for check in found["claims"]
        )
    except (OSError, KeyError, json.JSONDecodeError) as error:
        raise CheckpointError(
            f"{folder} holds no results of {what} ({type(error).__name__}: {error}). Give the folder "
            f"with {RESULT_FILE} and the CSV files that mechft reproduce wrote."
        ) from error
    return found, tables, checks


def tuples(value: Any) -> Any:
    """Lists, as JSON has them, as tuples, as frozen settings have them; at every depth."""
    return tuple(map(tuples, value)) if isinstance(value, list) else value


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text)
    temporary.replace(path)
