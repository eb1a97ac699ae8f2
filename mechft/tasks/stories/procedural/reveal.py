"""Where a story says which of its two candidates it is: the one word that makes a twist or none (``Fork``).

Up to there a story with a twist and one without are told alike (see ``twist``).
"""

from __future__ import annotations

import re

from mechft.tasks.stories.procedural.fork import Fork
from mechft.tasks.stories.procedural.plots import PLOTS
from mechft.tasks.stories.procedural.templates import sentences
from mechft.tasks.stories.procedural.twist import read_expected, read_revealed

_CANDIDATES = {plot.name: plot.candidates for plot in PLOTS}


def find_reveal(text: str) -> Fork | None:
    """The decisive place of a story, as regards Twist: answer and other are its two candidates.

    None if there is none: nothing is expected or revealed, both candidates cannot be told, or one of them is
    named in the same paragraph before the answer ("It was not the cat. It was …"), so that nothing is left
    to decide.

    Cost: as ``read_features``.
    """
    expected: set[tuple[str, str]] = set()
    end = 0
    for sentence in sentences(text):
        start = text.index(sentence, end)
        end = start + len(sentence)
        guess = read_expected(sentence)
        if guess:
            expected = expected & guess if expected else guess
        elif expected and (answers := read_revealed(sentence)):
            return _decisive(text, start, end, expected, answers)
    return None


def _decisive(
    text: str, start: int, end: int, expected: set[tuple[str, str]], answers: set[tuple[str, str]]
) -> Fork | None:
    plots = sorted({plot for plot, _ in expected} & {plot for plot, _ in answers})
    if len(plots) != 1:
        return None
    ((guess,), (answer,)) = (
        [name for plot, name in found if plot == plots[0]] for found in (expected, answers)
    )
    named = {
        name.lower() for name in _CANDIDATES[plots[0]] if _find(name, text[:start]) is not None
    }
    others = {guess} if guess != answer else named - {guess}
    if len(others) != 1:
        return None
    (other,) = others
    paragraph = text.rfind("\n", 0, start) + 1
    place = _find(answer, text[start:end])
    if place is None:
        return None
    place += start
    if any(_find(name, text[paragraph:place]) is not None for name in (answer, other)):
        return None
    written = text[place : place + len(answer)]
    alike = other[:1].upper() + other[1:] if written[:1].isupper() else other
    return Fork(place, written, alike, guess != answer)


def _find(name: str, text: str) -> int | None:
    found = re.search(rf"\b{re.escape(name)}\b", text, re.IGNORECASE)
    return found.start() if found else None
