"""Stories from wherever they are: a file, a folder of shards, their archive, or the hub."""

from __future__ import annotations

import codecs
import io
import re
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Literal

from mechft.errors import ConfigError, require
from mechft.tasks.stories.counts import ReadCounts
from mechft.tasks.stories.hub import open_hub, read_rows
from mechft.tasks.stories.json_reader import read_json
from mechft.tasks.stories.layout import END
from mechft.tasks.stories.record import StoryRecord
from mechft.tasks.stories.split import HOLD_OUT_EVERY, Split, check_split
from mechft.tasks.stories.text_reader import LABEL, read_text

Format = Literal["text", "json", "archive"]

HUB = "hub"
_READERS = {"text": read_text, "json": read_json}
_LOOKED_AT = 1 << 16  # bytes at a file's beginning that tell its format
_PIECE = 1 << 16  # bytes read at once
_SUFFIXES = (".txt", ".json", ".jsonl")
_VALIDATION = re.compile(r"valid", re.IGNORECASE)


def read_stories(
    source: str | Path, *, counts: ReadCounts | None = None, split: Split = "train"
) -> Iterator[StoryRecord]:
    """Story records from a source, one at a time.

    What is for validation: on the hub its own split. In a folder the files with "valid" in their names; if
    there is none the first file, as the paper's code does with the JSON shards. In an archive the first
    shard in it. In a single file every twentieth record. Everything else is for training.

    Args:
        source: "hub", or the path of a text file in the layout of TinyStories-Instruct, of a JSON shard of
            TinyStories_all_data, of a folder of either, or of its .tar.gz.
        counts: Filled while records are yielded, complete when there are no more.
        split: "train", "validation" or "all".

    Raises:
        ConfigError: At once if there is no such file, it is in neither format, or the hub cannot be
            reached; while reading if a file is damaged; at the end if not one record was found.
        UnknownNameError: If the split is not known.

    Cost: 25 to 40 µs a record; memory for one chunk and one record, however long the source is.

    Example:
        >>> import random
        >>> import mechft as mf
        >>> from mechft.tasks.stories.layout import render
        >>> stories = list(mf.ProceduralStories().stories(5, seed=0))
        >>> with open("stories.txt", "w", encoding="utf-8") as file:
        ...     for story in stories:
        ...         print(render(story, random.Random(0)).text, file=file)
        >>> read = list(mf.read_stories("stories.txt", split="all"))
        >>> [record.story for record in read] == [story.story for story in stories]
        True
        >>> read[0].truth is None  # a file does not say which features a story really has
        True
    """
    check_split(split)
    counts = ReadCounts() if counts is None else counts
    if source == HUB:
        return _not_empty(read_rows(open_hub(split), counts), "the hub", split, counts)
    path = Path(source)
    require(path.exists(), f'A source is "{HUB}", a file or a folder; there is no {path}.')
    if path.is_dir():
        records = _of_folder(path, counts, split)
    elif (kind := sniff(path)) == "archive":
        records = _of_archive(path, counts, split)
    else:
        records = _of_files([path], kind, counts, split)
    return _not_empty(records, str(path), split, counts)


def sniff(path: Path) -> Format:
    """The format of a file, by how it begins.

    Raises:
        ConfigError: If it is none; says what was looked for and what the file begins with.
    """
    with path.open("rb") as file:
        head = file.read(_LOOKED_AT)
    if head.startswith(b"\x1f\x8b"):
        return "archive"
    text = head.decode("utf-8-sig", errors="replace").replace("\r\n", "\n").lstrip()
    if text.startswith(("[", "{")) and '"story"' in text:
        return "json"
    if any(LABEL.match(line) for line in text.split("\n")):
        return "text"
    raise ConfigError(
        'Stories are text with lines such as "Words: …" and "Story: …" and records that end with '
        f'{END}, or a JSON list of objects with "story", or its .tar.gz; {path} is neither: '
        + (f"it begins with {text[:60]!r}." if text else "it is empty.")
    )


def _of_folder(folder: Path, counts: ReadCounts, split: Split) -> Iterator[StoryRecord]:
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)
    require(
        bool(files),
        f"A folder of stories holds files that end in {', '.join(_SUFFIXES)}; {folder} holds none. Give the "
        "folder they are in.",
    )
    kinds = {path: sniff(path) for path in files}
    require(
        len(set(kinds.values())) == 1,
        f"The files of a folder are of one format; {folder} holds "
        f"{', '.join(f'{path.name} ({kind})' for path, kind in list(kinds.items())[:5])}. Give one of them.",
    )
    return _of_files(files, kinds[files[0]], counts, split)


def _of_files(
    files: list[Path], kind: Format, counts: ReadCounts, split: Split
) -> Iterator[StoryRecord]:
    within: Split = "all"
    if split != "all":
        named = [path for path in files if _VALIDATION.search(path.name)]
        held_out = named if 0 < len(named) < len(files) else files[:1]
        if len(files) == 1:
            within = split
        else:
            files = [path for path in files if (path in held_out) == (split == "validation")]
    return _each(files, kind, counts, within)


def _each(
    files: list[Path], kind: Format, counts: ReadCounts, split: Split
) -> Iterator[StoryRecord]:
    for path in files:
        with path.open("rb") as file:
            yield from _of_stream(file, kind, counts, split, path.name)


def _of_stream(
    file: IO[bytes], kind: Format, counts: ReadCounts, split: Split, name: str
) -> Iterator[StoryRecord]:
    yield from _READERS[kind](_decoded(file), counts, split, name)


def _decoded(file: IO[bytes]) -> Iterator[str]:
    """A file as text in pieces: bytes that are no UTF-8 become U+FFFD, which the counts note.

    A byte order mark goes, and every kind of line end becomes a newline. (A TextIOWrapper would do the
    same, but not for the shards of a streamed archive.)
    """
    utf8 = codecs.getincrementaldecoder("utf-8-sig")(errors="replace")
    decoder = io.IncrementalNewlineDecoder(utf8, translate=True)
    while piece := file.read(_PIECE):
        yield decoder.decode(piece)
    yield decoder.decode(b"", final=True)


def _of_archive(path: Path, counts: ReadCounts, split: Split) -> Iterator[StoryRecord]:
    """The shards of a .tar.gz, in its own order, read in one pass."""
    shards = 0
    try:
        with tarfile.open(path, "r|gz") as archive:
            for member in archive:
                if not (member.isfile() and member.name.endswith((".json", ".jsonl"))):
                    continue
                shards += 1
                if split != "all" and (shards == 1) != (split == "validation"):
                    if split == "validation":
                        return
                    continue
                file = archive.extractfile(member)
                assert file is not None  # it is for regular files
                yield from _of_stream(file, "json", counts, "all", member.name)
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        if shards == 0:
            raise ConfigError(
                f"An archive is a .tar.gz of JSON shards; {path} is none ({error}). Take a fresh copy of it."
            ) from error
        counts.cut_off_files[path.name] += 0  # how much is missing cannot be known


def _not_empty(
    records: Iterator[StoryRecord], source: str, split: Split, counts: ReadCounts
) -> Iterator[StoryRecord]:
    found = False
    for record in records:
        found = True
        yield record
    require(
        found,
        f"A source holds at least one whole record for {split}; {source} holds none ({counts.summary()} "
        f'Of a single file, every {HOLD_OUT_EVERY}th record is for "validation"). Check the file, or read '
        'with split="all".',
    )
