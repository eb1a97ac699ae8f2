"""The circumstances a result is made under, and the note of them that is kept with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any


@contextmanager
def torch_threads(threads: int | None) -> Iterator[None]:
    """Torch with so many threads inside the block, on which the bits of a training depend; None: as it is."""
    import torch

    before = torch.get_num_threads()
    if threads is not None and threads != before:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)


def how_made(seconds: float) -> dict[str, Any]:
    """When (UTC), in how many seconds, with how many threads and which versions of the packages."""
    import torch

    from mechft.training.trained import package_versions

    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    threads = torch.get_num_threads()
    return {"time": now, "seconds": seconds, "threads": threads, "versions": package_versions()}
