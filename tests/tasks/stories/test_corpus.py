"""Corpora: the stream on disk is the texts, whole or absent; windows are its pieces, evenly drawn."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mechft.errors import CheckpointError, ConfigError, OutputExistsError, UnknownNameError
from mechft.randomness import generator
from mechft.tasks.batch import Source
from mechft.tasks.stories import corpus as corpus_module
from mechft.tasks.stories.corpus import TokenCorpus, corpus_in_memory
from mechft.tasks.stories.corpus_files import load_corpus, write_corpus
from mechft.tasks.stories.packed import PackedSource
from mechft.tasks.stories.tokenizer import StoryTokenizer

TEXTS = [f"Day {i}: the dog saw {i % 7} cats.\n{'It ran. ' * (i % 5)}" for i in range(100)]


@pytest.fixture(scope="module")
def tokenizer() -> StoryTokenizer:
    return StoryTokenizer.train(TEXTS, 280)


def test_the_stream(
    tokenizer: StoryTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ids of every text in order, each with one end behind it, however they were batched."""
    expected = [i for text in TEXTS for i in [*tokenizer.encode(text), 0]]
    written = write_corpus(tmp_path / "a", iter(TEXTS), tokenizer, {"path": "x"})
    assert written.tokens.tolist() == expected and len(written) == len(expected)
    assert written.tokens.dtype == np.uint16 and written.documents == 100
    assert written.characters == sum(map(len, TEXTS))
    assert (written.vocab_size, written.tokenizer) == (280, tokenizer.digest)
    monkeypatch.setattr(corpus_module, "_BATCH_TEXTS", 7)
    monkeypatch.setattr(corpus_module, "_BATCH_CHARACTERS", 150)
    for other in (
        write_corpus(tmp_path / "b", TEXTS, tokenizer),
        corpus_in_memory(TEXTS, tokenizer),
    ):
        assert other.tokens.tolist() == expected and other.digest == written.digest


def test_text_with_its_end_marker_gets_no_second(tokenizer: StoryTokenizer) -> None:
    plain = corpus_in_memory(["One.", "Two."], tokenizer)
    marked = corpus_in_memory(["One.<|endoftext|>", "Two.<|endoftext|>"], tokenizer)
    assert marked.tokens.tolist() == plain.tokens.tolist()
    assert tokenizer.decode(marked.tokens.tolist()) == "One.<|endoftext|>Two.<|endoftext|>"


def test_description(tokenizer: StoryTokenizer, tmp_path: Path) -> None:
    """A file anyone can read, with counts that were complete only when the texts were exhausted."""
    counts = {"records": 0}

    def texts() -> Iterator[str]:
        for text in TEXTS:
            counts["records"] += 1
            yield text

    write_corpus(tmp_path / "a", texts(), tokenizer, lambda: {"counts": counts})
    described = json.loads((tmp_path / "a" / "corpus.json").read_text())
    assert described["source"] == {"counts": {"records": 100}} == load_corpus(tmp_path / "a").source
    assert described["documents"] == 100 and described["tokenizer"] == tokenizer.digest
    raw = np.fromfile(tmp_path / "a" / "tokens.bin", dtype="<u2")
    assert raw.tolist() == load_corpus(tmp_path / "a", tokenizer).tokens.tolist()


def test_nothing_is_overwritten(tokenizer: StoryTokenizer, tmp_path: Path) -> None:
    """And nothing is read before that is known."""

    def never() -> Iterator[str]:
        raise AssertionError("the texts were asked for")
        yield ""

    write_corpus(tmp_path / "a", TEXTS, tokenizer)
    before = (tmp_path / "a" / "tokens.bin").read_bytes()
    with pytest.raises(OutputExistsError, match="never written over another"):
        write_corpus(tmp_path / "a", never(), tokenizer)
    with pytest.raises(ConfigError, match="JSON values"):
        write_corpus(tmp_path / "b", never(), tokenizer, {"path": tmp_path})
    assert (tmp_path / "a" / "tokens.bin").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_failure_leaves_nothing(tokenizer: StoryTokenizer, tmp_path: Path) -> None:
    def failing() -> Iterator[str]:
        yield from TEXTS
        raise RuntimeError("the disk is gone")

    with pytest.raises(RuntimeError):
        write_corpus(tmp_path / "a", failing(), tokenizer)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_writer_left_is_replaced(tokenizer: StoryTokenizer, tmp_path: Path) -> None:
    (tmp_path / ".a.tmp").mkdir()
    (tmp_path / ".a.tmp" / "tokens.bin").write_bytes(b"half")
    assert write_corpus(tmp_path / "a", TEXTS, tokenizer).documents == 100
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "at least one text"),
        (["One.", ""], "number 2 is empty"),
        (["One.", "Two.", "<|endoftext|>"], "number 3 is empty"),
        (["One.<|endoftext|>Two."], "number 1 holds it before its end"),
        (["One.", "Two.<|endoftext|><|endoftext|>"], "number 2 holds it before its end"),
    ],
)
def test_texts_that_are_no_documents(
    tokenizer: StoryTokenizer, tmp_path: Path, texts: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        write_corpus(tmp_path / "a", texts, tokenizer)
    with pytest.raises(ConfigError, match=message):
        corpus_in_memory(texts, tokenizer)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "tokens.bin").write_bytes(b"\x01\x00"),
        lambda folder: (folder / "tokens.bin").unlink(),
        lambda folder: (folder / "corpus.json").unlink(),
        lambda folder: (folder / "corpus.json").write_text("{"),
        lambda folder: (folder / "corpus.json").write_text("[]"),
        lambda folder: (folder / "corpus.json").write_text('{"format": 2}'),
        lambda folder: (folder / "corpus.json").write_text('{"format": 1}'),
    ],
)
def test_damaged_corpora(tokenizer: StoryTokenizer, tmp_path: Path, damage: Any) -> None:
    write_corpus(tmp_path / "a", TEXTS, tokenizer)
    damage(tmp_path / "a")
    with pytest.raises(CheckpointError, match="Write it again"):
        load_corpus(tmp_path / "a")


