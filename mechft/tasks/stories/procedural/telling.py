"""Telling one story: the pieces of every feature, drawn and put in order."""

from __future__ import annotations

import random
from collections.abc import Mapping

from mechft.tasks.stories.procedural.cast import FRIENDS, OPENINGS, TOGETHER, draw_cast
from mechft.tasks.stories.procedural.conflict import draw_conflict
from mechft.tasks.stories.procedural.endings import MORAL, draw_ending, draw_lesson
from mechft.tasks.stories.procedural.foreshadowing import SUDDENLY, draw_hazards
from mechft.tasks.stories.procedural.plots import PLOTS
from mechft.tasks.stories.procedural.summary import draw_summary
from mechft.tasks.stories.procedural.templates import capital, pick, with_article
from mechft.tasks.stories.procedural.twist import EXPECTATION, REVEAL, claim

TOGETHER_SHARE, QUESTION_SHARE, SEARCH_SHARE = 0.5, 0.35, 0.4
"""How often both friends are introduced at once, the question is put, and something is done about it."""

_SPOTS = ("conflict", "question", "expectation", "reveal", "ending", "moral")
"""Places of a story where somebody may say something. All stories can have the first five."""


def tell(rng: random.Random, truth: Mapping[str, bool]) -> tuple[str, str]:
    """The text of a story with exactly these features, and a summary.

    Everything but the answer is drawn without looking at whether there is a twist: the same random numbers
    tell two stories that differ in which candidate is which in the sentences of the reveal, and nowhere
    else.

    Args:
        rng: All that is drawn comes from it.
        truth: For every one of ``FEATURES`` whether the story has it.
    """
    cast = draw_cast(rng)
    plot = pick(rng, PLOTS)
    thing = pick(rng, plot.things)
    guess, other = _draw_candidates(rng, plot.candidates, cast.species)
    answer, rest = (other, guess) if truth["Twist"] else (guess, other)
    spoken = _draw_spoken(rng, truth)
    slots = cast.slots | {
        "thing": thing,
        "a_thing": with_article(thing),
        "guess": guess,
        "other": other,
        "answer": answer,
        "rest": rest,
        "Answer": capital(answer),
        "claim": claim(plot.claim, guess, thing),
        "nay": claim(plot.claim, other, thing),
        "said": claim(plot.said, guess, thing),
        "unsaid": claim(plot.said, other, thing),
        "found": claim(plot.found, answer, thing),
        "ask": plot.ask.replace("{thing}", thing),
        "It": plot.it,
        "it": plot.it[0].lower() + plot.it[1:],
        "Suddenly": pick(rng, SUDDENLY),
    }
    hint, mishap = draw_hazards(rng, truth["Foreshadowing"])
    first = (
        [pick(rng, TOGETHER)]
        if rng.random() < TOGETHER_SHARE
        else [pick(rng, OPENINGS), pick(rng, FRIENDS)]
    )
    # Nobody is spoken of before they are introduced.
    first.insert(1 if rng.random() < 0.5 and "{friend}" not in hint else len(first), hint)
    asks = rng.random() < QUESTION_SHARE or spoken["question"]
    second = [
        draw_conflict(rng, truth["Conflict"], spoken["conflict"]),
        pick(rng, plot.event),
        pick(rng, plot.question.of(spoken["question"])) if asks else "",
        pick(rng, EXPECTATION.of(spoken["expectation"])),
    ]
    reveals = (plot.reveal if rng.random() < 0.4 else REVEAL).of(spoken["reveal"])
    third = [
        mishap,
        pick(rng, plot.search) if rng.random() < SEARCH_SHARE else "",
        pick(rng, reveals),
        draw_ending(rng, plot, truth["BadEnding"], spoken["ending"]),
    ]
    if truth["MoralValue"]:
        slots["lesson"] = draw_lesson(rng, plot, truth["Conflict"])
        third.append(pick(rng, MORAL.of(spoken["moral"])))
    text = "\n".join(" ".join(filter(None, part)) for part in (first, second, third))
    summary = draw_summary(rng, plot, truth)
    return text.format_map(slots), summary.format_map(slots)


def _draw_candidates(
    rng: random.Random, candidates: tuple[str, ...], species: tuple[str, ...]
) -> tuple[str, str]:
    """Two different candidates, neither of them an animal like one of the characters."""
    possible = [name for name in candidates if name.rsplit(" ", 1)[-1] not in species]
    guess = other = pick(rng, possible)
    while other == guess:
        other = pick(rng, possible)
    return guess, other


def _draw_spoken(rng: random.Random, truth: Mapping[str, bool]) -> dict[str, bool]:
    """Where somebody speaks: nowhere without dialogue; with it about every second time, and once at least."""
    spoken = {spot: truth["Dialogue"] and rng.random() < 0.5 for spot in _SPOTS}
    if truth["Dialogue"]:
        spoken[pick(rng, _SPOTS[:-1])] = True
    return spoken
