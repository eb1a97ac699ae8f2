"""Batches drawn ahead by a thread, so that an accelerator does not wait for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from queue import Empty, Full, Queue
from threading import Event, Thread

import torch

from mechft.tasks.batch import TokenBatch

_AHEAD = 16
_PATIENCE = 0.1  # seconds between looks at whether anyone still wants batches


def prefetched(
    batches: Iterable[TokenBatch], device: torch.device, ahead: int = _AHEAD
) -> Iterator[TokenBatch]:
    """The same batches in the same order, on ``device``, drawn while earlier ones are used.

    An error of the source is raised where its batch would have come. The thread ends when the iterator is
    used up, closed or thrown away.

    Args:
        batches: What to draw from; from here on only the thread draws.
        device: Where they are wanted.
        ahead: Batches drawn in advance, at most.
    """
    queue: Queue[TokenBatch | BaseException | None] = Queue(ahead)
    unwanted = Event()

    def put(item: TokenBatch | BaseException | None) -> bool:
        while not unwanted.is_set():
            try:
                queue.put(item, timeout=_PATIENCE)
                return True
            except Full:
                continue
        return False

    def draw() -> None:
        try:
            for batch in batches:
                if not put(_sent(batch, device)):
                    return
            put(None)
        except BaseException as error:  # raised again where the batch is waited for
            put(error)

    thread = Thread(target=draw, name="batches", daemon=True)
    thread.start()
    try:
        while (item := _taken(queue, thread)) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        unwanted.set()
        thread.join()


def _taken(
    queue: Queue[TokenBatch | BaseException | None], thread: Thread
) -> TokenBatch | BaseException | None:
    while True:
        try:
            return queue.get(timeout=_PATIENCE)
        except Empty:
            if not thread.is_alive() and queue.empty():
                raise RuntimeError("The thread that draws batches ended without a word.") from None


def _sent(batch: TokenBatch, device: torch.device) -> TokenBatch:
    """The batch on its way: from pinned memory a copy does not make anyone wait."""
    if device.type != "cuda":
        return batch.to(device)
    return TokenBatch(
        batch.tokens.pin_memory().to(device, non_blocking=True),
        batch.answer_position,
        batch.answer.pin_memory().to(device, non_blocking=True),
    )
