"""The folder that keeps finished jobs: what lies where, what is there, and who may touch it.

entries/KIND/KEY/   a finished job: its files and entry.json; comes into being by one rename
work/KEY/           a job being done, with the checkpoints it goes on from
locks/KEY.lock      held by the process that does it; the system frees it when the process dies
quarantine/         entries that were found damaged
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from mechft.errors import OutputExistsError, unknown_name
from mechft.experiments.store.entry import DamagedEntryError, Entry, read_entry
from mechft.experiments.store.job import Job
from mechft.files import write_text

STORE_FILE = "store.json"
_FORMAT = {"mechft store": 1}


class StoreFolder:
    """A folder of finished jobs.

    Args:
        root: The folder; made if missing.

    Raises:
        OutputExistsError: If the folder holds something else; it is left as it is.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).absolute()  # workers may have another working folder
        path = self.root / STORE_FILE
        try:
            if not path.exists() and self.root.exists() and not self._empty():
                raise OutputExistsError(
                    f"{self.root} is not empty and holds no store of ours ({STORE_FILE} is missing). It "
                    "was left as it is. Choose another folder."
                )
            self.root.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                write_text(path, json.dumps(_FORMAT) + "\n", sync=True, shared=True)
            found = json.loads(path.read_text())
        except (FileExistsError, NotADirectoryError) as error:
            if isinstance(error, OutputExistsError):
                raise
            raise OutputExistsError(
                f"{self.root} cannot be a folder: a file is in its place ({error}). Choose another."
            ) from error
        except json.JSONDecodeError:
            found = path.read_text()
        if found != _FORMAT:
            raise OutputExistsError(
                f"{self.root} is a store of another format ({found}); this version reads "
                f"{json.dumps(_FORMAT)}. Choose another folder."
            )

    def _empty(self) -> bool:
        """Whether nothing is there but what another process that makes this store has written by now."""
        others = [path for path in self.root.iterdir() if STORE_FILE not in path.name]
        return not others or (self.root / STORE_FILE).exists()

    def entries(self) -> list[Entry]:
        """Every finished job, by kind and oldest first; damaged ones are left out with a warning."""
        found = []
        for folder in sorted((self.root / "entries").glob("*/*")):
            if folder.name.startswith("."):  # being removed
                continue
            try:
                found.append(read_entry(folder))
            except DamagedEntryError as error:
                warnings.warn(f"Damaged: {error}", stacklevel=2)
        return sorted(found, key=lambda entry: (entry.kind, entry.description["made"]["time"]))

    def unfinished(self) -> list[str]:
        """Keys of jobs that were begun and not finished."""
        return sorted(path.name for path in (self.root / "work").glob("*"))

    def entry(self, key: str) -> Entry:
        """A finished job by its key or the beginning of it.

        Raises:
            UnknownNameError: If none or several begin so.
        """
        entries = self.entries()
        found = [entry for entry in entries if key and entry.key.startswith(key)]
        if len(found) != 1:
            raise unknown_name("run", key, [entry.key for entry in (found or entries)])
        return found[0]

    def remove_unfinished(self, key: str) -> bool:
        """Remove what an unfinished job left; False if a process is doing it right now."""
        with self._lock(key) as held:
            if held:
                shutil.rmtree(self.root / "work" / key, ignore_errors=True)
            return held

    def _work(self, job: Job) -> Path:
        """Where a job is done."""
        return self.root / "work" / job.key

    def _folder(self, kind: str, key: str) -> Path:
        return self.root / "entries" / kind / key

    def _put_aside(self, folder: Path, job: Job, why: str) -> None:
        """Move a damaged folder into quarantine; the job's lock is held."""
        place = self.root / "quarantine"
        place.mkdir(exist_ok=True)
        taken = (place / f"{job.kind.name}-{job.key}-{number}" for number in count())
        target = next(path for path in taken if not path.exists())
        folder.replace(target)
        warnings.warn(
            f"A damaged run was moved to {target} and will be done again: {why}", stacklevel=5
        )

    @contextmanager
    def _lock(self, key: str) -> Iterator[bool]:
        """Hold a job's lock; yields False at once if another process or thread holds it."""
        from filelock import FileLock, Timeout

        (self.root / "locks").mkdir(exist_ok=True)
        lock = FileLock(self.root / "locks" / f"{key}.lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()
