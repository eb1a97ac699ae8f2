"""Conflict: two who want different things quarrel about it, or else find a way without.

Both kinds of stories begin with the same wishes, which cannot all come true at once.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from mechft.tasks.stories.procedural.fork import Fork
from mechft.tasks.stories.procedural.templates import (
    SentencePattern,
    Telling,
    patterns,
    pick,
    sentences,
)

WISHES = (
    "{Day}, {hero} and {friend} both wanted the {toy}.",
    "{Day}, {hero} wanted to play with the {toy}, and so did {friend}.",
    "{Day}, {hero} wanted to {play}, and {friend} wanted to {play2}.",
    "{Day}, {friend} wanted to {play}, but {hero} wanted to {play2}.",
    "{Day}, there was only one {toy}, and both {hero} and {friend} wanted it.",
)
"""What the two want. Nothing here says how it will go on."""

QUARREL = Telling(
    plain=(
        "They shouted at each other, and neither of them would give in.",
        "They had a quarrel, and both were red in the face.",
        "{hero} pushed {friend}, and {friend} pushed back.",
        "They had a bad fight about it.",
        "Soon both of them were angry and yelled.",
    ),
    spoken=(
        '"No, we do what I say!" shouted {hero}.',
        '"That is not fair, you are mean!" yelled {friend}.',
        '"I will never play with you again!" shouted {friend}.',
        '"Go away, I was first!" yelled {hero}.',
    ),
)

ACCORD = Telling(
    plain=(
        "They talked about it and took turns.",
        "{hero} let {friend} go first, and then it was the other way round.",
        "They did not fight about it and took turns.",
        "So {friend} smiled and let {hero} choose.",
        "Nobody was angry, for they found a way that both of them liked.",
    ),
    spoken=(
        '"You can be first," said {hero} with a smile.',
        '"Let us take turns," said {friend}, and so they did.',
        '"We can do what you like," said {friend} kindly.',
        '"Today it is your turn, and tomorrow it is mine," said {hero}.',
    ),
)

AFTERMATH = (
    "In the end they said sorry.",
    "They did not talk to each other for an hour.",
    "At last Mom came and told them to stop.",
    "Both of them had tears in their eyes.",
    *[""] * 4,
)
"""After a quarrel: some are made up, some are not."""

_QUARRELS = patterns(QUARREL.all)
_ACCORDS = patterns(ACCORD.all)
_WISHES = patterns(WISHES)


def draw_conflict(rng: random.Random, conflict: bool, spoken: bool) -> str:
    """Template of the wishes and what came of them."""
    told = pick(rng, (QUARREL if conflict else ACCORD).of(spoken))
    text = f"{pick(rng, WISHES)} {told}"
    return f"{text} {pick(rng, AFTERMATH)}".strip() if conflict else text


def read_conflict(sentences: list[str]) -> bool | None:
    """Whether the sentences tell of a quarrel; None if of neither a quarrel nor an agreement."""
    if any(pattern.matches(sentence) for sentence in sentences for pattern in _QUARRELS):
        return True
    agree = any(pattern.matches(sentence) for sentence in sentences for pattern in _ACCORDS)
    return False if agree else None


def find_outcome(text: str) -> Fork | None:
    """The decisive place of a story, as regards Conflict: the sentence that tells how it went.

    The other sentence is one of the other outcome, in the same voice, that opens with the same letters
    ("They shouted …" and "They talked …"), so that none of them can be told by its first word; where
    several do, which is drawn by the text. None if there is no such pair: neither outcome is told, the
    wishes before it are missing, or nothing of the other outcome opens like it ("Nobody was angry …").

    Cost: as ``read_features``.
    """
    names: dict[str, str] = {}
    end = 0
    for sentence in sentences(text):
        start = text.index(sentence, end)
        end = start + len(sentence)
        wish = _first_read(_WISHES, sentence)
        if wish is not None:
            names = wish[1]
        elif names and (told := _first_read((*_QUARRELS, *_ACCORDS), sentence)):
            template = told[0]
            has = template in QUARREL.all
            others = _alike(template, ACCORD if has else QUARREL)
            if not others:
                return None
            other = pick(random.Random(text), others).format_map(names)
            return Fork(start, sentence, other, has)
    return None


def _first_read(
    known: Sequence[SentencePattern], sentence: str
) -> tuple[str, dict[str, str]] | None:
    """The first template that a sentence is of, and what stands in its slots."""
    for pattern in known:
        slots = pattern.read(sentence)
        if slots is not None:
            return pattern.template, dict(slots)
    return None


def _alike(template: str, telling: Telling) -> list[str]:
    """The templates in the same voice that open with as many of its letters as any, and with one at least."""
    same_voice = telling.of(template in QUARREL.spoken + ACCORD.spoken)
    shared = {other: _letters_shared(template, other) for other in same_voice}
    most = max(shared.values())
    return [other for other, length in shared.items() if length == most > 0]


def _letters_shared(one: str, other: str) -> int:
    """How many letters two texts begin with alike."""
    return next(i for i, (a, b) in enumerate(zip(one + "\0", other + "\1", strict=False)) if a != b)
