"""A story record as the text a model sees: the layout of TinyStories-Instruct.

::

    Words: quit, oak, gloomy
    Features: Dialogue, Twist
    Summary: Two children want different things, and find a way.
    Random sentence: The sky was grey.
    Story:␣

    The first paragraph.
    The second one.
    <|endoftext|>

The parts of the instruction stand in any order, and any of them may be absent. ``Story:`` has a space
behind it and an empty line below it (roneneldan/TinyStoriesInstruct). The paper's own layout, made from
the JSON shards, differs in two details: it says ``Sentence:``, and the story begins right behind its label.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass

from mechft.errors import require
from mechft.randomness import derive_seed
from mechft.tasks.stories.record import StoryRecord

END = "<|endoftext|>"
"""Ends every record, in the text file and in the tokens a model sees."""

STORY_LABEL = "Story: \n\n"
"""Stands between the instruction and the story."""

PARTS = {
    "features": "Features",
    "words": "Words",
    "summary": "Summary",
    "sentence": "Random sentence",
}
"""Fields of a record that make up its instruction, and what they are called in the text."""


@dataclass(frozen=True)
class RenderedStory:
    """A record as text, in the two pieces whose boundary matters.

    Attributes:
        prompt: The instruction, up to and including ``Story:`` and its newlines.
        completion: What a model is to write: the story, a newline and the end marker.
    """

    prompt: str
    completion: str

    @property
    def text(self) -> str:
        """Both pieces: the whole document."""
        return self.prompt + self.completion


def prompt(record: StoryRecord, rng: random.Random) -> str:
    """The instruction of a record, up to and including ``Story:`` and its newlines.

    Args:
        record: Its story is not looked at. Newlines and runs of spaces within a part become one space, as
            a part is one line.
        rng: Shuffles the parts that are present. It is drawn from even if there is only one, so that the
            order of later records does not depend on what earlier ones lack.

    Raises:
        ConfigError: If a part holds the end marker.
    """
    lines = []
    order = list(PARTS)
    rng.shuffle(order)
    for name in order:
        value = getattr(record, name)
        text = " ".join((value if isinstance(value, str) else ", ".join(value)).split())
        if text:
            lines.append(f"{PARTS[name]}: {text}\n")
    written = "".join(lines) + STORY_LABEL
    _check_no_end(written, "An instruction")
    return written


def story_prompts(records: Iterable[StoryRecord]) -> list[str]:
    """The instructions of records, each with its parts in an order of its own: what models are to continue.

    Args:
        records: Their stories are not looked at.

    Returns:
        A text each, up to and including ``Story:`` and its newlines. The order of a record's parts depends
        on its place among the records, and on nothing else.

    Raises:
        ConfigError: If a part holds the end marker.

    Example:
        >>> import mechft as mf
        >>> record = mf.StoryRecord("Tim found a red ball.", features=("Twist",), words=("ball", "red"))
        >>> print(mf.story_prompts([record])[0].rstrip())
        Features: Twist
        Words: ball, red
        Story:
    """
    return [
        prompt(record, random.Random(derive_seed(place, "story prompt")))
        for place, record in enumerate(records)
    ]


def completion(record: StoryRecord) -> str:
    """The story of a record with its end: what a model that got the prompt is to write.

    Raises:
        ConfigError: If the story holds the end marker.
    """
    _check_no_end(record.story, "A story")
    return f"{record.story.strip()}\n{END}"


def render(record: StoryRecord, rng: random.Random) -> RenderedStory:
    """A record as text: the prompt with its parts shuffled by ``rng``, and the completion.

    A file in the public format is ``render(record, rng).text`` and a newline for every record; ``read_text``
    reads it back. Not every record survives that: words with a comma in them come back as two, and a line of
    the story that looks like a part ("Summary: …") can be taken for one.

    Raises:
        ConfigError: If instruction or story holds the end marker.
    """
    return RenderedStory(prompt(record, rng), completion(record))


def _check_no_end(text: str, what: str) -> None:
    require(
        END not in text,
        f"{what} does not hold the end marker {END}, which would end the record there; got "
        f"{text[:80]!r}. Cut the text at the marker.",
    )
