"""A comparison on disk: a CSV file a table, results.json for the rest; written in one step, and read back."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from mechft.errors import CheckpointError, OutputExistsError
from mechft.experiments.compare.config import CompareSettings
from mechft.experiments.compare.findings import Finding
from mechft.experiments.compare.result import Comparison, DataFacts, ModelFacts, StageRecord
from mechft.experiments.compare.tables import result_of

RESULT_FILE = "results.json"
REPORT_FILE = "report.html"
_KIND = "comparison"


def save_comparison(comparison: Comparison, folder: Path) -> Path:
    """Write a comparison to a folder in one step; as ``Comparison.save``."""
    check_folder(folder)
    frames = comparison.frames
    content = {"mechft": _KIND, **comparison.to_dict(), "tables": sorted(frames)}
    content["kinds"] = {name: type(result).__name__ for name, result in comparison.results.items()}
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = folder.with_name(f".{folder.name}.{os.getpid()}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    try:
        for name, frame in frames.items():
            frame.to_csv(fresh / f"{name}.csv", index=False, float_format="%.8g")
        (fresh / RESULT_FILE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        _put(fresh, folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


def check_folder(folder: Path) -> None:
    """Raise OutputExistsError if a folder holds anything but an earlier comparison."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    found = _content(folder)
    if found.get("mechft") != _KIND:
        raise OutputExistsError(
            f"{folder} exists and holds no comparison ({RESULT_FILE} of one is missing). It was left as it "
            "is. Choose another folder."
        )
    ours = {RESULT_FILE, REPORT_FILE, *(f"{name}.csv" for name in found["tables"])}
    foreign = sorted(path.name for path in folder.iterdir() if path.name not in ours)
    if foreign:
        raise OutputExistsError(
            f"{folder} holds a comparison and other things ({', '.join(foreign[:5])}), which replacing it "
            "would remove. It was left as it is. Move them, or choose another folder."
        )


def read_comparison(folder: str | Path) -> Comparison:
    """A comparison that was saved, for its figures and its report.

    Tensors are not saved: ``directions`` of the activations and ``best`` of the patching are missing.

    Raises:
        CheckpointError: If the folder holds none, or a table of it is missing.
    """
    import pandas as pd

    folder = Path(folder)
    try:
        found = json.loads((folder / RESULT_FILE).read_text(encoding="utf-8"))
        settings = found["settings"]
        tables = {name: pd.read_csv(folder / f"{name}.csv") for name in found["tables"]}
        return Comparison(
            ModelFacts(**found["base"]),
            ModelFacts(**found["finetuned"]),
            DataFacts(**found["data"]),
            CompareSettings(**{**settings, "stages": tuple(settings["stages"])}),
            tuple(StageRecord(**stage) for stage in found["stages"]),
            {name: result_of(name, kind, tables) for name, kind in found["kinds"].items()},
            tables.get("moved_most", pd.DataFrame()),
            tuple(Finding(**finding) for finding in found["findings"]),
            found["versions"],
            ModelFacts(**found["control"]) if found.get("control") else None,
        )
    except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise CheckpointError(
            f"{folder} holds no comparison ({type(error).__name__}: {error}). Give the folder that mechft "
            f"diff or Comparison.save wrote, with {RESULT_FILE} and the CSV files."
        ) from error


def is_comparison(folder: str | Path) -> bool:
    """Whether a folder holds a saved comparison."""
    return _content(Path(folder)).get("mechft") == _KIND


def _content(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / RESULT_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _put(fresh: Path, folder: Path) -> None:
    """Move a folder to where an earlier one may be, which is gone after it."""
    earlier = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    if folder.exists():
        folder.rename(earlier)
    fresh.rename(folder)
    shutil.rmtree(earlier, ignore_errors=True)
