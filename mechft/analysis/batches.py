"""What analyses run on: one batch, or an iterable of them read once, batch by batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from mechft.errors import ConfigError, require
from mechft.tasks.batch import TokenBatch, concatenate

Data = TokenBatch | Iterable[TokenBatch]
"""A batch, or batches: a list, or a generator for more data than fits in memory."""


def each_batch(data: Data) -> Iterator[TokenBatch]:
    """The batches one after the other.

    Raises:
        ConfigError: If there is none, one is empty, or something else than a TokenBatch comes.
    """
    count = 0
    if not isinstance(data, (TokenBatch, Iterable)):
        raise ConfigError(
            f"Analyses run on a TokenBatch or an iterable of them; got {type(data).__name__}."
        )
    for batch in [data] if isinstance(data, TokenBatch) else data:
        if not isinstance(batch, TokenBatch):
            raise ConfigError(
                f"Analyses run on a TokenBatch or an iterable of them; got {type(batch).__name__}."
            )
        require(len(batch) > 0, "A batch needs at least one row; got none.")
        count += 1
        yield batch
    require(
        count > 0, "There is no batch to work on; give at least one (a generator runs dry once)."
    )


def one_batch(data: Data) -> TokenBatch:
    """All rows as one batch, for analyses that need them together.

    Raises:
        ConfigError: As ``each_batch``, or if the batches differ in shape.
    """
    return concatenate(each_batch(data))


def named_tasks(tasks: Mapping[str, TokenBatch] | TokenBatch) -> dict[str, TokenBatch]:
    """Tasks by name; a single batch is called "task"."""
    return {"task": tasks} if isinstance(tasks, TokenBatch) else dict(tasks)
