"""Doing a set of jobs, and what they need, each once, whatever happens to the workers."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Future,
    wait,
)
from itertools import islice
from typing import Any

from mechft.errors import ConfigError, MechftError
from mechft.experiments.store.entry import Entry
from mechft.experiments.store.job import Job, NeedMissingError, check_kinds, in_order
from mechft.experiments.store.store import Store
from mechft.experiments.sweep.pools import GivenPool, Pool, ThisProcess
from mechft.experiments.sweep.workers import interruptible
from mechft.training.progress import progress_bar

ATTEMPTS = 3
"""How often a job is begun whose worker dies; from the second time on by itself, to tell who is to blame."""

_PATIENCE = 2.0  # seconds
_POLL = 1.0  # seconds between two looks at a job that another process is doing


class SweepError(MechftError):
    """Some jobs of a sweep could not be done; the others are finished and kept.

    Attributes:
        failures: What went wrong, by job.
    """

    def __init__(self, failures: dict[Job, BaseException], left_out: int) -> None:
        lines = [f"{job}: {type(error).__name__}: {error}" for job, error in failures.items()]
        shown = "\n  ".join(lines[:10]) + ("\n  …" if len(lines) > 10 else "")
        waiting = f", and {left_out} that need them were not begun" if left_out else ""
        super().__init__(
            f"{len(failures)} of the jobs failed{waiting}; what is finished is kept, and the same "
            f"command goes on from here:\n  {shown}"
        )
        self.failures = failures


def run_sweep(
    jobs: Iterable[Job], store: Store, pool: Pool | None = None, *, label: str = "runs"
) -> dict[Job, Entry]:
    """Do jobs and all they need, unless they are done.

    Args:
        jobs: What is wanted.
        store: Where results are kept. Another process may be working with the same one: what it does
            is waited for and not done twice.
        pool: Where to do it; this process by default.
        label: What the progress bar says.

    Returns:
        What came of every job and of all they need. A job of which a need failed (``Entry.failed``: a
        finding, such as a training that diverged) is not begun and is missing here.

    Raises:
        SweepError: If jobs raised; after all the others were done.
        KeyboardInterrupt: On Ctrl-C; trainings save where they are.

    Cost: beside the jobs, some milliseconds for each.
    """
    ordered = in_order(jobs)
    check_kinds(job.kind for job in ordered)
    sweep = _Sweep(ordered, store, pool or GivenPool(ThisProcess()), label)
    try:
        sweep.run()
    except BaseException:
        # On Ctrl-C the terminal has told local workers already: give them time to obey before they are told
        # again, which would end them at once.
        wait(sweep.running, _PATIENCE)
        sweep.pool.close(now=True)
        raise
    finally:
        sweep.bar.close()
    if sweep.failures:
        error = next(iter(sweep.failures.values()))
        raise SweepError(sweep.failures, len(sweep.waiting)) from error
    return sweep.done


def _do(store: Store, jobs: list[Job], threads: int | None) -> dict[Job, Entry | None]:
    """What a worker does."""
    with interruptible():
        if len(jobs) == 1:
            return {jobs[0]: store.do(jobs[0], threads)}
        return store.do_together(jobs, threads)


def _group(job: Job) -> tuple[str, str]:
    return job.kind.name, job.kind.group(job)


class _Sweep:
    """A sweep in progress."""

    def __init__(self, ordered: list[Job], store: Store, pool: Pool, label: str) -> None:
        self.store, self.pool = store, pool
        self.done: dict[Job, Entry] = {}
        self.failures: dict[Job, BaseException] = {}
        self.left_out: set[Job] = set()
        self.deaths: dict[Job, int] = {}  # how often its worker died, whoever was to blame
        self.alone: set[Job] = set()  # failed together with others
        self.elsewhere: dict[Job, float] = {}  # done by another process; when to look again
        self.running: dict[Future[dict[Job, Entry | None]], list[Job]] = {}
        for job in ordered:
            if (entry := store.find(job)) is not None:
                self.done[job] = entry
        weight = _weights(ordered)
        # The longest chain first: what it waits for decides when the sweep ends.
        self.waiting = sorted(
            (job for job in ordered if job not in self.done), key=lambda job: -weight[job]
        )
        total = sum(job.cost for job in ordered)
        self.bar = _bar(label, total, sum(job.cost for job in self.done), len(ordered))

    def run(self) -> None:
        self._skip_hopeless()
        while self.waiting or self.running:
            self._submit()
            if self.running:
                finished, _ = wait(self.running, _POLL, FIRST_COMPLETED)
                for future in finished:
                    self._take(future)
            elif any(job in self.elsewhere for job in self.waiting):
                time.sleep(_POLL)
            elif self.waiting:  # only what needs a failed job is left
                return
            self._skip_hopeless()

    def _submit(self) -> None:
        while self._room() and (jobs := self._next()):
            try:
                future = self.pool.executor.submit(_do, self.store, jobs, self.pool.threads)
            except BrokenExecutor as error:  # a worker died between two jobs
                self._again([], error)
                continue
            for job in jobs:
                self.waiting.remove(job)
            self.running[future] = jobs

    def _room(self) -> bool:
        """Whether another job may begin: nothing runs beside one that a worker has died of before."""
        suspect = any(job in self.deaths for jobs in self.running.values() for job in jobs)
        return len(self.running) < self.pool.width and not suspect

    def _next(self) -> list[Job]:
        """The first job that can begin, with others that are done together with it."""
        now = time.monotonic()
        ready = [
            job
            for job in self.waiting
            if self.elsewhere.get(job, now) <= now
            and all(need in self.done for need in job.needs.values())
            and not (self.running and job in self.deaths)
        ]
        if not ready:
            return []
        first = ready[0]
        if self.pool.together == 1 or not first.kind.together or self._by_itself(first):
            return [first]
        alike = (job for job in ready if _group(job) == _group(first) and not self._by_itself(job))
        return list(islice(alike, self.pool.together))

    def _by_itself(self, job: Job) -> bool:
        return job in self.alone or job in self.deaths

    def _take(self, future: Future[dict[Job, Entry | None]]) -> None:
        jobs = self.running.pop(future, None)
        if jobs is None:  # its executor broke and it was taken back
            return
        for job in jobs:
            self.elsewhere.pop(job, None)
        try:
            found = future.result()
        except BrokenExecutor as error:
            self._again(jobs, error)
        except CancelledError:
            lost = ConfigError("The executor gave its jobs up; is the scheduler still there?")
            self.failures |= dict.fromkeys(jobs, lost)
        except NeedMissingError as error:
            self._need_again(jobs, error)
        except Exception as error:
            if len(jobs) == 1:
                self.failures[jobs[0]] = error
            else:  # one of them, perhaps: each by itself tells
                self.alone |= set(jobs)
                self.waiting = [*jobs, *self.waiting]
        else:
            for job, entry in found.items():
                self._took(job, entry)

    def _took(self, job: Job, entry: Entry | None) -> None:
        if entry is None:
            self.elsewhere[job] = time.monotonic() + _POLL
            self.waiting.insert(0, job)
        else:
            self.done[job] = entry
            self.bar.set_postfix_str(f"{len(self.done)} done, last {job}", refresh=False)
            self.bar.update(job.cost)

    def _again(self, jobs: list[Job], error: BrokenExecutor) -> None:
        """A worker died, and with it the executor: all that was running begins again from its checkpoint."""
        lost = [*jobs, *(job for others in self.running.values() for job in others)]
        self.running.clear()
        self.pool.restart()
        for job in lost:
            self.elsewhere.pop(job, None)
            self.deaths[job] = self.deaths.get(job, 0) + 1
            if self.deaths[job] >= ATTEMPTS:
                self.failures[job] = MechftError(
                    f"Its worker died {ATTEMPTS} times ({error}). Is there enough memory? Fewer --jobs "
                    "need less."
                )
            else:
                self.waiting.insert(0, job)

    def _need_again(self, jobs: list[Job], error: NeedMissingError) -> None:
        """Something that was done is gone: damaged, or removed by someone. It is done once more."""
        missing = {
            need: None
            for job in jobs
            for need in job.needs.values()
            if need in self.done and self.store.find(need) is None
        }
        if not missing:
            self.failures |= dict.fromkeys(jobs, error)
        for need in missing:
            del self.done[need]
        self.waiting = [*missing, *(jobs if missing else []), *self.waiting]

    def _skip_hopeless(self) -> None:
        """Leave out what needs a job that could not be done, as a finding: it is not begun."""
        gone = {job for job, entry in self.done.items() if entry.failed is not None} | self.left_out
        while gone:
            gone = {j for j in self.waiting if any(n in gone for n in j.needs.values())}
            self.waiting = [job for job in self.waiting if job not in gone]
            self.left_out |= gone
            self.bar.update(sum(job.cost for job in gone))


def _weights(ordered: list[Job]) -> dict[Job, float]:
    """For each job the cost of the longest chain that begins with it."""
    after = dict.fromkeys(ordered, 0.0)
    for job in reversed(ordered):  # what needs a job stands after it
        weight = job.cost + after[job]
        for need in job.needs.values():
            after[need] = max(after[need], weight)
    return {job: job.cost + after[job] for job in ordered}


def _bar(label: str, total: float, done: float, jobs: int) -> Any:
    form = (
        "{desc}: {percentage:3.0f}%|{bar}| of "
        + f"{jobs} runs"
        + " [{elapsed}<{remaining}{postfix}]"
    )
    return progress_bar(total=total, initial=done, desc=label, bar_format=form)
