"""Batches drawn ahead are the same, in the same order; errors come where they belong; threads end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
import torch

from mechft.models.build import fingerprint
from mechft.tasks.batch import TokenBatch
from mechft.tasks.pcfg import PCFGTask
from mechft.training import loop
from mechft.training.config import TrainConfig
from mechft.training.prefetch import prefetched

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

CPU = torch.device("cpu")


def numbered(count: int, drawn: list[int] | None = None, fail_at: int = -1) -> Iterator[TokenBatch]:
    for i in range(count):
        if i == fail_at:
            raise ValueError(f"batch {i} is bad")
        if drawn is not None:
            drawn.append(i)
        yield TokenBatch(torch.tensor([[i]]), 0, torch.tensor([i]))


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "batches"]


@pytest.mark.parametrize("ahead", [1, 3, 100])
def test_same_batches_in_order(ahead: int) -> None:
    found = [int(batch.answer) for batch in prefetched(numbered(20), CPU, ahead)]
    assert found == list(range(20))
    assert not threads()


def test_no_more_than_asked_are_drawn_ahead() -> None:
    drawn: list[int] = []
    batches = prefetched(numbered(1000, drawn), CPU, ahead=3)
    next(batches)
    time.sleep(0.3)
    assert 2 <= len(drawn) <= 1 + 3 + 1  # one taken, three waiting, one in the thread's hands
    batches.close()  # type: ignore[attr-defined]
    assert not threads()
    assert len(drawn) <= 1 + 3 + 2


def test_an_error_comes_after_the_batches_before_it() -> None:
    found: list[int] = []
    with pytest.raises(ValueError, match="batch 4 is bad"):
        for batch in prefetched(numbered(10, fail_at=4), CPU):
            found.append(int(batch.answer))
    assert found == [0, 1, 2, 3]
    assert not threads()


def test_training_on_prefetched_batches_gives_the_same_bits(
    make_model: Callable[..., HookedTransformer], task: PCFGTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainConfig(steps=20, learning_rate=1e-3, batch_size=4)
    plain, ahead = make_model(), make_model()
    loop.train(plain, task.query("C", "a"), config)
    # As on an accelerator, which draws ahead.
    monkeypatch.setattr(
        loop,
        "_batches_for",
        lambda model, source, config, first: prefetched(loop._batches(source, config, first), CPU),
    )
    loop.train(ahead, task.query("C", "a"), config)
    assert fingerprint(plain) == fingerprint(ahead)
    assert not threads()
