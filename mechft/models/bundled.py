"""The models that ship inside the package, and the manifest that says how each was made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mechft.errors import CheckpointError, unknown_name

BUNDLE = Path(__file__).parent.parent / "zoo"
MANIFEST = BUNDLE / "manifest.json"


def manifest() -> dict[str, dict[str, Any]]:
    """For each bundled model: file, sha256, command, seed, config, accuracies and versions.

    Example:
        >>> import mechft as mf
        >>> mf.manifest()["pcfg-tiny-low"]["file"]
        'pcfg-tiny-low.safetensors'
        >>> "tracr-max" in mf.manifest()
        True
    """
    if not MANIFEST.is_file():
        return {}
    loaded: dict[str, dict[str, Any]] = json.loads(MANIFEST.read_text())
    return loaded


def bundled_path(name: str) -> Path:
    """The file of a bundled model.

    Raises:
        UnknownNameError: If there is no such model; lists those there are.
        CheckpointError: If the manifest names it but the file is missing.
    """
    known = manifest()
    if name not in known:
        raise unknown_name("bundled model (nor is there a file of that name)", name, known)
    path = BUNDLE / str(known[name]["file"])
    if not path.is_file():
        raise CheckpointError(
            f"The bundled model {name} is missing from {BUNDLE}; reinstall mechft."
        )
    return path
