"""A folder of finished jobs: each done once, whoever asks, and never half there.

entries/KIND/KEY/   a finished job: its files and entry.json; comes into being by one rename
work/KEY/           a job being done, with the checkpoints it goes on from
locks/KEY.lock      held by the process that does it; the system frees it when the process dies
quarantine/         entries that were found damaged
"""

from __future__ import annotations

import json
import os
import shutil
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from mechft.errors import ConfigError, OutputExistsError, unknown_name
from mechft.experiments.store.entry import (
    ENTRY_FILE,
    DamagedEntryError,
    Entry,
    describe_files,
    read_entry,
)
from mechft.experiments.store.job import Job, WorkFailedError

STORE_FILE = "store.json"
_FORMAT = {"mechft store": 1}
SCRATCH = frozenset({"checkpoint.safetensors"})
"""Files of an unfinished job that are of no use once it is finished."""


class Store:
    """Finished jobs by their content.

    Any number of processes, on one machine or on several with a common file system, may share one.

    Args:
        root: The folder; made if missing.

    Raises:
        OutputExistsError: If the folder holds something else; it is left as it is.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self._checked: set[str] = set()
        path = self.root / STORE_FILE
        if not path.exists():
            if self.root.exists() and any(
                not child.name.startswith(f".{STORE_FILE}") for child in self.root.iterdir()
            ):
                raise OutputExistsError(
                    f"{self.root} is not empty and holds no store of ours ({STORE_FILE} is missing). It "
                    "was left as it is. Choose another folder."
                )
            self.root.mkdir(parents=True, exist_ok=True)
            _write(path, json.dumps(_FORMAT) + "\n")
        elif json.loads(path.read_text()) != _FORMAT:
            raise OutputExistsError(
                f"{self.root} is a store of another format ({path.read_text().strip()}); this version "
                f"reads {json.dumps(_FORMAT)}. Choose another folder."
            )

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root, "_checked": set()}

    def find(self, job: Job) -> Entry | None:
        """What came of a job, its files compared with their hashes; None if it is not done.

        A damaged entry is put into quarantine with a warning, and counts as not done.

        Cost: reading the files, the first time in this object's life.
        """
        folder = self._folder(job.kind.name, job.key)
        if not folder.exists():
            return None
        try:
            entry = read_entry(folder)
            if job.key not in self._checked:
                entry.check()
        except DamagedEntryError as error:
            self._quarantine(folder, str(error))
            return None
        self._checked.add(job.key)
        return entry

    def do(self, job: Job, threads: int | None = None) -> Entry | None:
        """Do a job unless it is done; goes on where a killed process left it.

        Args:
            job: What to do; what it needs must be done.
            threads: Torch's threads meanwhile; None leaves them as they are. The bits of a training
                depend on them.

        Returns:
            What came of it; None if another process is doing it right now.

        Raises:
            ConfigError: If something it needs is not there or could not be done.
            Exception: Whatever the work raises; what it wrote stays, to go on from.
        """
        with self._lock(job.key) as held:
            if not held:
                return None
            if (entry := self.find(job)) is not None:
                return entry
            return self._do(job, threads)

    def do_together(
        self, jobs: Sequence[Job], threads: int | None = None
    ) -> dict[Job, Entry | None]:
        """Do jobs of one kind and group as one piece of work; nothing of it is kept before its end.

        Args:
            jobs: What to do.
            threads: As in ``do``.

        Returns:
            What came of each; None for those another process is doing right now.

        Raises:
            As ``do``.
        """
        with ExitStack() as stack:
            held = {job: stack.enter_context(self._lock(job.key)) for job in jobs}
            found = {job: self.find(job) if mine else None for job, mine in held.items()}
            todo = [job for job, mine in held.items() if mine and found[job] is None]
            for job in list(todo):
                if (self.root / "work" / job.key).exists():  # begun alone: it goes on alone
                    found[job] = self._do(job, threads)
                    todo.remove(job)
            if todo:
                found |= self._do_together(todo, threads)
            return found

    def _do_together(self, jobs: list[Job], threads: int | None) -> dict[Job, Entry]:
        parts = [(job.settings, self._needs(job), self.root / "work" / job.key) for job in jobs]
        for _, _, folder in parts:
            folder.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        with _torch_threads(threads):
            failed = jobs[0].kind.function_together()(parts)
            made = _how_made((time.monotonic() - began) / len(jobs))
        made["together with"] = len(jobs) - 1
        return {
            job: self._finish(job, folder, reason, made)
            for job, (_, _, folder), reason in zip(jobs, parts, failed, strict=True)
        }

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

    def remove(self, entry: Entry) -> None:
        """Remove a finished job.

        Raises:
            OutputExistsError: If a process is working with it.
        """
        with self._lock(entry.key) as held:
            if not held:
                raise OutputExistsError(f"{entry.folder} is in use and was left as it is.")
            _remove_whole(entry.folder)
            self._checked.discard(entry.key)

    def remove_unfinished(self, key: str) -> bool:
        """Remove what an unfinished job left; False if a process is doing it right now."""
        with self._lock(key) as held:
            if held:
                shutil.rmtree(self.root / "work" / key, ignore_errors=True)
            return held

    def _do(self, job: Job, threads: int | None) -> Entry:
        folder = self.root / "work" / job.key
        if (folder / ENTRY_FILE).exists():  # killed between that and the rename
            return self._finish(job, folder)
        needs = self._needs(job)
        folder.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        failed = None
        with _torch_threads(threads):
            try:
                job.kind.function()(job.settings, needs, folder)
            except WorkFailedError as error:
                failed = str(error)
            made = _how_made(time.monotonic() - began)
        return self._finish(job, folder, failed, made)

    def _needs(self, job: Job) -> dict[str, Path]:
        """The folders of what a job needs."""
        found = {}
        for name, need in job.needs.items():
            entry = self.find(need)
            if entry is None or entry.failed is not None:
                raise ConfigError(f"{job} needs {need} ({name}), which is not done. Do it first.")
            found[name] = entry.folder
        return found

    def _finish(
        self,
        job: Job,
        folder: Path,
        failed: str | None = None,
        made: dict[str, Any] | None = None,
    ) -> Entry:
        """Describe a job's files, and make them an entry by one rename."""
        if made is not None:
            description = {
                "key": job.key,
                "kind": job.kind.name,
                "version": job.kind.version,
                "settings": job.settings,
                "needs": {name: need.key for name, need in job.needs.items()},
                "failed": failed,
                "files": describe_files(folder, SCRATCH),
                "made": made,
            }
            _write(folder / ENTRY_FILE, json.dumps(description, indent=1) + "\n")
        for name in SCRATCH:
            (folder / name).unlink(missing_ok=True)
        target = self._folder(job.kind.name, job.key)
        target.parent.mkdir(parents=True, exist_ok=True)
        folder.replace(target)
        self._checked.add(job.key)
        return read_entry(target)

    def _folder(self, kind: str, key: str) -> Path:
        return self.root / "entries" / kind / key

    def _quarantine(self, folder: Path, why: str) -> None:
        place = self.root / "quarantine"
        place.mkdir(exist_ok=True)
        for number in range(1000):
            target = place / f"{folder.parent.name}-{folder.name}-{number}"
            if not target.exists():
                break
        try:
            folder.replace(target)
        except FileNotFoundError:  # another process was faster
            return
        warnings.warn(
            f"A damaged run was moved to {target} and will be done again: {why}", stacklevel=4
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


@contextmanager
def _torch_threads(threads: int | None) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    if threads is not None and threads != before:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)


def _how_made(seconds: float) -> dict[str, Any]:
    import torch

    from mechft.training.trained import package_versions

    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    threads = torch.get_num_threads()
    return {"time": now, "seconds": seconds, "threads": threads, "versions": package_versions()}


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text)
    temporary.replace(path)


def _remove_whole(folder: Path) -> None:
    """Remove a folder so that no process ever sees a part of it."""
    aside = folder.with_name(f".{folder.name}.removed")
    shutil.rmtree(aside, ignore_errors=True)
    folder.replace(aside)
    shutil.rmtree(aside)
