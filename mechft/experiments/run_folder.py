"""An output folder that belongs to one run: continued by the same settings, refused to any other."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mechft.errors import OutputExistsError
from mechft.files import write_text

RUN_FILE = "run.json"


def claim_folder(folder: Path, settings: Mapping[str, Any]) -> bool:
    """Make ``folder`` this run's own.

    Args:
        folder: Made if missing.
        settings: JSON values that say what the run is, the package version among them.

    Returns:
        Whether a run with these settings was there already, to be continued.

    Raises:
        OutputExistsError: If the folder holds another run or anything else; it is left as it is.
    """
    path = folder / RUN_FILE
    if path.exists():
        try:
            found = json.loads(path.read_text())
        except json.JSONDecodeError:
            found = {}
        found = found if isinstance(found, dict) else {}
        if found == json.loads(json.dumps(settings)):
            return True
        changed = [
            f"{key} is {found.get(key)!r} there and {settings.get(key)!r} here"
            for key in sorted({*found, *settings})
            if found.get(key) != settings.get(key)
        ]
        raise OutputExistsError(
            f"{folder} holds another run: {'; '.join(changed)}. It was left as it is. Choose another "
            "folder with --out, or remove this one."
        )
    if folder.exists() and (
        not folder.is_dir() or any(not p.name.startswith(f".{RUN_FILE}.") for p in folder.iterdir())
    ):
        raise OutputExistsError(
            f"{folder} is not empty and holds no run of ours ({RUN_FILE} is missing). It was left as it "
            "is. Choose another folder with --out."
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(settings, indent=1) + "\n", shared=True)
    return False
