"""Summaries: one or two sentences that are true of the story."""

from __future__ import annotations

import random
from collections.abc import Mapping

from mechft.tasks.stories.procedural.plot import Plot
from mechft.tasks.stories.procedural.templates import pick

_BEGINNINGS = (
    "{hero} and {friend} want to find out {ask}.",
    "{hero} wants to know {ask}, and {friend} helps.",
    "Two friends, {hero} and {friend}, ask themselves {ask}.",
    "This is about {hero} and {friend}, who wonder {ask}.",
)
_ANSWERS = ("In the end they see that {found}.", "It turns out that {found}.")
_FACTS = {
    "Conflict": (
        ("They quarrel first.", "They have a fight on the same day."),
        ("They get along well.", "They do not fight."),
    ),
    "BadEnding": (
        ("It ends badly.", "In the end they are sad."),
        ("It ends well.", "In the end they are happy."),
    ),
}
"""What can be said of a feature: if a story has it, and if it lacks it."""


def draw_summary(rng: random.Random, plot: Plot, features: Mapping[str, bool]) -> str:
    """Template of a summary; {ask} and {found} are the plot's clauses, filled in."""
    text = pick(rng, _BEGINNINGS)
    kind = rng.random()
    if kind < 0.4:
        return f"{text} {pick(rng, _ANSWERS)}"
    if kind < 0.7:
        feature = pick(rng, tuple(_FACTS))
        return f"{text} {pick(rng, _FACTS[feature][0 if features[feature] else 1])}"
    return text
