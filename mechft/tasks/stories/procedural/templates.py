"""Sentences with slots: filled in to write a story, turned round into patterns to read one.

A template is a format string of one or more sentences, such as ``"It was not {rest}. It was {answer}."``.
The generator fills it; the oracle matches single sentences against the patterns made of it. As both use
the same template, no story can be written that cannot be read.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

T = TypeVar("T")

# Quoted speech is one piece, whatever stands in it. It ends a sentence if its own last mark does and what
# follows begins with a capital: '"Who is it?" asked Tom.' is one sentence.
_SENTENCE = re.compile(r'(?:"[^"\n]*"|[^".!?\n])+?(?:[.!?]+|(?<=[.!?]")(?=\s+["A-Z]|\s*$))', re.M)
_SLOT = re.compile(r"\{(\w+)\}")

_NAME = r"(?!Nobody\b|There\b)[A-Z][a-z]+"
_SHAPES = dict.fromkeys(("hero", "friend", "He", "Fhe"), _NAME) | {"It": "It|The winner"}
"""What may stand in a slot; where nothing is said, anything up to what follows it."""


@dataclass(frozen=True)
class Telling:
    """Ways to tell one thing: told by the narrator, or with somebody's words in quotation marks.

    Attributes:
        plain: Templates without direct speech.
        spoken: Templates with it; empty if nobody says anything here.
    """

    plain: tuple[str, ...]
    spoken: tuple[str, ...] = ()

    def of(self, spoken: bool) -> tuple[str, ...]:
        """The templates of one kind."""
        return self.spoken if spoken else self.plain

    @property
    def all(self) -> tuple[str, ...]:
        """The templates of both kinds."""
        return self.plain + self.spoken


@dataclass(frozen=True)
class SentencePattern:
    """What one sentence of a template looks like, whatever stands in its slots.

    Attributes:
        template: One sentence, with slots. A "But" at its beginning may be missing.
    """

    template: str

    @cached_property
    def _literal(self) -> str:
        """The longest piece between slots: a sentence without it cannot match, and that is soon seen."""
        return max(_SLOT.sub("\n", self.template).rstrip(".!?").split("\n"), key=len)

    @cached_property
    def _regex(self) -> re.Pattern[str]:
        parts, seen = [], set()
        body, spoken = self.template.rstrip('"'), self.template.endswith('"')
        for place, part in enumerate(_SLOT.split(body.rstrip(".!?"))):
            if place % 2 == 0:
                # "But" joins a sentence to the one before it, which a model may leave out.
                parts.append("(?:But )?" if part == "But " else re.escape(part))
                continue
            shape = _SHAPES.get(part, ".+?")
            parts.append(f"(?:{shape})" if part in seen else f"(?P<{part}>{shape})")
            seen.add(part)
        return re.compile("".join(parts) + "[.!?]" + '"' * spoken)

    def matches(self, sentence: str) -> bool:
        """Whether a sentence is one of these; the mark at its end may be any."""
        return self.read(sentence) is not None

    def read(self, sentence: str) -> Mapping[str, str] | None:
        """What stands in the slots of a sentence, or None if it is not one of these."""
        if self._literal not in sentence:
            return None
        found = self._regex.fullmatch(sentence)
        return found.groupdict() if found else None


def patterns(templates: Iterable[str], *slots: str) -> tuple[SentencePattern, ...]:
    """The sentences of templates as patterns, each once.

    Args:
        templates: Where the sentences come from.
        slots: Only sentences that have one of these slots; with none given, all sentences.
    """
    found = dict.fromkeys(
        sentence
        for template in templates
        for sentence in sentences(template)
        if not slots or any(f"{{{slot}}}" in sentence for slot in slots)
    )
    return tuple(SentencePattern(sentence) for sentence in found)


def sentences(text: str) -> list[str]:
    """The sentences of a text, without the space between them.

    What follows the last mark of a text that breaks off is no sentence.
    """
    return [sentence.strip() for sentence in _SENTENCE.findall(text)]


def pick(rng: random.Random, items: Sequence[T]) -> T:
    """One of the items; what ``rng.choice`` is for, but faster and by ``rng.random`` alone.

    Python promises the same ``random()`` for a seed in every version, and nothing for ``choice``.
    """
    return items[int(rng.random() * len(items))]


def listed(text: str) -> tuple[str, ...]:
    """The items of a list written with commas: ``listed("the cat, the dog")``."""
    return tuple(text.split(", "))


def capital(text: str) -> str:
    """The text with a capital at its beginning and the rest as it was."""
    return text[:1].upper() + text[1:]


def with_article(phrase: str) -> str:
    """The phrase behind "a" or "an"; by its first letter, which is right for the words used here."""
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase
