"""The tokenizer: exact round trips for any text, the same one every time, and merges that are worth it."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from mechft.errors import ConfigError, OutputExistsError
from mechft.tasks.stories.layout import END, render
from mechft.tasks.stories.record import StoryRecord
from mechft.tasks.stories.tokenizer import StoryTokenizer

TEXTS = [
    render(StoryRecord(story, words=words), random.Random(0)).text
    for story, words in [
        (
            "Once upon a time there was a small dog. The dog liked to run in the park.",
            ("dog", "run"),
        ),
        ("Lily had a red ball. She liked the ball and she liked the park.", ("ball", "red")),
        ('"Come here," said Tom. The small cat ran to the red house.', ("cat", "house")),
    ]
]


@pytest.fixture(scope="module")
def tokenizer() -> StoryTokenizer:
    return StoryTokenizer.train(TEXTS, 300)


@pytest.mark.parametrize(
    "text",
    [
        *TEXTS,
        "",
        " ",
        "\n\n \t two  spaces  and\r\nCRLF ",
        "naïve café — “quotes” … 日本語 🐶👩‍👧 e\u0301",
        "\x00\x01\x7f\ufeff\ufffd\U0010ffff",
        f"{END}{END} between {END}",
        "<|endoftext| >",
    ],
)
def test_round_trip(tokenizer: StoryTokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert all(0 <= i < tokenizer.vocab_size == 300 for i in ids)


def test_round_trip_of_random_texts(tokenizer: StoryTokenizer) -> None:
    """Any characters but halves of surrogate pairs, in any order."""
    rng = random.Random(1)
    texts = [
        "".join(
            chr(c)
            for _ in range(rng.randint(1, 40))
            if not 0xD800
            <= (c := rng.choice((rng.randrange(128), rng.randrange(0x110000))))
            < 0xE000
        )
        for _ in range(300)
    ]
    for text, ids in zip(texts, tokenizer.encode_batch(texts), strict=True):
        assert tokenizer.decode(ids) == text
        assert ids == tokenizer.encode(text)


def test_the_end_is_one_token(tokenizer: StoryTokenizer) -> None:
    """Id 0 is the end marker and nothing else, also in the middle of a text."""
    assert tokenizer.encode(END) == [0]
    ids = tokenizer.encode(f"A dog.{END}A cat.")
    assert ids == [*tokenizer.encode("A dog."), 0, *tokenizer.encode("A cat.")]
    assert 0 not in tokenizer.encode("<|endoftext")


def test_merges(tokenizer: StoryTokenizer) -> None:
    """Words of the training texts are short in tokens; an unknown script costs its bytes."""
    assert len(tokenizer.encode(" the")) == 1
    assert len(tokenizer.encode(TEXTS[0])) < 0.7 * len(TEXTS[0])
    assert len(tokenizer.encode("日")) == len("日".encode())


def test_first_merge_is_the_most_frequent_pair() -> None:
    """By hand: in "ab ab ab cb" the pair (a, b) comes three times, every other pair no more than twice."""
    tokenizer = StoryTokenizer.train(["ab ab ab cb"], 258)
    assert tokenizer.decode([257]) == "ab"
    assert len(tokenizer.encode("abab")) == 2


def test_the_same_every_time(tokenizer: StoryTokenizer) -> None:
    """In another process as well, whatever its hash seed."""
    code = (
        "import json, sys; from mechft.tasks.stories.tokenizer import StoryTokenizer;"
        "print(StoryTokenizer.train(json.loads(sys.argv[1]), 300).digest)"
    )
    command = [sys.executable, "-c", code, json.dumps(TEXTS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == tokenizer.digest == StoryTokenizer.train(iter(TEXTS), 300).digest
    assert tokenizer.digest != StoryTokenizer.train(TEXTS, 299).digest
    assert tokenizer.digest != StoryTokenizer.train(TEXTS[:2], 300).digest


def test_save_and_load(tokenizer: StoryTokenizer, tmp_path: Path) -> None:
    path = tokenizer.save(tmp_path / "model")
    assert path.name == "tokenizer.json" and json.loads(path.read_text())["version"] == "1.0"
    assert [p.name for p in path.parent.iterdir()] == ["tokenizer.json"]  # and nothing temporary
    loaded = StoryTokenizer.load(tmp_path / "model")
    assert loaded.digest == tokenizer.digest
    assert loaded.encode_batch(TEXTS) == tokenizer.encode_batch(TEXTS)
    assert tokenizer.save(tmp_path / "model") == path  # the same again is no conflict
    before = path.read_bytes()
    with pytest.raises(OutputExistsError, match="holds another one"):
        StoryTokenizer.train(TEXTS, 280).save(tmp_path / "model")
    assert path.read_bytes() == before


def test_files_that_are_no_story_tokenizer(tmp_path: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    with pytest.raises(ConfigError, match=r"there is no .*tokenizer\.json"):
        StoryTokenizer.load(tmp_path)
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    with pytest.raises(ConfigError, match="is no tokenizer that"):
        StoryTokenizer.load(tmp_path)
    path.write_text(Tokenizer(WordLevel({"a": 0}, unk_token="a")).to_str())
    with pytest.raises(ConfigError, match="as token 0; this one has it as None"):
        StoryTokenizer.load(tmp_path)
    path.write_text(Tokenizer(WordLevel({END: 0}, unk_token=END)).to_str())
    with pytest.raises(ConfigError, match="lacks 256 of 256"):
        StoryTokenizer.load(tmp_path)


@pytest.mark.parametrize(
    ("size", "message"),
    [(256, "257 tokens at least; got 256"), (5000, r"got \d+ tokens of 5000")],
)
def test_sizes_that_cannot_be(size: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        StoryTokenizer.train(TEXTS, size)


@pytest.mark.parametrize("bad", [[300], [-1], [5, 1 << 20]])
def test_ids_outside(tokenizer: StoryTokenizer, bad: list[int]) -> None:
    with pytest.raises(ConfigError, match=r"lie in 0\.\.299"):
        tokenizer.decode(bad)
