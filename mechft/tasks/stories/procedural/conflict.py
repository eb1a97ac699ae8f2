"""Conflict: two who want different things quarrel about it, or else find a way without.

Both kinds of stories begin with the same wishes, which cannot all come true at once.
"""

from __future__ import annotations

import random

from mechft.tasks.stories.procedural.templates import Telling, patterns, pick

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
