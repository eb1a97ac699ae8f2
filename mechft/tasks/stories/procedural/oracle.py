"""The generator's rule, applied to a text alone: which features does this story have?

It reads sentence by sentence, with the patterns made of the generator's own templates. So it can also score
the texts of a model that was trained on such stories, and mixes their sentences in its own way.
"""

from __future__ import annotations

from collections.abc import Mapping

from mechft.errors import unknown_name
from mechft.tasks.stories.procedural.conflict import read_conflict
from mechft.tasks.stories.procedural.endings import read_bad_ending, read_moral
from mechft.tasks.stories.procedural.foreshadowing import read_foreshadowing
from mechft.tasks.stories.procedural.templates import sentences
from mechft.tasks.stories.procedural.twist import read_twist
from mechft.tasks.stories.record import FEATURES


def read_features(text: str) -> Mapping[str, bool | None]:
    """Every feature of a story: whether it has it, or None if the text does not let one tell.

    - Twist: the answer revealed is not the one that was expected. None without an expectation or an answer
      to it, or if the text contradicts itself about either. An answer that nobody had thought of is one.
    - Foreshadowing: a hint is followed by a mishap of its kind. MoralValue: somebody learns something. Both:
      True if it stands there; if not, False in a text that comes to an ending and None in one that does not.
    - Dialogue: somebody's words stand in quotation marks. Never None.
    - BadEnding: by the last sentence that tells how it ends. Conflict: there is a quarrel. Both: None if
      the text tells neither that nor its opposite.

    Args:
        text: The story, without its instruction.

    Cost: about 0.4 ms for a story of 125 words.

    Example:
        >>> import mechft as mf
        >>> text = "One day, Tom and Mia both wanted the ball. They had a bad fight about it."
        >>> found = mf.read_features(text)  # which breaks off before it tells anything else
        >>> found["Conflict"], found["Dialogue"], found["Twist"]
        (True, False, None)
    """
    parts = sentences(text)
    bad = read_bad_ending(parts)
    absent = None if bad is None else False  # a text that breaks off might still have come to it
    return {
        "Twist": read_twist(parts),
        "Foreshadowing": read_foreshadowing(parts) or absent,
        "Dialogue": '"' in text,
        "BadEnding": bad,
        "MoralValue": read_moral(parts) or absent,
        "Conflict": read_conflict(parts),
    }


def has_feature(text: str, feature: str) -> bool | None:
    """Whether a story has one feature; None if the text does not let one tell (see ``read_features``).

    Raises:
        UnknownNameError: If it is not one of ``FEATURES``.
    """
    if feature not in FEATURES:
        raise unknown_name("story feature", feature, FEATURES)
    return read_features(text)[feature]
