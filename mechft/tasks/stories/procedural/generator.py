"""Short children's stories with instructions, whose features are true by construction."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from mechft.errors import require, unknown_name
from mechft.randomness import derive_seed
from mechft.tasks.stories.procedural.telling import tell
from mechft.tasks.stories.procedural.templates import pick, sentences
from mechft.tasks.stories.procedural.words import draw_words
from mechft.tasks.stories.record import FEATURES, StoryRecord

PROBABILITIES = {
    "Twist": 0.25,
    "Foreshadowing": 0.2,
    "Dialogue": 0.35,
    "BadEnding": 0.2,
    "MoralValue": 0.25,
    "Conflict": 0.2,
}
"""How often each feature is drawn unless said otherwise: 1.45 a story on average."""

_SHARES = ("words_share", "summary_share", "sentence_share")


@dataclass(frozen=True)
class ProceduralStories:
    """An endless supply of stories: a mystery, an expectation, an answer, an ending.

    Features are drawn independently, so that none says anything about another (probes can be compared with
    chance); all 64 combinations can occur. The instruction names exactly those the story has, in random
    order. TinyStories-Instruct names three at most: with the default probabilities 3.2% of the stories
    have more. ``most_features=3`` draws the features again until there are no more than three, which makes
    them slightly dependent (correlations down to −0.05).

    Attributes:
        probabilities: How often a story has each feature; those left out are as in ``PROBABILITIES``.
        words_share: How often the instruction has three words (verb, noun, adjective) of the story.
        summary_share: How often it has a summary.
        sentence_share: How often it has a sentence of the story, drawn at random.
        most_features: The most features a story has, unless ``story`` is asked for more.

    Raises:
        UnknownNameError: If a probability is of no feature.
        ConfigError: If a probability or share is outside 0..1, or ``most_features`` so few that nearly every
            draw would have to be repeated.

    Cost: see ``stories``.

    Example:
        >>> import random
        >>> import mechft as mf
        >>> maker = mf.ProceduralStories()
        >>> story = maker.story(random.Random(0), features=["Twist", "Dialogue"])
        >>> sorted(story.features)  # what the instruction asks for
        ['Dialogue', 'Twist']
        >>> story.truth["Conflict"]
        False
        >>> len(list(maker.stories(3, seed=0)))
        3
    """

    probabilities: Mapping[str, float] = field(default_factory=lambda: dict(PROBABILITIES))
    words_share: float = 0.9
    summary_share: float = 0.5
    sentence_share: float = 0.3
    most_features: int = len(FEATURES)

    def __post_init__(self) -> None:
        for name in self.probabilities:
            if name not in FEATURES:
                raise unknown_name("story feature", name, FEATURES)
        complete = {name: self.probabilities.get(name, PROBABILITIES[name]) for name in FEATURES}
        shares = {name: getattr(self, name) for name in _SHARES}
        for name, value in (complete | shares).items():
            require(
                0 <= value <= 1,
                f"{name} is a probability, in 0..1; got {value}. Choose one in between.",
            )
        few = _at_most(self.most_features, tuple(complete.values()))
        require(
            few >= 0.01,
            "At least one draw of features in a hundred has to have no more than most_features; with "
            f"most_features={self.most_features} it is {few:.2%}. Raise it, or lower probabilities.",
        )
        object.__setattr__(self, "probabilities", complete)

    def stories(self, count: int, seed: int, start: int = 0) -> Iterator[StoryRecord]:
        """Stories number ``start`` to ``start + count - 1`` of a seed's endless stream.

        Story i is a pure function of (this config, seed, i): a stream may be cut anywhere, told by several
        workers, or resumed. Streams of different seeds have nothing to do with each other, so that
        training and test stories are two seeds.

        Raises:
            ConfigError: If ``count`` or ``start`` is negative.

        Cost: about 0.1 ms of CPU time a story.
        """
        require(
            count >= 0 and start >= 0,
            f"Stories are counted from 0; got count={count}, start={start}. Give two numbers from 0 on.",
        )
        return (
            self.story(random.Random(derive_seed(seed, "stories", i)))
            for i in range(start, start + count)
        )

    def story(self, rng: random.Random, features: Iterable[str] | None = None) -> StoryRecord:
        """One story.

        Args:
            rng: All that is drawn comes from it.
            features: The features it is to have, and it has no other; drawn if None.

        Raises:
            UnknownNameError: If a feature is not one of ``FEATURES``.
        """
        truth = self._draw_features(rng) if features is None else _as_truth(features)
        text, summary = tell(rng, truth)
        asked = [name for name in FEATURES if truth[name]]
        order = sorted((rng.random(), name) for name in asked)
        has_words, has_summary, has_sentence = (
            rng.random() < share for share in (getattr(self, name) for name in _SHARES)
        )
        return StoryRecord(
            story=text,
            features=tuple(name for _, name in order),
            words=draw_words(rng, text) if has_words else (),
            summary=summary if has_summary else "",
            sentence=pick(rng, sentences(text)) if has_sentence else "",
            truth=truth,
        )

    def _draw_features(self, rng: random.Random) -> dict[str, bool]:
        while True:
            truth = {name: rng.random() < p for name, p in self.probabilities.items()}
            if sum(truth.values()) <= self.most_features:
                return truth


def _at_most(most: int, probabilities: tuple[float, ...]) -> float:
    """The probability that no more than ``most`` of independent features are true."""
    counts = [1.0]  # counts[n]: the probability of n features among those seen so far
    for p in probabilities:
        counts = [
            one * (1 - p) + other * p
            for one, other in zip([*counts, 0.0], [0.0, *counts], strict=True)
        ]
    return sum(counts[: max(most + 1, 0)])


def _as_truth(features: Iterable[str]) -> dict[str, bool]:
    wanted = set(features)
    for name in sorted(wanted):
        if name not in FEATURES:
            raise unknown_name("story feature", name, FEATURES)
    return {name: name in wanted for name in FEATURES}
