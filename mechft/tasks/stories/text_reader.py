"""TinyStories-Instruct as text: from chunks of a file to records, one at a time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from mechft.errors import require
from mechft.tasks.stories.counts import ReadCounts
from mechft.tasks.stories.features import read_features
from mechft.tasks.stories.layout import END, PARTS
from mechft.tasks.stories.record import StoryRecord
from mechft.tasks.stories.split import Split, of_split

MAX_RECORD = 4_000_000
"""Characters within which a record must end: far more than any story has, and what bounds the memory."""

# Part names as they may be spelled before the story …
LABEL = re.compile(
    r"[ \t]*(features?|words?|summary|(?:random[ _]*)?sentence|story)[ \t]*:[ \t]*(.*)",
    re.IGNORECASE,
)
# … and behind it, where only the exact label counts, as any line there may be part of the story.
_EXACT = re.compile(r"(Features|Words|Summary|Random sentence|Sentence|Story):[ \t]*(.*)")
_OTHER_LABEL = re.compile(r"[ \t]*([A-Z]\w*(?: \w+)?)[ \t]*:[ \t]")
_FIELDS = {"feature": "features", "word": "words", "summary": "summary", "story": "story"}


def read_blocks(chunks: Iterable[str], counts: ReadCounts, name: str) -> Iterator[str]:
    """The text of every record, its end marker taken off.

    What stands behind the last marker is no whole record: it is noted in ``counts`` and left out.

    Args:
        chunks: A text in pieces, cut anywhere.
        counts: Where a record without an end is noted.
        name: What the text is called in errors and counts.

    Raises:
        ConfigError: If no end marker comes within ``MAX_RECORD`` characters.
    """
    rest, found = "", 0
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(END)
        found += len(whole)
        yield from whole
        require(
            len(rest) <= MAX_RECORD,
            f"A record ends with {END} within {MAX_RECORD:,} characters; {name} has none in "
            f"{len(rest):,} characters after record {found:,}. Give a file of TinyStories-Instruct.",
        )
    if rest.strip():
        counts.truncated += 1
        counts.cut_off_files[name] += len(rest)


def read_text(
    chunks: Iterable[str], counts: ReadCounts, split: Split = "all", name: str = "the text"
) -> Iterator[StoryRecord]:
    """Records of a text in the layout of TinyStories-Instruct (``mechft.tasks.stories.layout``).

    Args:
        chunks: The text in pieces, cut anywhere, lines ending in newlines.
        counts: Filled while records are yielded.
        split: Which records, by their places in the text.
        name: What the text is called in errors and counts.

    Raises:
        ConfigError: If no end marker comes within ``MAX_RECORD`` characters.

    Cost: about 25 µs a record; memory for one chunk and one record.
    """
    for block in of_split(read_blocks(chunks, counts, name), split, counts):
        record = parse_record(block, counts)
        if record is not None:
            yield counts.accept(record, PARTS)


def parse_record(block: str, counts: ReadCounts) -> StoryRecord | None:
    """One record from its text, or None if it has no story or several; either is noted in ``counts``.

    Before ``Story:`` every line is a part or goes on with the part above it, and labels may be spelled
    freely ("words :", "Sentence:"). Behind it, the last lines may be parts too (the public data shuffles
    the story among them), but only by their exact labels, and only parts that have not come yet.
    """
    parts: dict[str, list[str]] = {}
    current: list[str] | None = None
    stray = after_story = False
    for line in block.replace("\r\n", "\n").lstrip("\ufeff\n ").split("\n"):
        in_story = "story" in parts
        found = (_EXACT if in_story else LABEL).match(line)
        field = _field(found[1]) if found else ""
        if in_story and field == "story":
            counts.run_together += 1
            return None
        if found and not (in_story and field in parts):
            after_story |= in_story
            current = parts.setdefault(field, [])
            current.append(found[2])
        elif not in_story and (other := _OTHER_LABEL.match(line)):
            counts.unknown_parts[other[1]] += 1
            current = []  # lines that go on with it are left out, as it is
        elif current is not None:
            current.append(line)
        else:
            stray |= bool(line.strip())
    counts.stray_lines += stray
    counts.part_after_story += after_story
    story = "\n".join(parts.get("story", ())).strip()
    if not story:
        counts.without_story += 1
        return None
    return StoryRecord(
        story=story,
        features=read_features(",".join(parts.get("features", ())).split(","), counts),
        words=tuple(
            word
            for piece in ",".join(parts.get("words", ())).split(",")
            if (word := " ".join(piece.split()))
        ),
        summary=_line(parts.get("summary", ())),
        sentence=_line(parts.get("sentence", ())),
    )


def _field(label: str) -> str:
    """The field of a record that a label's spelling stands for."""
    spelled = label.lower()
    return "sentence" if spelled.endswith("sentence") else _FIELDS[spelled.removesuffix("s")]


def _line(lines: Iterable[str]) -> str:
    return " ".join(" ".join(lines).split())