def test_another_tokenizer(tokenizer: StoryTokenizer, tmp_path: Path) -> None:
    write_corpus(tmp_path / "a", TEXTS, tokenizer)
    with pytest.raises(CheckpointError, match="was made by"):
        load_corpus(tmp_path / "a", StoryTokenizer.train(TEXTS, 270))


class _Bytes:
    """Encodes a text as its bytes; in Python, so that tracemalloc sees all of its memory."""

    vocab_size = 256
    digest = "bytes"

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        return [list(text.encode()) for text in texts]


def test_a_vocabulary_of_more_than_16_bits(tmp_path: Path) -> None:
    large = _Bytes()
    large.vocab_size = 65537
    with pytest.raises(ConfigError, match="at most 65536; got 65537"):
        write_corpus(tmp_path / "a", ["One."], large)


def test_memory_of_writing_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two megabytes of text in batches of 20 KB: at no time is a quarter of it held."""
    monkeypatch.setattr(corpus_module, "_BATCH_TEXTS", 50)
    monkeypatch.setattr(corpus_module, "_BATCH_CHARACTERS", 20_000)
    tracemalloc.start()
    try:
        written = write_corpus(tmp_path / "a", ("word " * 100 for _ in range(4000)), _Bytes())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(written) == 4000 * 501
    assert peak < 500_000


def _counting(length: int) -> TokenCorpus:
    """A corpus whose tokens are their own places."""
    tokens = np.arange(length, dtype=np.uint16)
    return TokenCorpus(tokens, 1, length, length, "none", "none")


def test_windows() -> None:
    """Consecutive tokens; the answer is the last one, predicted from the position before it."""
    source = PackedSource(_counting(50), 8)
    assert isinstance(source, Source)
    batch = source.sample(2000, generator(0))
    assert batch.tokens.shape == (2000, 9) and batch.tokens.dtype == torch.int64
    assert (batch.tokens.diff(dim=1) == 1).all()
    assert batch.answer_position == 7
    assert torch.equal(batch.answer, batch.tokens[:, batch.answer_position + 1])
    # Every place there is, the last one too, about as often as any other: 42 places, 47.6 each.
    starts = torch.bincount(batch.tokens[:, 0])
    assert len(starts) == 42 and int((starts - 2000 / 42).abs().max()) < 5 * 6.9


def test_windows_from_disk(tokenizer: StoryTokenizer, tmp_path: Path) -> None:
    """The same windows from a mapped file and from memory; the generator decides, nothing else does."""
    write_corpus(tmp_path / "a", TEXTS, tokenizer)
    mapped = PackedSource(load_corpus(tmp_path / "a"), 16)
    held = PackedSource(corpus_in_memory(TEXTS, tokenizer), 16)
    state = torch.get_rng_state()
    one, other = mapped.sample(20, generator(1)), held.sample(20, generator(1))
    assert one.digest() == other.digest() != mapped.sample(20, generator(2)).digest()
    assert torch.equal(torch.get_rng_state(), state)


def test_the_shortest_corpus_has_one_window() -> None:
    batch = PackedSource(_counting(9), 8).sample(3, generator(0))
    assert batch.tokens.tolist() == [list(range(9))] * 3


@pytest.mark.parametrize(
    ("tokens", "length", "message"),
    [(9, 9, "longer than a window of 9 .*has 9"), (9, 1, "at least two tokens; got 1")],
)
def test_windows_that_do_not_fit(tokens: int, length: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PackedSource(_counting(tokens), length)


def test_windows_that_begin_where_documents_do(tokenizer: StoryTokenizer) -> None:
    corpus = corpus_in_memory(TEXTS, tokenizer)
    batch = PackedSource(corpus, 16, begin="documents").sample(3000, generator(0))
    begins = {tuple(row) for row in batch.tokens.tolist()}
    ids = [i for text in TEXTS for i in (*tokenizer.encode(text), 0)]
    starts = [0] + [place + 1 for place, i in enumerate(ids[:-1]) if i == 0]
    expected = {tuple(ids[s : s + 17]) for s in starts if s + 17 <= len(ids)}
    assert begins == expected
    with pytest.raises(UnknownNameError, match="documents"):
        PackedSource(corpus, 16, begin="stories")  # type: ignore[arg-type]
