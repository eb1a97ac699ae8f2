"""Jobs done once, whoever asks, and kept whole: the store."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mechft.errors import CheckpointError, OutputExistsError
from mechft.experiments.store.entry import (
    ENTRY_FILE,
    DamagedEntryError,
    Entry,
    describe_files,
    read_entry,
)
from mechft.experiments.store.folder import StoreFolder
from mechft.experiments.store.job import Job, NeedMissingError, WorkFailedError
from mechft.experiments.store.making import how_made, torch_threads
from mechft.files import write_text

SCRATCH = frozenset({"checkpoint.safetensors"})
"""Files of an unfinished job that are of no use once it is finished."""


class Store(StoreFolder):
    """Finished jobs by their content.

    Any number of processes, on one machine or on several with a common file system, may share one.

    Args:
        root: The folder; made if missing.

    Raises:
        OutputExistsError: If the folder holds something else; it is left as it is.
    """

    def __init__(self, root: str | Path) -> None:
        super().__init__(root)
        self._checked: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root, "_checked": set()}

    def find(self, job: Job) -> Entry | None:
        """What came of a job, its files compared with their hashes; None if it is not done.

        A damaged entry is put into quarantine with a warning, and counts as not done.

        Cost: reading the files, the first time in this object's life.
        """
        try:
            return self._found(job)
        except DamagedEntryError:
            with self._lock(job.key) as held:
                return self._found_or_aside(job) if held else None

    def _found(self, job: Job) -> Entry | None:
        folder = self._folder(job.kind.name, job.key)
        if not folder.exists():
            return None
        entry = read_entry(folder)
        if (entry.key, entry.kind) != (job.key, job.kind.name):
            raise DamagedEntryError(f"{folder} holds {entry.kind} {entry.key}, not {job}.")
        if job.key not in self._checked:
            entry.check()
            self._checked.add(job.key)
        return entry

    def _found_or_aside(self, job: Job) -> Entry | None:
        """The same under the job's lock: nobody can have put a good entry there meanwhile."""
        try:
            return self._found(job)
        except DamagedEntryError as error:
            self._put_aside(self._folder(job.kind.name, job.key), job, str(error))
            return None

    def do(self, job: Job, threads: int | None = None) -> Entry | None:
        """Do a job unless it is done; goes on where a killed process left it.

        Args:
            job: What to do; what it needs must be done.
            threads: Torch's threads meanwhile; None leaves them as they are. The bits of a training
                depend on them.

        Returns:
            What came of it; None if another process is doing it right now.

        Raises:
            NeedMissingError: If something it needs is not there or could not be done.
            Exception: Whatever the work raises; what it wrote stays, to go on from.
        """
        with self._lock(job.key) as held:
            if not held:
                return None
            return self._found_or_aside(job) or self._do(job, threads)

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
            held = [job for job in jobs if stack.enter_context(self._lock(job.key))]
            found: dict[Job, Entry | None] = dict.fromkeys(jobs)
            found |= {job: self._found_or_aside(job) for job in held}
            for job in held:  # what was begun alone goes on alone
                if found[job] is None and self._begun(job):
                    found[job] = self._do(job, threads)
            if todo := [job for job in held if found[job] is None]:
                found |= self._do_together(todo, threads)
            return found

    def _do_together(self, jobs: list[Job], threads: int | None) -> dict[Job, Entry]:
        parts = [(job.settings, self._needs(job), self._fresh_work(job)) for job in jobs]
        began = time.monotonic()
        with torch_threads(threads):
            failed = jobs[0].kind.function_together()(parts)
            made = how_made((time.monotonic() - began) / len(jobs))
        made["together with"] = len(jobs) - 1
        return {
            job: self._finish(job, reason, made) for job, reason in zip(jobs, failed, strict=True)
        }

    def remove(self, entry: Entry) -> None:
        """Remove a finished job.

        Raises:
            OutputExistsError: If a process is making it right now. (One that reads it is not noticed.)
        """
        with self._lock(entry.key) as held:
            if not held:
                raise OutputExistsError(f"{entry.folder} is in use and was left as it is.")
            if entry.folder.exists():
                _remove_whole(entry.folder)
            self._checked.discard(entry.key)

    def _do(self, job: Job, threads: int | None) -> Entry:
        if self._described(job):  # killed between its description and the rename
            return self._finish(job)
        needs = self._needs(job)
        began = time.monotonic()
        with torch_threads(threads):
            try:
                failed = _try(job, needs, self._fresh_work(job))
            except (CheckpointError, OutputExistsError) as error:
                # What an earlier attempt left is of no use: damaged, or of code that did it otherwise.
                if not self._begun(job):
                    raise
                self._put_aside(self._work(job), job, str(error))
                failed = _try(job, needs, self._fresh_work(job))
            made = how_made(time.monotonic() - began)
        return self._finish(job, failed, made)

    def _begun(self, job: Job) -> bool:
        """Whether there is a checkpoint to go on from."""
        return any((self._work(job) / name).exists() for name in SCRATCH)

    def _fresh_work(self, job: Job) -> Path:
        """The folder to do a job in: emptied, unless there is a checkpoint to go on from."""
        folder = self._work(job)
        if not self._begun(job):
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _described(self, job: Job) -> bool:
        """Whether the folder holds a finished job that only has to be moved."""
        folder = self._work(job)
        if not (folder / ENTRY_FILE).exists():
            return False
        try:
            read_entry(folder).check()
        except DamagedEntryError:  # the machine went down before all of it was on the disk
            (folder / ENTRY_FILE).unlink()
            return False
        return True

    def _needs(self, job: Job) -> dict[str, Path]:
        """The folders of what a job needs."""
        found = {}
        for name, need in job.needs.items():
            entry = self.find(need)
            if entry is None or entry.failed is not None:
                raise NeedMissingError(
                    f"{job} needs {need} ({name}), which is not done. Do it first."
                )
            found[name] = entry.folder
        return found

    def _finish(
        self, job: Job, failed: str | None = None, made: dict[str, Any] | None = None
    ) -> Entry:
        """Describe a job's files, and make them an entry by one rename."""
        folder = self._work(job)
        if made is not None:
            for path in folder.rglob(".*.tmp"):  # of writes that were killed
                path.unlink()
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
            text = json.dumps(description, indent=1) + "\n"
            write_text(folder / ENTRY_FILE, text, sync=True, shared=True)
        for name in SCRATCH:
            (folder / name).unlink(missing_ok=True)
        target = self._folder(job.kind.name, job.key)
        target.parent.mkdir(parents=True, exist_ok=True)
        folder.replace(target)
        self._checked.add(job.key)
        return read_entry(target)


def _try(job: Job, needs: dict[str, Path], folder: Path) -> str | None:
    """Do the work; returns why it cannot be done, if that is what was found."""
    try:
        job.kind.function()(job.settings, needs, folder)
    except WorkFailedError as error:
        return str(error)
    return None


def _remove_whole(folder: Path) -> None:
    """Remove a folder so that no process ever sees a part of it."""
    aside = folder.with_name(f".{folder.name}.removed")
    shutil.rmtree(aside, ignore_errors=True)
    folder.replace(aside)
    shutil.rmtree(aside)
