"""BadEnding and MoralValue: how a story ends, and what is learned from it."""

from __future__ import annotations

import random

from mechft.tasks.stories.procedural.plot import Plot
from mechft.tasks.stories.procedural.plots import PLOTS
from mechft.tasks.stories.procedural.templates import Telling, patterns, pick

GOOD = Telling(
    plain=(
        "{hero} and {friend} laughed and were happy.",
        "{hero} smiled all day.",
        "It was the best day of the year.",
        "{friend} clapped and danced for joy.",
        "Everyone was glad and proud.",
    ),
    spoken=(
        '"What a lovely day!" said {friend}.',
        '"I am so happy!" said {hero}.',
        '"This is the best day ever," said {friend}.',
    ),
)

BAD = Telling(
    plain=(
        "{hero} and {friend} cried and were sad.",
        "{hero} cried all night.",
        "It was the worst day of the year.",
        "{friend} sat down and cried for a long time.",
        "Nobody smiled for many days.",
    ),
    spoken=(
        '"What a terrible day!" said {friend}.',
        '"I am so sad!" said {hero} and cried.',
        '"This is the worst day ever," said {friend}.',
    ),
)

MORAL = Telling(
    plain=(
        "{hero} learned that {lesson}.",
        "From that day on, {hero} knew that {lesson}.",
        "So they learned that {lesson}.",
        "{hero} and {friend} never forgot that {lesson}.",
        "It taught them that {lesson}.",
    ),
    spoken=(
        '"Now I know that {lesson}," said {hero}.',
        '"We have learned that {lesson}," said {friend}.',
        '"Never forget that {lesson}," said Mom.',
    ),
)

LESSONS = (
    "friends should help each other",
    "it is important to be kind",
    "it is good to be careful",
    "a true friend stays with you",
    "it is fine to ask for help",
    "two can do more than one",
    "it is good to listen to each other",
    "kind words cost nothing",
    "a good friend is better than gold",
    "nobody has to be alone with a problem",
    "asking is better than waiting",
    "you should never give up",
)
"""Lessons that any of the stories can teach."""

QUARREL_LESSONS = ("sharing is better than fighting", "angry words help nobody")
ACCORD_LESSONS = ("sharing makes everything easier", "it is good to take turns")

_GOOD = patterns((*GOOD.all, *(text for plot in PLOTS for text in plot.good)))
_BAD = patterns((*BAD.all, *(text for plot in PLOTS for text in plot.bad)))
_MORAL = patterns(MORAL.all)


def draw_ending(rng: random.Random, plot: Plot, bad: bool, spoken: bool) -> str:
    """Template of how the plot ends, or how they feel about it, or both; a bad end is always told."""
    outcome = pick(rng, plot.bad if bad else plot.good)
    mood = pick(rng, (BAD if bad else GOOD).of(spoken))
    kind = rng.random()
    if kind < 0.35 and not bad:
        return mood
    return outcome if kind < 0.7 and not spoken else f"{outcome} {mood}"


def draw_lesson(rng: random.Random, plot: Plot, conflict: bool) -> str:
    """What is learned: from the plot, from how they got on, or something that is always true."""
    kind = rng.random()
    if kind < 0.25:
        return pick(rng, plot.lessons)
    if kind < 0.4:
        return pick(rng, QUARREL_LESSONS if conflict else ACCORD_LESSONS)
    return pick(rng, LESSONS)


def read_bad_ending(sentences: list[str]) -> bool | None:
    """Whether the last sentence that tells an ending tells a bad one; None if none does."""
    for sentence in reversed(sentences):
        if any(pattern.matches(sentence) for pattern in _BAD):
            return True
        if any(pattern.matches(sentence) for pattern in _GOOD):
            return False
    return None


def read_moral(sentences: list[str]) -> bool:
    """Whether one of the sentences says that somebody learned something."""
    return any(pattern.matches(sentence) for sentence in sentences for pattern in _MORAL)
