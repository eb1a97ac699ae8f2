"""Base models that ship with the package stand in for the same pretraining."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mechft.models.bundled import bundled_path, manifest

_ZOO = {"learning_rate": 1e-3, "batch_size": 96}  # ``mechft zoo build`` has no others


def copy_bundled(settings: Mapping[str, Any], target: Path) -> bool:
    """Copy the bundled model that was pretrained with these very settings, if there is one.

    Returns:
        Whether there was.
    """
    for name, entry in manifest().items():
        same = (
            entry["task"] == settings["task"]
            and entry.get("steps") == settings["steps"]
            and entry.get("seed") == settings["seed"]
            and all(settings[setting] == value for setting, value in _ZOO.items())
        )
        if same:
            temporary = target.with_name(f".{target.name}.tmp")
            shutil.copyfile(bundled_path(name), temporary)
            temporary.replace(target)
            return True
    return False
