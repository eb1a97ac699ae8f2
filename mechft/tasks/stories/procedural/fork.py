"""Where a story says whether it has a feature: up to there, stories with it and without are told alike.

What a model expects next at such a place is its decision, and can be asked for like any other answer.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fork:
    """The decisive place of a story.

    Attributes:
        place: Where in the text the deciding words begin.
        answer: These words, as they are written.
        other: What would have made it a story of the other kind, in their place.
        has: Whether the story has the feature.
    """

    place: int
    answer: str
    other: str
    has: bool
