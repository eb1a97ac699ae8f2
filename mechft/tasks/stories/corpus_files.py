"""A corpus on disk: written in one pass, whole or not at all, and mapped when read.

It is a folder with ``tokens.bin`` (ids as little-endian uint16) and ``corpus.json`` (what they are), and may
be larger than the memory.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mechft.errors import CheckpointError, ConfigError, OutputExistsError
from mechft.tasks.stories.corpus import (
    DIGEST_BYTES,
    TOKEN,
    Encoder,
    TokenCorpus,
    check_some,
    check_vocabulary,
    encoded_blocks,
)

FORMAT = 1
TOKENS_FILE = "tokens.bin"
DESCRIPTION_FILE = "corpus.json"


def write_corpus(
    folder: str | Path,
    texts: Iterable[str],
    tokenizer: Encoder,
    source: Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None = None,
) -> TokenCorpus:
    """Encode texts into a corpus on disk, whole or not at all, and open it.

    Args:
        folder: Where it is written; must not exist. A process that is killed leaves at most a folder with
            ".tmp" in its name beside it, which the next attempt replaces.
        texts: Documents, in order; each gets an end token unless it ends with the end marker already.
        tokenizer: What encodes them.
        source: JSON values that say where they are from, or a function that gives them. It is called once the
            texts are exhausted, when counts filled while they were read are complete.

    Raises:
        OutputExistsError: If the folder exists, before anything is read.
        ConfigError: If ``source`` is not JSON or the vocabulary does not fit into 16 bits, before anything is
            read; if there is no text, or one is empty or holds an end marker before its end.

    Cost: 0.3 to 0.4 s a MB of text on one core; some 60 MB of memory, however many texts there are.
    """
    folder = Path(folder)
    check_vocabulary(tokenizer)
    _source_values(source)  # what JSON cannot say is to fail now, not after hours
    if folder.exists():
        raise OutputExistsError(
            f"A corpus is never written over another; {folder} exists. Choose another folder, or delete it."
        )
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        hashed = hashlib.blake2b(digest_size=DIGEST_BYTES)
        total = documents = characters = 0
        with (temporary / TOKENS_FILE).open("wb") as file:
            for ids, count, length in encoded_blocks(texts, tokenizer):
                block = ids.tobytes()
                file.write(block)
                hashed.update(block)
                total += len(ids)
                documents += count
                characters += length
            file.flush()
            os.fsync(file.fileno())
        check_some(documents)
        description = {
            "format": FORMAT,
            "tokens": total,
            "documents": documents,
            "characters": characters,
            "vocab_size": tokenizer.vocab_size,
            "tokenizer": tokenizer.digest,
            "digest": hashed.hexdigest(),
            "source": _source_values(source),
        }
        text = json.dumps(description, indent=1, sort_keys=True)
        (temporary / DESCRIPTION_FILE).write_text(text + "\n", encoding="utf-8")
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return load_corpus(folder)


def _source_values(
    source: Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None,
) -> dict[str, Any]:
    values = source() if callable(source) else source
    try:
        json.dumps(written := dict(values or {}), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"What a corpus says of its source are JSON values; {error}. Give strings, numbers, "
            "lists and dicts."
        ) from error
    return written


def load_corpus(folder: str | Path, tokenizer: Encoder | None = None) -> TokenCorpus:
    """Open a corpus that ``write_corpus`` wrote; its tokens are mapped, not read.

    Args:
        folder: The folder.
        tokenizer: If given, the corpus must have been made with it.

    Raises:
        CheckpointError: If there is no corpus, its parts do not fit each other, or it is another tokenizer's.
    """
    folder = Path(folder)
    try:
        description = json.loads((folder / DESCRIPTION_FILE).read_text(encoding="utf-8"))
        size = (folder / TOKENS_FILE).stat().st_size
        if description["format"] != FORMAT:
            raise ValueError(f"format {description['format']}, known is {FORMAT}")
        if size != TOKEN.itemsize * description["tokens"]:
            raise ValueError(f"{size} bytes of tokens for {description['tokens']} tokens")
        corpus = TokenCorpus(
            np.memmap(folder / TOKENS_FILE, dtype=TOKEN, mode="r"),
            **{
                name: description[name]
                for name in (
                    "documents",
                    "characters",
                    "vocab_size",
                    "tokenizer",
                    "digest",
                    "source",
                )
            },
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"A corpus is a folder with {TOKENS_FILE} and {DESCRIPTION_FILE} as write_corpus leaves it; "
            f"{folder} is none ({error!r}). Write it again."
        ) from error
    if tokenizer is not None and tokenizer.digest != corpus.tokenizer:
        raise CheckpointError(
            f"A corpus is read with the tokenizer that made it; {folder} was made by {corpus.tokenizer}, "
            f"this one is {tokenizer.digest}. Load that tokenizer, or write the corpus again."
        )
    return corpus
