"""What finds the decisive place of a story (``Fork``), for the features that have one."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mechft.tasks.stories.procedural.conflict import find_outcome
from mechft.tasks.stories.procedural.fork import Fork
from mechft.tasks.stories.procedural.reveal import find_reveal

FORKS: Mapping[str, Callable[[str], Fork | None]] = {
    "Twist": find_reveal,
    "Conflict": find_outcome,
}
"""By feature; each takes the text of a procedural story."""
