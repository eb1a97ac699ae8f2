"""Which records are for training and which are held out, in sources that do not say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, TypeVar, get_args

from mechft.errors import unknown_name
from mechft.tasks.stories.counts import ReadCounts

Split = Literal["train", "validation", "all"]

HOLD_OUT_EVERY = 20
"""Of a single file, every twentieth record is for validation: the 20th, the 40th …"""

T = TypeVar("T")


def check_split(split: str) -> None:
    """Raise ``UnknownNameError`` unless ``split`` is one of ``Split``."""
    if split not in get_args(Split):
        raise unknown_name("split", split, get_args(Split))


def of_split(items: Iterable[T], split: Split, counts: ReadCounts) -> Iterator[T]:
    """The items of one split, by their places in the stream; those of the other are counted."""
    for place, item in enumerate(items, 1):
        held_out = place % HOLD_OUT_EVERY == 0
        if split == "all" or held_out == (split == "validation"):
            yield item
        else:
            counts.other_split += 1
