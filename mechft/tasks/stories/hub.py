"""The public data set through ``datasets``: streamed over the network, or from the local cache."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mechft.errors import ConfigError
from mechft.tasks.stories.counts import ReadCounts
from mechft.tasks.stories.record import StoryRecord
from mechft.tasks.stories.split import Split
from mechft.tasks.stories.text_reader import read_text

DATASET = "roneneldan/TinyStoriesInstruct"

LOCAL_OPTIONS = (
    "Local options: a file TinyStories-Instruct-train.txt (huggingface.co/datasets/"
    f"{DATASET}, 2.7 GB; …-valid.txt has 27 MB), or TinyStories_all_data.tar.gz or the folder of its JSON "
    "shards (huggingface.co/datasets/roneneldan/TinyStories), each fetched where there is a network and "
    "given by its path; or the procedural stories, which need no data."
)
"""What to do without a network; part of every error here."""

_TIMEOUT = 10.0  # seconds for the one request that finds out whether the hub can be reached
_ROWS_A_CHUNK = 1000


def open_hub(split: Split = "train", timeout: float = _TIMEOUT) -> Iterator[Mapping[str, Any]]:
    """Rows of the data set: one line of its text file each, in column "text".

    The hub is asked once whether it has the data set before anything else: ``datasets`` on its own tries
    again and again, for half a minute or for several. With ``HF_HUB_OFFLINE=1`` nothing is asked and the
    rows come from the local cache, if an earlier run of ``datasets.load_dataset`` has left them there.

    Args:
        split: Which of the data set's own splits; "all" is one after the other.
        timeout: Seconds to wait for the hub's answer.

    Raises:
        ConfigError: If the packages are missing, or the hub cannot be reached, or its cache is empty; names
            the local options.
    """
    try:
        import datasets  # type: ignore[import-untyped]
        import huggingface_hub
        from huggingface_hub import constants
    except ImportError as error:
        raise ConfigError(
            f"Reading {DATASET} from the hub takes the packages datasets and huggingface_hub; {error}. Run "
            f"pip install datasets. {LOCAL_OPTIONS}"
        ) from error
    offline = bool(constants.HF_HUB_OFFLINE)
    names = ("train", "validation") if split == "all" else (split,)
    try:
        if not offline:
            huggingface_hub.HfApi().dataset_info(DATASET, timeout=timeout)
        # What is cached can be opened but not streamed; opened, it is mapped and not held in memory.
        opened = [
            datasets.load_dataset(DATASET, split=name, streaming=not offline) for name in names
        ]
    except Exception as error:  # each version and transport of the hub has errors of its own
        tried = "HF_HUB_OFFLINE is set and the local cache does not have it" if offline else error
        raise ConfigError(
            f"Reading {DATASET} takes a network; it could not be reached ({tried}). {LOCAL_OPTIONS}"
        ) from error
    return (row for rows in opened for row in rows)


def read_rows(rows: Iterable[Mapping[str, Any]], counts: ReadCounts) -> Iterator[StoryRecord]:
    """Records put together from rows of text: lines, or whole records, each with its end marker.

    Args:
        rows: Mappings with the text in "text".
        counts: Filled while records are yielded.

    Raises:
        ConfigError: If a row has no text, no record ends within ``text_reader.MAX_RECORD`` characters, or the
            connection is lost on the way.
    """
    return read_text(_chunks(rows), counts, name=DATASET)


def _chunks(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    lines: list[str] = []
    iterator = iter(rows)
    number = 0
    while True:
        try:
            row = next(iterator)
        except StopIteration:
            break
        except Exception as error:  # whatever the transport raises
            raise ConfigError(
                f"The connection to the hub was lost after {number:,} rows ({error!r}). {LOCAL_OPTIONS}"
            ) from error
        number += 1
        text = row.get("text")
        if not isinstance(text, str):
            raise ConfigError(
                f'Rows of {DATASET} hold text in column "text"; row {number:,} has {sorted(row)}. '
                "Give a data set with one line of text a row."
            )
        lines.append(text)
        if len(lines) == _ROWS_A_CHUNK:
            yield "\n".join(lines) + "\n"
            lines.clear()
    if lines:
        yield "\n".join(lines) + "\n"
