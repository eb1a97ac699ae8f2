"""What a finished job left: its files, their hashes, and how they were made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mechft.errors import CheckpointError, unknown_name

if TYPE_CHECKING:
    import pandas as pd

ENTRY_FILE = "entry.json"
_FIELDS = {"key", "kind", "version", "settings", "needs", "files", "made"}


class DamagedEntryError(CheckpointError):
    """An entry of the store is not what was written: a file is missing, cut off or changed."""


@dataclass(frozen=True)
class Entry:
    """A finished job in the store.

    Attributes:
        folder: Where its files are.
        description: The content of entry.json: key, kind, version, settings, needs (keys by name), files
            (SHA-256 and bytes by name), made (time, seconds, threads, versions), and failed, the
            reason if it could not be done.
    """

    folder: Path
    description: dict[str, Any]

    @property
    def key(self) -> str:
        """The job's key."""
        return str(self.description["key"])

    @property
    def kind(self) -> str:
        """The name of its kind."""
        return str(self.description["kind"])

    @property
    def settings(self) -> dict[str, Any]:
        """The job's settings."""
        found: dict[str, Any] = self.description["settings"]
        return found

    @property
    def failed(self) -> str | None:
        """Why it could not be done; None if it was."""
        return self.description.get("failed")

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(int(file["bytes"]) for file in self.description["files"].values())

    def file(self, name: str) -> Path:
        """One of its files.

        Raises:
            UnknownNameError: If there is no such file; lists those there are.
        """
        if name not in self.description["files"]:
            raise unknown_name(f"file of {self.kind} {self.key}", name, self.description["files"])
        return self.folder / name

    def frame(self, name: str) -> pd.DataFrame:
        """One of its tables, by the name of its CSV file without the ending."""
        import pandas as pd

        return pd.read_csv(self.file(f"{name}.csv"))

    def check(self) -> None:
        """Compare every file with its hash.

        Raises:
            DamagedEntryError: Naming the file and what is wrong with it.

        Cost: reading the files; a tiny model's takes some milliseconds.
        """
        for name, expected in self.description["files"].items():
            path = self.folder / name
            if not path.is_file():
                raise DamagedEntryError(f"{path} is missing.")
            if (size := path.stat().st_size) != expected["bytes"]:
                raise DamagedEntryError(
                    f"{path} has {size} bytes, and was written with {expected['bytes']}."
                )
            if file_hash(path) != expected["sha256"]:
                raise DamagedEntryError(f"{path} is not what was written: its SHA-256 differs.")


def read_entry(folder: Path) -> Entry:
    """The entry in a folder, its files not yet compared with their hashes.

    Raises:
        DamagedEntryError: If entry.json is missing, cut off, or of something else.
    """
    path = folder / ENTRY_FILE
    try:
        description = json.loads(path.read_text())
    except FileNotFoundError:
        raise DamagedEntryError(f"{path} is missing.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DamagedEntryError(f"{path} is cut off or no JSON ({error}).") from None
    if not isinstance(description, dict) or not description.keys() >= _FIELDS:
        raise DamagedEntryError(f"{path} lacks one of {', '.join(sorted(_FIELDS))}.")
    tables = [description[name] for name in ("settings", "needs", "files", "made")]
    if (
        not all(isinstance(table, dict) for table in tables)
        or not all({"sha256", "bytes"} <= set(file) for file in description["files"].values())
        or not {"time", "seconds"} <= description["made"].keys()
    ):
        raise DamagedEntryError(f"{path} says nothing whole of settings, files or making.")
    return Entry(folder, description)


def describe_files(folder: Path, scratch: frozenset[str]) -> dict[str, dict[str, Any]]:
    """Hash and size of every file in a folder, by its path there; all but scratch and dot files."""
    return {
        str(path.relative_to(folder)): {"sha256": file_hash(path), "bytes": path.stat().st_size}
        for path in _files(folder)
        if path.name not in scratch and path.name != ENTRY_FILE and not path.name.startswith(".")
    }


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
