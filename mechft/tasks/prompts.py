"""A user's own data as token batches: prompts with answers, or texts, without any padding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from mechft.errors import ConfigError, require
from mechft.tasks.batch import TokenBatch
from mechft.tasks.prompt_records import Record, read_records
from mechft.tasks.prompt_tokens import Encode, answer_rows, text_rows

Kind = Literal["answers", "text"]

COUNTS = (
    "read",
    "used",
    "rows",
    "empty",
    "too_short",
    "no_answer",
    "cut",
    "split",
    "merged",
    "answers_of_several_tokens",
    "stopped",
)
"""What ``Prompts.counts`` counts; see there."""


class TextModel(Protocol):
    """What reading prompts takes from a model that was opened: ``open_model`` returns one."""

    @property
    def model(self) -> Any:
        """With its vocabulary's size as ``cfg.d_vocab``."""
        ...

    @property
    def coder(self) -> Any:
        """Its tokenizer; None if it has none."""
        ...

    @property
    def first_token(self) -> int | None:
        """What its texts begin with."""
        ...

    @property
    def n_ctx(self) -> int:
        """Its longest input, in tokens."""
        ...


@dataclass(frozen=True)
class Prompts:
    """Rows to ask models, in batches of rows of equal length.

    Attributes:
        batches: In each, ``answer_position`` is the last position but one, and ``answer`` the last token: the
            one that should follow the prompt, or, of a text, its window's last. (A batch that was given as
            one keeps its own.) The order of rows is that of the data, within a batch and of the batches by
            their first rows.
        kind: "answers": a prompt and the token that should follow. "text": every next token counts.
        rows: For each batch, the number in the data (from 0) of every row's record: for windows, of the text
            they were cut from.
        counts: What became of the data; read = used + empty + too_short + no_answer. Every key is there.
            read: records read. used: records of which there is a row. rows: rows in all.
            empty: prompts or texts of white space only.
            too_short: records without a token to predict, or without one before it.
            no_answer: answers that are empty or add no token.
            cut: prompts longer than the model's context, which lost their beginning.
            split: texts that were cut into several windows.
            merged: prompts whose last tokens are others when the answer follows (see ``read_prompts``).
            answers_of_several_tokens: answers of which only the first token is asked.
            stopped: 1 if ``limit`` ended the reading before the data did, else 0.
    """

    batches: tuple[TokenBatch, ...]
    kind: Kind
    rows: tuple[tuple[int, ...], ...]
    counts: dict[str, int]


def read_prompts(
    data: Any,
    encode: Encode | TextModel | None,
    *,
    n_ctx: int | None = None,
    first_token: int | None = None,
    limit: int | None = None,
    batch_size: int = 32,
    window: int = 128,
    d_vocab: int | None = None,
) -> Prompts:
    """Tokenise a user's data for a model; nothing is dropped without being counted.

    Prompts with answers: prompt and answer are tokenised together, as a model reads them, and the answer is
    the first token that differs from those of the prompt alone. So an answer is written as it follows the
    prompt, with its space: ("2 + 5 =", " 7"). Where the two merge ("un" and "do" being one token), what is
    asked is the merged token, after the tokens before it. Only the first token of an answer is asked. Prompts
    that are too long keep their end, behind ``first_token``.

    Texts: cut into windows, the last of which may be shorter, so that every token but a text's first is
    predicted exactly once: with a ``first_token`` each window begins with it, without one with the last token
    of the window before.

    Args:
        data: A .txt file (one text a paragraph, blank lines between them); a .jsonl file of objects with
            "prompt" and "answer" or with "text"; a list of strings (texts), of (prompt, answer) pairs, or of
            dicts with these fields; a DataFrame with these columns; a TokenBatch, used as it is; or token
            ids Int["row pos"], each row a text, used as they are and cut only where longer than ``n_ctx``.
        encode: What ``open_model`` returned, which says n_ctx, first_token and d_vocab where these
            are not given; or text to token ids, without ``first_token``. None will do for token ids.
        n_ctx: The longest input the model takes, in tokens.
        first_token: What every row begins with (BOS); not doubled where ``encode`` puts it there already.
        limit: At most so many rows; reading stops there.
        batch_size: Rows a batch at most.
        window: Tokens a window of text at most (and at most ``n_ctx``).
        d_vocab: Tokens the model knows; ids are checked against it.

    Raises:
        ConfigError: If there is no such file or a record is not as above (names it), both kinds are mixed, a
            text comes without ``encode``, a token id is not in the vocabulary, a TokenBatch is longer than
            ``n_ctx``, or nothing is left to ask.

    Cost: that of ``encode`` (twice a prompt); files are read line by line, and what is kept is 8 bytes a
    token.

    Example:
        >>> import mechft as mf
        >>> letters = lambda text: [ord(letter) - 97 for letter in text]
        >>> prompts = mf.read_prompts([("ab", "c"), ("b", "c"), ("bc", "a")], letters, n_ctx=8)
        >>> [batch.tokens.tolist() for batch in prompts.batches]
        [[[0, 1, 2], [1, 2, 0]], [[1, 2]]]
        >>> prompts.rows
        ((0, 2), (1,))
    """
    if encode is not None and not callable(encode):
        opened = encode
        encode = None if opened.coder is None else opened.coder.encode
        n_ctx = opened.n_ctx if n_ctx is None else n_ctx
        first_token = opened.first_token if first_token is None else first_token
        d_vocab = int(opened.model.cfg.d_vocab) if d_vocab is None else d_vocab
    require(
        n_ctx is not None,
        "A model's longest input is given with a function that encodes; got no n_ctx. Give it, or what "
        "open_model returned instead of the function.",
    )
    assert n_ctx is not None
    require(n_ctx >= 2, f"n_ctx is a model's longest input, at least 2 tokens; got {n_ctx}.")
    require(window >= 2, f"A window holds at least 2 tokens, one to predict; got {window}.")
    for name, size in (("batch_size", batch_size), ("limit", limit)):
        require(size is None or size >= 1, f"{name} is at least 1; got {size}.")
    if isinstance(data, TokenBatch):
        return _of_batch(data, n_ctx, limit, batch_size, d_vocab)
    rows = _Rows(batch_size, limit, d_vocab)
    texts: Iterator[tuple[str, Record | list[int]]]
    if isinstance(data, Tensor):
        texts, window = _token_rows(data), n_ctx
        encode, first_token = list, None  # these are ids already
    else:
        texts = read_records(data)
    if encode is None:
        raise ConfigError(
            "Texts are tokenised by the model's tokenizer, and there is none. Give one with the model, or "
            "give token ids: a TokenBatch, or an integer tensor [row, pos]."
        )
    kind: Kind | None = None
    for number, (place, record) in enumerate(texts):
        if rows.full:
            rows.counts["stopped"] = 1
            break
        this: Kind = "answers" if isinstance(record, tuple) else "text"
        require(
            kind in (None, this),
            f'Data is of one kind; before {place} it is of the kind "{kind}", there of the kind "{this}". '
            "Give prompts with answers and texts separately.",
        )
        kind = this
        rows.counts["read"] += 1
        if isinstance(record, tuple):
            found = answer_rows(record, encode, n_ctx, first_token, rows.counts)
        else:
            found = text_rows(record, encode, min(window, n_ctx), first_token, rows.counts)
        rows.counts["used"] += bool(found)
        for ids in found:
            rows.add(ids, number, place)
    if kind is None or not rows.counts["rows"]:
        raise ConfigError(
            f"Data holds at least one row to ask; this holds none ({_summary(rows.counts)}). Check it."
        )
    return rows.result(kind)


