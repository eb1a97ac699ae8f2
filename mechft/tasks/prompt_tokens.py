"""What is asked about one record: a text in windows, a prompt up to the first token of its answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import takewhile
from typing import Any

Encode = Callable[[Any], list[int]]
"""From a text to token ids, as a tokenizer's ``encode``; from token ids to themselves, ``list``."""


def windows(ids: list[int], size: int, first_token: int | None) -> list[list[int]]:
    """A text's tokens in windows of at most ``size``, each token but the first predicted exactly once."""
    if first_token is None:
        # Each but the first begins with the last token of the one before, which is its first context.
        return [ids[i : i + size] for i in range(0, len(ids) - 1, size - 1)]
    body = ids[1:] if ids[:1] == [first_token] else ids
    return [[first_token, *body[i : i + size - 1]] for i in range(0, len(body), size - 1)]


def text_rows(
    text: str | list[int],
    encode: Encode,
    size: int,
    first_token: int | None,
    counts: Counter[str],
) -> list[list[int]]:
    """A text's ``windows``, none if there is nothing to predict; what became of it is counted."""
    if isinstance(text, str) and not text.strip():
        counts["empty"] += 1
        return []
    found = windows(encode(text), size, first_token)
    counts["too_short"] += not found
    counts["split"] += len(found) > 1
    return found


def answer_rows(
    record: tuple[str, str],
    encode: Encode,
    n_ctx: int,
    first_token: int | None,
    counts: Counter[str],
) -> list[list[int]]:
    """A prompt's one row, up to the answer's first token, that included; none if there is nothing to ask.

    The answer's first token is the first of ``encode(prompt + answer)`` that is not one of the prompt's own.
    What became of the record is counted.
    """
    prompt, answer = record
    if not prompt.strip():
        counts["empty"] += 1
        return []
    start = [] if first_token is None else [first_token]
    alone, whole = (
        ids[len(start) :] if ids[: len(start)] == start else ids
        for ids in (encode(prompt), encode(prompt + answer))
    )
    pairs = zip(alone, whole, strict=False)
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    if not answer or shared == len(whole):
        counts["no_answer"] += 1
        return []
    if shared + len(start) == 0:
        counts["too_short"] += 1
        return []
    counts["merged"] += shared < len(alone)
    counts["answers_of_several_tokens"] += len(whole) - shared > 1
    context = whole[:shared]
    room = n_ctx - len(start)
    if len(context) > room:
        counts["cut"] += 1
        context = context[len(context) - room :]
    return [[*start, *context, whole[shared]]]
