"""Story features by their spellings: from what a file says to the names of ``FEATURES``."""

from __future__ import annotations

import re
from collections.abc import Iterable

from mechft.tasks.stories.counts import ReadCounts
from mechft.tasks.stories.record import FEATURES

_ALIASES = {
    "plottwist": "Twist",
    "badend": "BadEnding",
    "moral": "MoralValue",
    "foreshadow": "Foreshadowing",
}
_KNOWN = {name.lower(): name for name in FEATURES} | _ALIASES


def feature_of(spelling: str) -> str | None:
    """The feature that a spelling stands for, or None.

    Case, spaces, hyphens and a plural's s do not matter: "bad-ending", "Moral values", "PLOT TWIST".
    """
    letters = re.sub(r"[^a-z]", "", spelling.lower())
    return _KNOWN.get(letters) or _KNOWN.get(letters.removesuffix("s"))


def read_features(spellings: Iterable[str], counts: ReadCounts) -> tuple[str, ...]:
    """The features of one record in their order, each once; other spellings are noted in ``counts``.

    ``counts.features`` is left to whoever yields the record.
    """
    names: list[str] = []
    repeated = False
    for spelling in spellings:
        shown = " ".join(spelling.split())
        if not shown:
            continue
        name = feature_of(shown)
        if name is None:
            counts.unknown_features[shown[:40]] += 1
            continue
        if name != shown:
            counts.respelled_features[shown] += 1
        repeated |= name in names
        if name not in names:
            names.append(name)
    counts.repeated_features += repeated
    return tuple(names)
