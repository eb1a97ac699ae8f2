"""Where jobs are done: executors of the standard library's protocol, with what a sweep must know of them."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from typing import Any, Literal, Protocol, TypeVar

from mechft.errors import ConfigError, require
from mechft.experiments.sweep.workers import prepare_worker

T = TypeVar("T")
ExecutorName = Literal["local", "dask"]


class Pool(Protocol):
    """An executor, how much it does at a time, and how to get another when it is broken."""

    @property
    def width(self) -> int:
        """Jobs at a time."""
        ...

    @property
    def threads(self) -> int | None:
        """Torch's threads of each; None leaves the worker's own."""
        ...

    @property
    def together(self) -> int:
        """Most jobs of a kind that has a way to do several at once (on a GPU) given to one worker."""
        ...

    @property
    def executor(self) -> Executor:
        """The executor to submit to."""
        ...

    def restart(self) -> None:
        """Replace an executor whose worker died; raises ``ConfigError`` where that cannot be done."""
        ...

    def close(self, now: bool = False) -> None:
        """End the workers; ``now`` interrupts what they are doing, which is kept to go on from."""
        ...


def share_of_threads(jobs: int) -> int:
    """Threads of each of some jobs at a time, of the cores this process may use."""
    return max(1, cores() // jobs)


def cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def has_gpu() -> bool:
    """Whether torch has a GPU here."""
    import torch

    return torch.cuda.is_available()


class ThisProcess(Executor):
    """Does what is submitted at once, in the calling thread: for one job at a time, and for debugging."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Call ``fn`` and return a future that is done."""
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # KeyboardInterrupt goes through to the caller
            future.set_exception(error)
        return future


class GivenPool:
    """An executor of the caller's: it is neither restarted nor closed here.

    Args:
        executor: Any ``concurrent.futures.Executor``. Jobs are pickled if it has processes.
        width: Jobs at a time.
        threads: Torch's threads of each; None leaves them as they are.
        together: Most jobs done as one, where their kind can.
    """

    def __init__(
        self, executor: Executor, width: int = 1, threads: int | None = None, together: int = 1
    ) -> None:
        require(width >= 1, f"A pool does at least one job at a time; got width={width}.")
        require(together >= 1, f"At least one job is done as one; got together={together}.")
        self.executor, self.width, self.threads = executor, width, threads
        self.together = together

    def restart(self) -> None:
        """Raises: the executor is the caller's."""
        raise ConfigError(
            "The executor broke, and it was not made here. Make a new one and run the sweep again; what is "
            "finished is kept."
        )

    def close(self, now: bool = False) -> None:
        """Leaves the executor to its owner."""


class LocalPool:
    """Processes of this machine.

    Args:
        jobs: How many; 0 means one a core. Each gets its share of the cores as threads.
        threads: Threads of each instead.
        together: Most trainings of one shape done as one batched computation; 0 means 16 on a GPU and
            1 without.
    """

    def __init__(self, jobs: int = 0, threads: int = 0, together: int = 0) -> None:
        require(together >= 0, f"ensemble is at least 0 (0: 16 on a GPU, else 1); got {together}.")
        self.together = together or (16 if has_gpu() else 1)
        require(jobs >= 0, f"jobs is at least 0 (0: one a core); got {jobs}.")
        require(threads >= 0, f"threads is at least 0 (0: its share); got {threads}.")
        # Several processes on one GPU would take turns, and take memory for each.
        self.width = jobs or (1 if has_gpu() else cores())
        self.threads: int | None = threads or share_of_threads(self.width)
        self._made: Executor | None = None
        self._stop: Any = None

    @property
    def executor(self) -> Executor:
        """The processes, started when first used; with one job at a time, this process."""
        if self._made is None:
            # Forking after torch has threads can hang.
            context = multiprocessing.get_context("spawn")
            self._stop = context.Event()
            self._made = (
                ThisProcess()
                if self.width == 1
                else ProcessPoolExecutor(self.width, context, prepare_worker, (self._stop,))
            )
        return self._made

    def restart(self) -> None:
        """New processes, once the others are gone: they could still be writing."""
        if self._made is not None:
            self._made.shutdown(wait=True, cancel_futures=True)
        self._made = None

    def close(self, now: bool = False) -> None:
        """End the processes; ``now`` by an interrupt, on which a training saves where it is."""
        if self._made is None:
            return
        if now:
            self._stop.set()
        self._made.shutdown(wait=True, cancel_futures=True)
        self._made = None


class DaskPool:
    """Workers of dask.distributed (extra "cluster"): on this machine, or of a cluster that runs already.

    A worker that dies has its job done again elsewhere, from its checkpoint: dask does that itself. The
    store must be on a file system that all workers see under the same path. On Ctrl-C jobs of a cluster
    started here end where they are, and go on from their last checkpoint the next time; those of a running
    cluster are finished there.

    Args:
        scheduler: Address of a running scheduler, "tcp://host:8786"; None starts a cluster here.
        jobs: Workers of the cluster started here; 0 means one a core. Without effect on a running one.
        threads: Torch's threads of each job; 0 means its share here, and one on a running cluster.

    Raises:
        ConfigError: If dask.distributed is not installed, or no scheduler answers.
    """

    together = 1

    def __init__(self, scheduler: str | None = None, jobs: int = 0, threads: int = 0) -> None:
        try:
            from distributed import Client, LocalCluster
        except ImportError as error:
            raise ConfigError(
                'The dask executor needs dask.distributed: pip install "mechft[cluster]".'
            ) from error
        self._cluster: Any = None
        if scheduler is None:
            local = LocalPool(jobs, threads)
            self.width, self.threads = local.width, local.threads
            self._cluster = LocalCluster(
                n_workers=self.width, threads_per_worker=1, processes=True, dashboard_address=None
            )
            self._client = Client(self._cluster)
        else:
            try:
                self._client = Client(scheduler, timeout=10)
            except (OSError, ValueError) as error:
                raise ConfigError(
                    f"No dask scheduler answers at {scheduler!r} ({error}). Start one (dask scheduler), "
                    "or leave --scheduler out to have workers here."
                ) from error
            self.width = max(1, sum(self._client.nthreads().values()))
            self.threads = threads or 1
        self._client.run(_quiet)
        self.executor: Executor = self._client.get_executor(pure=False)

    def restart(self) -> None:
        """Nothing to do: dask replaces its workers."""

    def close(self, now: bool = False) -> None:
        """Leave the cluster, and end it if it was started here."""
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()


def _quiet() -> None:
    os.environ["TQDM_DISABLE"] = "1"


def make_pool(
    executor: ExecutorName = "local",
    jobs: int = 0,
    threads: int = 0,
    scheduler: str | None = None,
    together: int = 0,
) -> Pool:
    """The pool that a command line names.

    Args:
        executor: "local": processes of this machine; "dask": dask.distributed.
        jobs: Jobs at a time; 0 means one a core.
        threads: Threads of each; 0 means its share of the cores.
        scheduler: Address of a running dask scheduler.
        together: As in ``LocalPool``.

    Raises:
        ConfigError: If ``scheduler`` is given for another executor, or dask is not installed.
    """
    if executor == "dask":
        return DaskPool(scheduler, jobs, threads)
    require(scheduler is None, f"--scheduler goes with --executor dask; got {scheduler!r}.")
    return LocalPool(jobs, threads, together)
