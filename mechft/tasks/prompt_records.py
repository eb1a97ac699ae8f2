"""Texts, and prompts with their answers, one at a time from wherever they are: a file, a list, a frame."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mechft.errors import ConfigError, require

Record = str | tuple[str, str]
"""A text, or a prompt with the answer that should follow it."""

_FIELDS = 'a record has "prompt" and "answer", or "text", each a string'


def read_records(data: Any) -> Iterator[tuple[str, Record]]:
    """The records of some data in order, each with the words by which an error names its place.

    A record with both a prompt and an answer is that, whatever else it holds; other fields are not looked at.

    Args:
        data: The path of a .txt file (one text a paragraph: blank lines separate them, and the line breaks
            within one are kept) or of a .jsonl file (an object a line, blank lines skipped), both UTF-8; a
            pandas DataFrame; or an iterable of strings, of pairs (prompt, answer), or of mappings with the
            fields of a JSON record.

    Raises:
        ConfigError: If there is no such file, its suffix is another, a line is not JSON or not UTF-8, or a
            record lacks its fields; names the line or the item.

    Cost: one line, or one paragraph, in memory at a time.
    """
    if isinstance(data, str | Path):
        return _of_file(Path(data))
    if hasattr(data, "columns") and hasattr(data, "iterrows"):
        return _of_frame(data)
    if isinstance(data, Iterable) and not isinstance(data, bytes | Mapping):
        return ((f"item {i}", _record(item, f"Item {i}")) for i, item in enumerate(data))
    raise ConfigError(
        "Data is the path of a .txt or .jsonl file, a list of strings, of (prompt, answer) pairs or of "
        f"dicts, a DataFrame, a TokenBatch or a tensor of token ids; got {type(data).__name__}. Put single "
        "records into a list."
    )


def _of_file(path: Path) -> Iterator[tuple[str, Record]]:
    require(
        path.is_file(),
        f"Data given as a string is the path of a file; there is no file {path}. To give a text itself, put "
        "it into a list.",
    )
    readers = {".txt": _paragraphs, ".jsonl": _json_lines}
    require(
        path.suffix in readers,
        f"Files of data end in {' or '.join(readers)}; got {path.name}. Rename a file of plain text or JSON "
        "lines; read tables with pandas and give the DataFrame.",
    )
    return readers[path.suffix](path)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """A file's lines with their numbers, from 1, without their ends."""
    with path.open("rb") as file:  # decoded line by line, so that an error can name the line
        for number, line in enumerate(file, 1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise ConfigError(
                    f"Files of data are UTF-8; line {number} of {path} is not ({error.reason}). Convert the "
                    "file."
                ) from error
            yield number, text.rstrip("\r\n")


def _paragraphs(path: Path) -> Iterator[tuple[str, Record]]:
    lines: list[str] = []
    start = 1
    for number, line in _lines(path):
        if line.strip():
            if not lines:
                start = number
            lines.append(line)
        elif lines:
            yield f"line {start}", "\n".join(lines)
            lines = []
    if lines:
        yield f"line {start}", "\n".join(lines)


def _json_lines(path: Path) -> Iterator[tuple[str, Record]]:
    for number, line in _lines(path):
        if not line.strip():
            continue
        try:
            item = json.loads(line)
        except ValueError as error:
            raise ConfigError(
                f"A .jsonl file holds one JSON object a line; line {number} of {path} is not JSON ({error}). "
                "Repair the line or take it out."
            ) from error
        where = f"Line {number} of {path}"
        require(
            isinstance(item, dict),
            f"In a .jsonl file {_FIELDS}; {where} holds {_shown(item)}. Write one object a line.",
        )
        yield f"line {number}", _record(item, where)


def _of_frame(frame: Any) -> Iterator[tuple[str, Record]]:
    columns = list(frame.columns)
    wanted = [c for c in ("prompt", "answer") if c in columns]
    if len(wanted) < 2:
        wanted = ["text"]
    require(
        set(wanted) <= set(columns),
        'A frame of data has the columns "prompt" and "answer", or "text"; this one has '
        f"{', '.join(map(str, columns)) or 'none'}. Rename them with frame.rename(columns=…).",
    )
    for i, values in enumerate(zip(*(frame[c] for c in wanted), strict=True)):
        item = dict(zip(wanted, values, strict=True))
        yield f"row {i}", _record(item, f"Row {i} of the frame")


def _record(item: Any, where: str) -> Record:
    """One record, checked; ``where`` begins the error's sentence."""
    texts: tuple[Any, ...] = (None,)
    if isinstance(item, Mapping):
        pair = "prompt" in item and "answer" in item
        texts = (item["prompt"], item["answer"]) if pair else (item.get("text"),)
    elif isinstance(item, str):
        texts = (item,)
    elif isinstance(item, list | tuple) and len(item) == 2:
        texts = tuple(item)
    if not all(isinstance(text, str) for text in texts):
        raise ConfigError(
            f"{where} is {_shown(item)}, but {_FIELDS} (or is a string, or a pair of strings). An answer is "
            'written as it follows the prompt, with its space: " 7". Token ids are given as a tensor or a '
            "TokenBatch."
        )
    try:
        "".join(texts).encode()
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"{where} holds half of a surrogate pair ({error}), which is no Unicode text. Repair it."
        ) from error
    return texts[0] if len(texts) == 1 else (texts[0], texts[1])


def _shown(item: object) -> str:
    """An item for an error: its fields if it has any, else its beginning."""
    if isinstance(item, Mapping):
        return "an object with " + (
            ", ".join(f"{key} ({type(value).__name__})" for key, value in item.items())
            or "no field"
        )
    text = repr(item)
    return text if len(text) <= 60 else f"{text[:60]}…"