@dataclass
class _Rows:
    """Rows gathered by length into batches, which are made as soon as they are full."""

    batch_size: int
    limit: int | None
    d_vocab: int | None
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._open: dict[
            int, list[tuple[int, int, list[int]]]
        ] = {}  # by length: order, number, ids
        self._done: list[tuple[int, TokenBatch, tuple[int, ...]]] = []

    @property
    def full(self) -> bool:
        """Whether there are as many rows as there may be."""
        return self.limit is not None and self.counts["rows"] >= self.limit

    def add(self, ids: list[int], number: int, place: str) -> None:
        """Add a row of the record ``number``; beyond the limit it is not taken."""
        if self.full:
            self.counts["stopped"] = 1
            return
        _check_ids(min(ids), max(ids), self.d_vocab, place)
        group = self._open.setdefault(len(ids), [])
        group.append((self.counts["rows"], number, ids))
        self.counts["rows"] += 1
        if len(group) == self.batch_size:
            self._close(self._open.pop(len(ids)))

    def _close(self, group: list[tuple[int, int, list[int]]]) -> None:
        tokens = torch.tensor([ids for _, _, ids in group])
        batch = TokenBatch(tokens, tokens.shape[1] - 2, tokens[:, -1].clone())
        self._done.append((group[0][0], batch, tuple(number for _, number, _ in group)))

    def result(self, kind: Kind) -> Prompts:
        """All rows so far."""
        for group in self._open.values():
            self._close(group)
        self._open = {}
        ordered = sorted(self._done, key=lambda item: item[0])
        return Prompts(
            tuple(batch for _, batch, _ in ordered),
            kind,
            tuple(numbers for _, _, numbers in ordered),
            {name: int(self.counts[name]) for name in COUNTS},
        )


def _of_batch(
    batch: TokenBatch, n_ctx: int, limit: int | None, batch_size: int, d_vocab: int | None
) -> Prompts:
    require(len(batch) > 0, "A batch needs at least one row; got none.")
    length = batch.answer_position + 1
    require(
        length <= n_ctx,
        f"Prompts fit the model's context of {n_ctx} tokens; this batch's have {length}. Shorten them.",
    )
    _check_ids(int(batch.tokens.min()), int(batch.tokens.max()), d_vocab, "the batch")
    n = min(len(batch), limit or len(batch))
    starts = range(0, n, batch_size)
    counts = dict.fromkeys(COUNTS, 0)
    counts |= {"read": n, "used": n, "rows": n, "stopped": int(n < len(batch))}
    return Prompts(
        tuple(batch.rows(slice(i, min(i + batch_size, n))) for i in starts),
        "answers",
        tuple(tuple(range(i, min(i + batch_size, n))) for i in starts),
        counts,
    )


def _token_rows(tokens: Tensor) -> Iterator[tuple[str, list[int]]]:
    whole = not (tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool)
    require(
        whole and tokens.dim() == 2 and tokens.shape[1] >= 2,
        "Token ids are an integer tensor [row, pos] of at least two positions, one to predict; got "
        f"{tokens.dtype} of shape {tuple(tokens.shape)}.",
    )
    return ((f"row {i}", row.tolist()) for i, row in enumerate(tokens))


def _check_ids(smallest: int, largest: int, d_vocab: int | None, place: str) -> None:
    outside = smallest if smallest < 0 else largest
    require(
        smallest >= 0 and (d_vocab is None or largest < d_vocab),
        f"Token ids lie in the model's vocabulary, 0..{(d_vocab or 0) - 1 if d_vocab else ''}; {place} has "
        f"{outside}. Tokenise with the model's own tokenizer.",
    )


def _summary(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {counts[name]}" for name in COUNTS if counts[name]) or "read 0"
