"""Files written whole or not at all: under another name first, then put in place by one rename."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path, *, sync: bool = False, shared: bool = False) -> Iterator[Path]:
    """A path to write to inside the block; what is there at its end becomes ``path``, in one step.

    A process killed at any moment leaves the old file or the new one, never half of one. If the block raises,
    the old file stays, and nothing is left beside it.

    Args:
        path: The file, which may exist; its folder does.
        sync: Wait until the content is on the disk before the old file goes, so that this holds for a machine
            that goes down, too.
        shared: Several processes may write this file at the same time; the last one's stays. Otherwise
            what a kill leaves has one name, and the next attempt writes over it.
    """
    own = f".{os.getpid()}" if shared else ""
    temporary = path.with_name(f".{path.name}{own}.tmp")
    try:
        yield temporary
        if sync:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str, *, sync: bool = False, shared: bool = False) -> Path:
    """Write a text file, in UTF-8 and with the line ends it has, replacing an earlier one in one step.

    Args:
        path: The file; its folder exists.
        text: Its content.
        sync, shared: As in ``replacing``.

    Returns:
        The path.
    """
    with replacing(path, sync=sync, shared=shared) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")
    return path
