"""A story with its instruction: what readers and the generator yield, and everything else takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mechft.errors import require, unknown_name

FEATURES = ("Twist", "Foreshadowing", "Dialogue", "BadEnding", "MoralValue", "Conflict")
"""What an instruction can ask a story to have (PAPER.md, Setup 3), as TinyStories-Instruct spells it."""


@dataclass(frozen=True)
class StoryRecord:
    """One story, and the instruction it was written to.

    Attributes:
        story: Its text, paragraphs apart by newlines, without space around it.
        features: What the instruction asks for, in its order: names of ``FEATURES``, each at most once.
        words: Words the instruction asks for.
        summary: The instruction's summary; empty if it has none.
        sentence: A sentence the instruction asks for; empty if it asks for none.
        truth: For every feature whether the story has it, whatever the instruction says; None if nobody
            knows, as with stories written by people and models.

    Raises:
        ConfigError: If the story is empty, a feature comes twice, or ``truth`` leaves one out.
        UnknownNameError: If a feature is not one of ``FEATURES``.

    Example:
        >>> import mechft as mf
        >>> record = mf.StoryRecord("Tim found a red ball.", features=("Dialogue", "Twist"), words=("ball",))
        >>> record.features, record.truth
        (('Dialogue', 'Twist'), None)
        >>> mf.StoryRecord("Tim ran.", features=("Cliffhanger",))
        Traceback (most recent call last):
        mechft.errors.UnknownNameError: Unknown story feature 'Cliffhanger'. ...
    """

    story: str
    features: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    summary: str = ""
    sentence: str = ""
    truth: Mapping[str, bool] | None = None

    def __post_init__(self) -> None:
        require(bool(self.story.strip()), "A record has a story; got an empty one.")
        for name in (*self.features, *(self.truth or ())):
            if name not in FEATURES:
                raise unknown_name("story feature", name, FEATURES)
        require(
            len(set(self.features)) == len(self.features),
            f"An instruction names a feature once; got {', '.join(self.features)}.",
        )
        require(
            self.truth is None or len(self.truth) == len(FEATURES),
            f"What is true of a story says so of every feature; got {dict(self.truth or {})}.",
        )
