"""What a worker process does before its first job, on an interrupt, and when its parent is gone."""

from __future__ import annotations

import _thread
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def prepare_worker(stop: Any) -> None:
    """No progress bar but the parent's; deaf to Ctrl-C while idle; an end when the parent ends.

    An idle worker that died of Ctrl-C would break its executor, and with it the workers that are just saving.

    Args:
        stop: A ``multiprocessing.Event``, set when what is being done is to be interrupted.
    """
    os.environ["TQDM_DISABLE"] = "1"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_watch, args=(stop,), daemon=True).start()


def _watch(stop: Any) -> None:
    parent = multiprocessing.parent_process()
    told = False
    # When the parent was killed, this process's work would meet that of the next attempt.
    while parent is None or parent.is_alive():
        if stop.wait(1) and not told:
            _interrupt()
            told = True
        elif told:
            threading.Event().wait(1)
    os._exit(1)


def _interrupt() -> None:
    """Ctrl-C for this process's main thread; nothing, while it is idle."""
    main = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main is not None:
        signal.pthread_kill(main, signal.SIGINT)  # ends a wait, too
    else:
        _thread.interrupt_main()


@contextmanager
def interruptible() -> Iterator[None]:
    """Inside, Ctrl-C interrupts as ever: around a worker's jobs."""
    here = threading.current_thread() is threading.main_thread()
    deaf = here and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if deaf:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        if deaf:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
