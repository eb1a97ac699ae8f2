"""A user's data as batches: nothing padded, nothing lost without being counted, answers where they belong."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mechft.errors import ConfigError
from mechft.tasks.batch import TokenBatch
from mechft.tasks.prompt_tokens import windows
from mechft.tasks.prompts import COUNTS, Prompts, read_prompts

BOS = 99


def letters(text: str) -> list[int]:
    """A token a letter; a space is 26."""
    return [26 if letter == " " else ord(letter) - ord("a") for letter in text if letter != "\n"]


def pieces(vocabulary: tuple[str, ...]) -> Callable[[str], list[int]]:
    """A tokenizer that takes the longest known piece at every place, so that pieces merge."""
    by_length = sorted(vocabulary, key=len, reverse=True)

    def encode(text: str) -> list[int]:
        ids = []
        while text:
            piece = next(p for p in by_length if text.startswith(p))
            ids.append(vocabulary.index(piece))
            text = text[len(piece) :]
        return ids

    return encode


def rows_of(prompts: Prompts) -> dict[int, list[list[int]]]:
    """The rows of every record, in order."""
    found: dict[int, list[list[int]]] = {}
    for batch, numbers in zip(prompts.batches, prompts.rows, strict=True):
        for row, number in zip(batch.tokens.tolist(), numbers, strict=True):
            found.setdefault(number, []).append(row)
    return found


def counted(prompts: Prompts) -> dict[str, int]:
    assert tuple(prompts.counts) == COUNTS
    return {name: n for name, n in prompts.counts.items() if n}


def test_answers_by_hand() -> None:
    data = [("ab", "c"), ("b", "c"), ("bc", "ad")]
    prompts = read_prompts(data, letters, n_ctx=8, first_token=BOS)
    assert prompts.kind == "answers"
    assert [batch.tokens.tolist() for batch in prompts.batches] == [
        [[BOS, 0, 1, 2], [BOS, 1, 2, 0]],
        [[BOS, 1, 2]],
    ]
    assert prompts.rows == ((0, 2), (1,))
    first = prompts.batches[0]
    assert first.answer.tolist() == [2, 0] and first.prompt.tolist() == [[BOS, 0, 1], [BOS, 1, 2]]
    assert counted(prompts) == {"read": 3, "used": 3, "rows": 3, "answers_of_several_tokens": 1}


@pytest.mark.parametrize(
    ("prompt", "answer", "first_token", "row", "count"),
    [
        ("a", "b", None, [0, 1], None),
        ("un", " do", None, [3, 6], None),  # "un", " do": nothing merges
        ("un", "do", BOS, [BOS, 4], "merged"),  # one token: asked after what is before it
        ("a un", "do", None, [0, 5, 4], "merged"),
        ("un", "do", None, None, "too_short"),  # nothing before the merged token
        ("ab", "", None, None, "no_answer"),
        (" \n", "a", None, None, "empty"),
        ("a", "bb", None, [0, 1], "answers_of_several_tokens"),
    ],
)
def test_where_an_answer_begins(
    prompt: str, answer: str, first_token: int | None, row: list[int] | None, count: str | None
) -> None:
    encode = pieces(("a", "b", "u", "un", "undo", " ", " do", "d", "o", "n"))
    data = [(prompt, answer), ("a", "a")]  # the second, so that something is left
    prompts = read_prompts(data, encode, n_ctx=8, first_token=first_token)
    start = [] if first_token is None else [first_token]
    expected = {1: [[*start, 0, 0]]} | ({0: [row]} if row else {})
    assert rows_of(prompts) == expected
    others = {"read", "used", "rows"} | ({count} if count else set())
    assert set(counted(prompts)) == others


def test_a_first_token_is_not_doubled() -> None:
    def encode(text: str) -> list[int]:
        return [BOS, *letters(text)]

    with_it, without = (
        read_prompts([("abc", "d")], e, n_ctx=8, first_token=BOS) for e in (encode, letters)
    )
    assert rows_of(with_it) == rows_of(without) == {0: [[BOS, 0, 1, 2, 3]]}
    with_it, without = (
        read_prompts(["abcd"], e, n_ctx=8, first_token=BOS) for e in (encode, letters)
    )
    assert rows_of(with_it) == rows_of(without) == {0: [[BOS, 0, 1, 2, 3]]}


@pytest.mark.parametrize("first_token", [None, BOS])
def test_long_prompts_keep_their_end(first_token: int | None) -> None:
    prompts = read_prompts([("abcdefgh", "i")], letters, n_ctx=4, first_token=first_token)
    (batch,) = prompts.batches
    shown = [4, 5, 6, 7] if first_token is None else [BOS, 5, 6, 7]
    assert batch.prompt.tolist() == [shown] and batch.answer.tolist() == [8]
    assert prompts.counts["cut"] == 1


@pytest.mark.parametrize("first_token", [None, BOS])
@pytest.mark.parametrize("length", range(1, 12))
@pytest.mark.parametrize("size", [2, 3, 5, 20])
def test_windows_predict_every_token_once(first_token: int | None, length: int, size: int) -> None:
    ids = list(range(length))
    found = windows(ids, size, first_token)
    predicted = [token for row in found for token in row[1:]]
    assert predicted == (ids[1:] if first_token is None else ids)
    assert all(2 <= len(row) <= size for row in found)
    for before, row in pairwise(found):
        assert row[0] == (before[-1] if first_token is None else first_token)


def test_texts_by_hand() -> None:
    prompts = read_prompts(["abcdef", "", "a", "abc"], letters, n_ctx=20, window=4)
    assert prompts.kind == "text"
    assert rows_of(prompts) == {0: [[0, 1, 2, 3], [3, 4, 5]], 3: [[0, 1, 2]]}
    assert prompts.rows == ((0,), (0, 3))
    assert [b.answer_position for b in prompts.batches] == [2, 1]
    assert [b.answer.tolist() for b in prompts.batches] == [[3], [5, 2]]
    wanted = {"read": 4, "used": 2, "rows": 3, "empty": 1, "too_short": 1, "split": 1}
    assert counted(prompts) == wanted
    shorter = read_prompts(["abcdef"], letters, n_ctx=3, window=4)
    assert {len(row) for row in rows_of(shorter)[0]} == {3, 2}


def test_nothing_is_padded_lost_or_reordered() -> None:
    """Of random data every record is used or counted, batches are of one length and in order."""
    draw = random.Random(0)
    texts = ["".join(draw.choices("abc ", k=draw.randrange(9))) for _ in range(200)]
    pairs = [(text, draw.choice(["", "a", "bc"])) for text in texts]
    for data in (texts, pairs):
        prompts = read_prompts(data, letters, n_ctx=6, window=5, batch_size=7)
        n = prompts.counts
        assert n["read"] == 200 == n["used"] + n["empty"] + n["too_short"] + n["no_answer"]
        assert n["used"] == len(rows_of(prompts))
        assert n["rows"] == sum(len(batch) for batch in prompts.batches)
        for batch, numbers in zip(prompts.batches, prompts.rows, strict=True):
            assert len(batch) == len(numbers) <= 7
            assert list(numbers) == sorted(numbers)
            assert torch.equal(batch.answer, batch.tokens[:, -1])
        first = [numbers[0] for numbers in prompts.rows]
        assert first == sorted(first)
        again = read_prompts(data, letters, n_ctx=6, window=5, batch_size=7)
        assert rows_of(again) == rows_of(prompts) and again.rows == prompts.rows


def test_every_source_gives_the_same(tmp_path: Path) -> None:
    import pandas as pd

    pairs = [("ab", "c"), ("a b", " d"), ("e", "f")]
    dicts = [{"prompt": p, "answer": a, "id": i} for i, (p, a) in enumerate(pairs)]
    file = tmp_path / "data.jsonl"
    file.write_text("\n".join(map(json.dumps, dicts)) + "\n\n", encoding="utf-8-sig")
    wanted = read_prompts(pairs, letters, n_ctx=9)
    for data in (dicts, file, str(file), pd.DataFrame(dicts), iter(pairs)):
        found = read_prompts(data, letters, n_ctx=9)
        assert rows_of(found) == rows_of(wanted) and found.counts == wanted.counts
    texts = ["ab\nc", "def", "g h"]
    records = tmp_path / "texts.jsonl"
    records.write_text("\n".join(json.dumps({"text": text}) for text in texts))
    plain = tmp_path / "texts.txt"
    plain.write_bytes(b"ab\r\nc\r\n\r\n \t\r\ndef\n\n\n\ng h")
    wanted = read_prompts(texts, letters, n_ctx=9)
    for data in (records, plain, pd.DataFrame({"text": texts}), tuple(texts)):
        found = read_prompts(data, letters, n_ctx=9)
        assert rows_of(found) == rows_of(wanted) and found.counts == wanted.counts


def test_paragraphs_keep_their_line_breaks(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("\n\nfirst line\n  second\n\nother\n")
    seen: list[str] = []

    def encode(text: str) -> list[int]:
        seen.append(text)
        return [1, 2]

    read_prompts(file, encode, n_ctx=4)
    assert seen == ["first line\n  second", "other"]


def test_a_limit_stops_reading() -> None:
    def endless() -> Any:
        while True:
            yield "abc"

    prompts = read_prompts(endless(), letters, n_ctx=9, limit=5)
    assert counted(prompts) == {"read": 5, "used": 5, "rows": 5, "stopped": 1}
    within = read_prompts(["abcdefg", "abc"], letters, n_ctx=9, window=3, limit=2)
    assert rows_of(within) == {0: [[0, 1, 2], [2, 3, 4]]}
    assert counted(within) == {"read": 1, "used": 1, "rows": 2, "split": 1, "stopped": 1}
    exact = read_prompts(["abc", "abd"], letters, n_ctx=9, limit=2)
    assert exact.counts["stopped"] == 0


def test_a_token_batch_is_used_as_it_is() -> None:
    tokens = torch.arange(50).view(5, 10)
    batch = TokenBatch(tokens, 6, torch.arange(5) + 3, {"fact": torch.arange(5)})
    prompts = read_prompts(batch, None, n_ctx=7, batch_size=2, limit=3, d_vocab=50)
    assert prompts.kind == "answers" and prompts.rows == ((0, 1), (2,))
    assert torch.equal(torch.cat([b.tokens for b in prompts.batches]), tokens[:3])
    assert [b.answer_position for b in prompts.batches] == [6, 6]
    assert prompts.batches[1].labels["fact"].tolist() == [2]
    assert counted(prompts) == {"read": 3, "used": 3, "rows": 3, "stopped": 1}
    with pytest.raises(ConfigError, match="context of 6 tokens; this batch's have 7"):
        read_prompts(batch, None, n_ctx=6)


def test_token_ids_are_texts() -> None:
    ids = torch.tensor([[1, 2, 3, 4, 5], [5, 4, 3, 2, 1]], dtype=torch.int32)
    whole = read_prompts(ids, None, n_ctx=5, first_token=BOS, window=2)
    assert whole.kind == "text" and rows_of(whole) == {0: [[1, 2, 3, 4, 5]], 1: [[5, 4, 3, 2, 1]]}
    cut = read_prompts(ids, None, n_ctx=3)
    assert rows_of(cut) == {0: [[1, 2, 3], [3, 4, 5]], 1: [[5, 4, 3], [3, 2, 1]]}
    assert cut.counts["split"] == 2


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("missing.txt", "there is no file missing.txt. To give a text itself, put it into a list"),
        (["ab", ("a", "b")], 'before item 1 it is of the kind "text", there of the kind "answers"'),
        (["ab", 3], "Item 1 is 3, but a record has"),
        ([{"text": ["a", "b"]}], r"Item 0 is an object with text \(list\)"),
        ([{"prompt": "a"}], r"Item 0 is an object with prompt \(str\)"),
        ([{"prompt": "a", "answer": 7}], r"answer \(int\), but .*with its space"),
        ([[1, 2, 3]], r"Item 0 is \[1, 2, 3\], .*Token ids are given as a tensor"),
        (["\ud800"], "Item 0 holds half of a surrogate pair"),
        (["", "a"], "holds none .read 2, empty 1, too_short 1."),
        ([], "holds none .read 0."),
        (5, "got int. Put single records into a list"),
        ({"prompt": "a", "answer": "b"}, "got dict. Put single records into a list"),
        (torch.zeros(2, 3), "integer tensor .*got torch.float32 of shape"),
        (torch.zeros(3, dtype=torch.long), r"got torch.int64 of shape \(3,\)"),
        (torch.tensor([[3, -1]]), "row 0 has -1"),
        (torch.tensor([[3, 30]]), r"0\.\.26; row 0 has 30"),
        (["abZ"], r"item 0 has -7"),
    ],
)
def test_bad_data(data: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_prompts(data, letters, n_ctx=9, d_vocab=27)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"text": "a"}\n\nnot json\n', r"line 3 of .*a\.jsonl is not JSON"),
        ("a.jsonl", b'{"text": "a"}\n["a", "b"]\n', r"Line 2 of .* holds \['a', 'b'\]"),
        ("a.jsonl", b'{"text": "ab"}\n{"prompt": "a"}\n', r"Line 2 of .* object with prompt"),
        ("a.jsonl", b'{"text": "ab"}\n{"prompt": "a", "answer": "b"}', "before line 2 it is of"),
        ("a.txt", b"ab\nc\xff\n", r"UTF-8; line 2 of .*a\.txt is not"),
        ("a.txt", b"ab\n\nabZ", r"line 3 has -7"),
        ("a.txt", b" \n\n", r"holds none \(read 0\)"),
        ("a.csv", b"text\nab\n", r"end in \.txt or \.jsonl; got a\.csv"),
    ],
)
def test_bad_files(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_prompts(file, letters, n_ctx=9)


def test_bad_frames() -> None:
    import pandas as pd

    with pytest.raises(ConfigError, match=r"this one has prompt, reply\. Rename them"):
        read_prompts(pd.DataFrame({"prompt": ["a"], "reply": ["b"]}), letters, n_ctx=9)
    with pytest.raises(ConfigError, match="Row 1 of the frame is an object with text"):
        read_prompts(pd.DataFrame({"text": ["ab", None]}), letters, n_ctx=9)


def test_what_open_model_returned_says_the_rest() -> None:
    """n_ctx, the first token and the vocabulary are the model's; what is given goes before."""
    cfg = SimpleNamespace(d_vocab=26)
    opened = SimpleNamespace(
        coder=SimpleNamespace(encode=letters),
        first_token=0,
        n_ctx=3,
        model=SimpleNamespace(cfg=cfg),
    )

    def rows(**given: Any) -> list[list[list[int]]]:
        return [b.tokens.tolist() for b in read_prompts(["bcdef"], opened, **given).batches]

    assert rows() == [[[0, 1, 2], [0, 3, 4]], [[0, 5]]]
    assert rows(n_ctx=9) == [[[0, 1, 2, 3, 4, 5]]]
    assert rows(first_token=7) == [[[7, 1, 2], [7, 3, 4]], [[7, 5]]]
    cfg.d_vocab = 5
    with pytest.raises(ConfigError, match=r"vocabulary, 0\.\.4; .* has 5"):
        read_prompts(["bcdef"], opened)
    opened.coder = None
    with pytest.raises(ConfigError, match=r"there is none\. Give one with the model"):
        read_prompts(["abc"], opened)


def test_bad_settings() -> None:
    for settings, message in (
        ({"n_ctx": 1}, "at least 2 tokens; got 1"),
        ({"n_ctx": 4, "window": 1}, "at least 2 tokens, one to predict; got 1"),
        ({"n_ctx": 4, "limit": 0}, "limit is at least 1; got 0"),
        ({"n_ctx": 4, "batch_size": 0}, "batch_size is at least 1; got 0"),
    ):
        with pytest.raises(ConfigError, match=message):
            read_prompts(["abc"], letters, **settings)
    with pytest.raises(ConfigError, match=r"got no n_ctx\. Give it, or what open_model returned"):
        read_prompts(["abc"], letters)
    with pytest.raises(ConfigError, match=r"there is none\. Give one with the model"):
        read_prompts(["abc"], None, n_ctx=9)
