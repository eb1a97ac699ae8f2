"""Foreshadowing: an early hint that comes true later.

A hint and a mishap of the same kind make one. Without it a story has neither, or only a hint, or only
a mishap, or a hint of one kind and a mishap of another: neither sentence by itself says which it is.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from mechft.tasks.stories.procedural.templates import patterns, pick


@dataclass(frozen=True)
class Hazard:
    """Something that may go wrong.

    Attributes:
        hints: What can be seen of it early on.
        mishaps: What happens when it goes wrong; makes sense without the hint.
    """

    hints: tuple[str, ...]
    mishaps: tuple[str, ...]


# No hint of one fits a mishap of another: dark clouds and a flood would be foreshadowing that nobody counts.
HAZARDS = (
    Hazard(
        (
            "Far away, dark clouds hung over the hills.",
            "In the distance, big grey clouds came up.",
        ),
        (
            "{Suddenly} it began to rain hard, and they got wet to the skin.",
            "{Suddenly} a storm came up, and the rain soaked their clothes.",
        ),
    ),
    Hazard(
        (
            "One board of the porch was loose.",
            "The porch had a board that moved under the feet.",
        ),
        (
            "{Suddenly} a board of the porch broke under {hero}.",
            "{Suddenly} the porch gave way, and {friend} stood in a hole up to the knee.",
        ),
    ),
    Hazard(
        (
            "The rope of the garden swing was old and thin.",
            "The garden swing hung from a rope that was thin in one place.",
        ),
        (
            "{Suddenly} the rope of the garden swing tore, and {friend} fell on the grass.",
            "{Suddenly} the garden swing came down, and {hero} landed in a bush.",
        ),
    ),
    Hazard(
        (
            "A long branch over the roof creaked now and then.",
            "The tree beside the house had one dry branch that creaked.",
        ),
        (
            "{Suddenly} a branch fell down right beside {hero}.",
            "{Suddenly} a big branch broke and fell on the roof.",
        ),
    ),
    Hazard(
        (
            "One wheel of the little wagon shook a bit.",
            "There was a little wagon in the yard, and one of its wheels was loose.",
        ),
        (
            "{Suddenly} a wheel came off the little wagon, and everything in it fell out.",
            "{Suddenly} the little wagon lost a wheel and turned over.",
        ),
    ),
    Hazard(
        (
            "The gate of the field did not close well.",
            "Somebody had not shut the gate of the field.",
        ),
        (
            "{Suddenly} the cows came through the gate and ran across the garden.",
            "{Suddenly} the gate of the field flew open, and all the lambs ran out.",
        ),
    ),
    Hazard(
        (
            "There was a thin crack in the milk jug.",
            "The milk jug had a crack that nobody minded.",
        ),
        (
            "{Suddenly} the milk jug broke, and the milk ran over the floor.",
            "{Suddenly} the milk jug fell into two halves in {friend}'s hands.",
        ),
    ),
    Hazard(
        (
            "There was a small hole in {hero}'s pocket.",
            "{hero}'s pocket had a hole, but it was a small one.",
        ),
        (
            "{Suddenly} all the coins fell through {hero}'s pocket and rolled away.",
            "{Suddenly} {hero}'s pocket was empty, for the coins had fallen out.",
        ),
    ),
    Hazard(
        (
            "The third step of the ladder was weak.",
            "There was a ladder at the wall, and one of its steps was bent.",
        ),
        (
            "{Suddenly} a step of the ladder broke, and {friend} slid to the ground.",
            "{Suddenly} the ladder broke, and {hero} fell into the hay.",
        ),
    ),
    Hazard(
        (
            "The shelf in the hall leaned to one side.",
            "There were too many books on the shelf in the hall.",
        ),
        (
            "{Suddenly} the shelf in the hall fell down with a crash.",
            "{Suddenly} there was a crash, and all the books from the shelf lay on the floor.",
        ),
    ),
    Hazard(
        (
            "A few bees flew in and out of a hole in the wall.",
            "From the old wall came the soft hum of bees.",
        ),
        (
            "{Suddenly} a bee stung {hero} on the nose.",
            "{Suddenly} the bees flew out, and one of them stung {friend}.",
        ),
    ),
    Hazard(
        (
            "A bucket of water stood at the very edge of the wall.",
            "Somebody had put a bucket of water on top of the narrow wall.",
        ),
        (
            "{Suddenly} the bucket of water fell from the wall and hit {friend}'s foot.",
            "{Suddenly} the bucket of water turned over, and {hero} was wet all over.",
        ),
    ),
    Hazard(
        (
            "One leg of {friend}'s chair was loose.",
            "{friend}'s chair made a funny sound when somebody sat on it.",
        ),
        (
            "{Suddenly} {friend}'s chair broke, and {friend} sat on the floor.",
            "{Suddenly} a leg of {friend}'s chair came off.",
        ),
    ),
    Hazard(
        (
            "The candle on the table stood close to the curtain.",
            "Somebody had left a candle beside the curtain.",
        ),
        (
            "{Suddenly} the curtain was on fire, and they poured water on it.",
            "{Suddenly} they smelled smoke, for the candle had burned a hole in the curtain.",
        ),
    ),
)

RECOVERIES = (
    "Nobody was hurt, and they went on.",
    "It took them a while to go on.",
    "Luckily, it was not too bad.",
    "They helped each other and went on.",
    *[""] * 5,
)

SUDDENLY = ("Suddenly,", "All at once,", "Just then,", "At that moment,", "Then")

NEITHER, HINT_ONLY, MISHAP_ONLY = 0.35, 0.55, 0.75
"""Without foreshadowing: 35% of stories have neither hint nor mishap, 20% only a hint, 20% only a mishap; the
rest have both, of different kinds."""

_HINTS = [(kind, p) for kind, hazard in enumerate(HAZARDS) for p in patterns(hazard.hints)]
_MISHAPS = [(kind, p) for kind, hazard in enumerate(HAZARDS) for p in patterns(hazard.mishaps)]


def draw_hazards(rng: random.Random, foreshadowing: bool) -> tuple[str, str]:
    """Templates of a hint and of a mishap; empty where a story has none."""
    hinted = pick(rng, HAZARDS)
    happens = hinted
    has_hint = has_mishap = True
    if not foreshadowing:
        kind = rng.random()
        has_hint = NEITHER <= kind < HINT_ONLY or kind >= MISHAP_ONLY
        has_mishap = kind >= HINT_ONLY
        while happens is hinted:
            happens = pick(rng, HAZARDS)
    hint = pick(rng, hinted.hints) if has_hint else ""
    if not has_mishap:
        return hint, ""
    return hint, f"{pick(rng, happens.mishaps)} {pick(rng, RECOVERIES)}".strip()


def read_foreshadowing(sentences: list[str]) -> bool:
    """Whether a hint in the sentences comes true in a later one."""
    hinted: set[int] = set()
    for sentence in sentences:
        if any(kind in hinted and pattern.matches(sentence) for kind, pattern in _MISHAPS):
            return True
        hinted.update(kind for kind, pattern in _HINTS if pattern.matches(sentence))
    return False
