"""The JSON shards of TinyStories_all_data: from chunks of a file to records, one at a time.

A shard is a list of objects, hundreds of megabytes long. Its elements are decoded one by one from a buffer,
so that memory holds a chunk and not the file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mechft.errors import ConfigError
from mechft.tasks.stories.counts import REPLACEMENT, ReadCounts
from mechft.tasks.stories.features import read_features
from mechft.tasks.stories.layout import END
from mechft.tasks.stories.record import StoryRecord
from mechft.tasks.stories.split import Split, of_split

MAX_ELEMENT = 4_000_000
"""Characters within which an element must end: far more than any story has, and what bounds the memory."""

_BETWEEN = re.compile(r"[\s,\[\]]*")
_HALF_PAIR = re.compile("[\ud800-\udfff]")
_PARTS = ("features", "words", "summary")  # what the format has of an instruction: no sentence


def read_elements(chunks: Iterable[str], counts: ReadCounts, name: str) -> Iterator[Any]:
    """The elements of a JSON list, or of JSON objects one after the other.

    If the text ends inside an element, those before it have been yielded; the rest is noted in ``counts``.

    Args:
        chunks: The text in pieces, cut anywhere.
        counts: Where a text that is cut off is noted.
        name: What the text is called in errors and counts.

    Raises:
        ConfigError: If something before the end is not JSON, or an element does not end within
            ``MAX_ELEMENT`` characters.
    """
    decoder = json.JSONDecoder(strict=False)  # raw newlines within strings are let through
    text, number, open_lists = "", 0, 0
    for chunk in chunks:
        text += chunk
        at = 0
        while True:
            between = _BETWEEN.match(text, at)
            assert between is not None  # it matches nothing at all, too
            open_lists += between[0].count("[") - between[0].count("]")
            at = between.end()
            if at == len(text):
                break
            try:
                element, at = decoder.raw_decode(text, at)
            except json.JSONDecodeError as error:
                if _needs_more(error, text) and len(text) - at <= MAX_ELEMENT:
                    break
                raise ConfigError(
                    f"A shard is a JSON list of objects; element {number + 1:,} of {name} is not JSON: "
                    f"{error.msg} at {text[error.pos : error.pos + 40]!r}. Take a fresh copy of the file."
                ) from error
            number += 1
            yield element
        text = text[at:]
    if text:
        counts.truncated += 1
    if text or open_lists > 0:
        counts.cut_off_files[name] += len(text)


def _needs_more(error: json.JSONDecodeError, text: str) -> bool:
    """Whether the text may be the beginning of JSON: it breaks at its end, or within a string."""
    return error.msg.startswith("Unterminated string") or error.pos >= len(text) - 8


def read_json(
    chunks: Iterable[str], counts: ReadCounts, split: Split = "all", name: str = "the JSON"
) -> Iterator[StoryRecord]:
    """Records of a shard of TinyStories_all_data: objects with ``story``, ``summary`` and ``instruction``.

    The instruction holds ``words`` and ``features``; its text, ``prompt:``, is not read. Records have no
    sentence, as the shards have none.

    Args:
        chunks: The text in pieces, cut anywhere.
        counts: Filled while records are yielded.
        split: Which records, by their places in the text.
        name: What the text is called in errors and counts.

    Raises:
        ConfigError: As ``read_elements``.

    Cost: about 30 µs a record; memory for one chunk and one element.
    """
    for element in of_split(read_elements(chunks, counts, name), split, counts):
        record = record_of(element, counts)
        if record is not None:
            yield counts.accept(record, _PARTS)


def record_of(element: Any, counts: ReadCounts) -> StoryRecord | None:
    """One record from an element of a shard, or None if it holds no story; noted in ``counts``."""
    story = element.get("story", "") if isinstance(element, Mapping) else None
    if not isinstance(story, str):
        counts.malformed += 1
        return None
    story, marker, _ = _clean(story).replace("\r\n", "\n").partition(END)
    if not story.strip():
        counts.without_story += 1
        return None
    counts.cut_at_end_marker += bool(marker)
    instruction = element.get("instruction")
    if not isinstance(instruction, Mapping):
        if instruction is not None:
            counts.unknown_parts["instruction"] += 1
        instruction = {}
    summary = element.get("summary") or ""
    if not isinstance(summary, str):
        counts.unknown_parts["summary"] += 1
        summary = ""
    return StoryRecord(
        story=story.strip(),
        features=read_features(_strings(instruction, "features", counts), counts),
        words=tuple(" ".join(word.split()) for word in _strings(instruction, "words", counts)),
        summary=" ".join(_clean(summary).partition(END)[0].split()),
    )


def _clean(text: str) -> str:
    """The text without halves of surrogate pairs, which JSON can spell and UTF-8 cannot."""
    return _HALF_PAIR.sub(REPLACEMENT, text)


def _strings(instruction: Mapping[str, Any], name: str, counts: ReadCounts) -> list[str]:
    """A list of strings, also where it was written as one string; anything else is noted and left out."""
    value = instruction.get(name)
    if value is None:
        return []
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        counts.unknown_parts[name] += 1
        return []
    return [_clean(item).replace(END, "") for item in items if item.strip()]
