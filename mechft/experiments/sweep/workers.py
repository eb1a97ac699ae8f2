"""What a worker process does before its first job, and when its parent is gone."""

from __future__ import annotations

import os
import threading
import time


def prepare_worker(parent: int) -> None:
    """No progress bar but the parent's, and an end when the parent ends."""
    os.environ["TQDM_DISABLE"] = "1"
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process when its parent was killed: its work would meet that of the next attempt."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
