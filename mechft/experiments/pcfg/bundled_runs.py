"""Base models that ship with the package stand in for the same pretraining."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mechft.files import replacing
from mechft.models.build import preset
from mechft.models.bundled import bundled_path, manifest

_ZOO = {
    "learning_rate": 1e-3,
    "batch_size": 96,
    "evaluation_rows": 500,
}  # ``mechft zoo build`` has no others


def bundled_for(settings: Mapping[str, Any]) -> str:
    """The name of the bundled model that was pretrained with these very settings; "" if there is none."""
    settings = json.loads(json.dumps(settings))  # tuples as the manifest has them: lists
    shape = settings["model"]
    if shape != asdict(preset("tiny", shape["d_vocab"], shape["n_ctx"])):
        return ""
    for name, entry in manifest().items():
        if (
            entry["task"] == settings["task"]
            and entry.get("steps") == settings["steps"]
            and entry.get("seed") == settings["seed"]
            and all(settings[setting] == value for setting, value in _ZOO.items())
        ):
            return name
    return ""


def copy_bundled(name: str, target: Path) -> None:
    """Copy a bundled model's file; whole or not at all."""
    with replacing(target) as temporary:
        shutil.copyfile(bundled_path(name), temporary)
