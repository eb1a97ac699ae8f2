"""Texts as one flat stream of token ids."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mechft.errors import ConfigError, require
from mechft.tasks.stories.tokenizer import END_ID

TOKEN = np.dtype("<u2")
"""How a token is held: 16 bits, the low byte first, in memory and in files."""

DIGEST_BYTES = 16

_BATCH_TEXTS = 1024  # texts encoded at once …
_BATCH_CHARACTERS = 1 << 20  # … or fewer, if they are long: this bounds the memory of writing


class Encoder(Protocol):
    """What a corpus asks of a tokenizer; ``StoryTokenizer`` is one."""

    @property
    def vocab_size(self) -> int:
        """Number of tokens."""
        ...

    @property
    def digest(self) -> str:
        """A hash that tells tokenizers apart."""
        ...

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """Token ids of texts."""
        ...


@dataclass(frozen=True)
class TokenCorpus:
    """Documents as one stream of token ids, each with one end token (id 0) behind it.

    Attributes:
        tokens: The stream; mapped from disk or in memory, read-only. uint16["token"].
        documents: How many documents it holds.
        characters: Characters of their texts.
        vocab_size: Size of the vocabulary the ids are from.
        tokenizer: Digest of the tokenizer that made them.
        digest: A hash of the tokens: the same stream, the same digest, in memory and on disk.
        source: JSON values that say where the texts are from: path, protocol, counts, seed …
    """

    tokens: NDArray[np.uint16] = field(repr=False)
    documents: int
    characters: int
    vocab_size: int
    tokenizer: str
    digest: str
    source: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.tokens.shape[0])


def corpus_in_memory(
    texts: Iterable[str], tokenizer: Encoder, source: Mapping[str, Any] | None = None
) -> TokenCorpus:
    """The corpus that ``write_corpus`` would write, held in memory: two bytes a token.

    Raises:
        ConfigError: As ``write_corpus``.
    """
    check_vocabulary(tokenizer)
    blocks: list[NDArray[np.uint16]] = []
    documents = characters = 0
    for ids, count, length in encoded_blocks(texts, tokenizer):
        blocks.append(ids)
        documents, characters = documents + count, characters + length
    check_some(documents)
    tokens = np.concatenate(blocks)
    tokens.flags.writeable = False
    return TokenCorpus(
        tokens,
        documents,
        characters,
        tokenizer.vocab_size,
        tokenizer.digest,
        hashlib.blake2b(tokens.tobytes(), digest_size=DIGEST_BYTES).hexdigest(),
        dict(source or {}),
    )


def check_vocabulary(tokenizer: Encoder) -> None:
    """Raise ``ConfigError`` unless all ids fit into 16 bits."""
    require(
        tokenizer.vocab_size <= 1 << 16,
        f"A corpus holds ids of 16 bits, from a vocabulary of at most {1 << 16}; got "
        f"{tokenizer.vocab_size}. Train a smaller tokenizer.",
    )


def check_some(documents: int) -> None:
    """Raise ``ConfigError`` if there was not one document."""
    require(
        documents > 0, "A corpus holds at least one text; got none. Give a source with stories."
    )


def encoded_blocks(
    texts: Iterable[str], tokenizer: Encoder
) -> Iterator[tuple[NDArray[np.uint16], int, int]]:
    """Ids of a batch of texts with their ends, number of texts, characters."""
    done = 0
    for batch in _batches(texts):
        encoded = tokenizer.encode_batch(batch)
        for place, ids in enumerate(encoded, done + 1):
            if not ids or ids[-1] != END_ID:
                ids.append(END_ID)
            if len(ids) == 1 or ids.index(END_ID) != len(ids) - 1:
                what = "is empty" if len(ids) == 1 else "holds it before its end"
                raise ConfigError(
                    f"A document is a text with the end marker at its end at most; number {place:,} {what}. "
                    "Leave it out, or cut it at the marker."
                )
        done += len(batch)
        flat = np.fromiter(chain.from_iterable(encoded), dtype=TOKEN, count=sum(map(len, encoded)))
        yield flat, len(batch), sum(map(len, batch))


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    characters = 0
    for text in texts:
        batch.append(text)
        characters += len(text)
        if len(batch) == _BATCH_TEXTS or characters >= _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
