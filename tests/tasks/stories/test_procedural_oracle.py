"""The oracle reads every feature off the text; a linear classifier of its words cannot read Twist."""

from __future__ import annotations

import random
import re
from collections import Counter
from itertools import combinations, pairwise

import pytest
import torch

from mechft.errors import UnknownNameError
from mechft.tasks.stories.procedural import ProceduralStories, has_feature, read_features
from mechft.tasks.stories.procedural.templates import SentencePattern, sentences
from mechft.tasks.stories.record import FEATURES, StoryRecord

EVEN = ProceduralStories(dict.fromkeys(FEATURES, 0.5))


@pytest.fixture(scope="module")
def many() -> list[StoryRecord]:
    return list(EVEN.stories(4500, seed=1))


def test_oracle_agrees_with_truth(many: list[StoryRecord]) -> None:
    for record in many[:4000]:
        assert read_features(record.story) == record.truth, record.story


def test_oracle_agrees_on_every_combination() -> None:
    for size in range(7):
        for wanted in combinations(FEATURES, size):
            for seed in range(5):
                record = EVEN.story(random.Random(seed), wanted)
                assert read_features(record.story) == record.truth, record.story


def test_a_twist_changes_nothing_but_the_answer() -> None:
    """From the same random numbers: same set-up, and in the end the candidates have changed places."""
    same_words = 0
    for seed in range(300):
        plain = EVEN.story(random.Random(seed), ("Dialogue",)).story
        twist = EVEN.story(random.Random(seed), ("Dialogue", "Twist")).story
        *beginning, end = plain.split("\n")
        *same, other_end = twist.split("\n")
        assert beginning == same and end != other_end
        changed = [
            (a, b) for a, b in zip(sentences(end), sentences(other_end), strict=True) if a != b
        ]
        assert 1 <= len(changed) <= 2, "only sentences that name the answer"
        bags = [Counter(re.findall(r"\w+", text.lower())) for text in (plain, twist)]
        same_words += bags[0] == bags[1]
    assert same_words > 50, "often the two stories even have the same words"


@pytest.mark.parametrize(
    ("text", "twist"),
    [
        ("Mia was sure that the cat had taken the cake. It was the dog!", True),
        ("Mia was sure that the cat had taken the cake. It was the cat!", False),
        ("Mia was sure that the cat had taken the cake. The dog had taken the cake.", True),
        ("Mia was sure that the cat had taken the cake. The cat had taken the pudding.", False),
        (
            "Could it be the dog? No, everyone agreed that the cat took the cake. It was the dog.",
            True,
        ),
        (
            "It was not the dog. Mia thought that the cat had taken the cake. It was not the dog.",
            None,
        ),
        ('"It must be the cat and not the dog," said Tom. "It was not the cat," said Mia.', None),
        (
            '"It must be the cat and not the dog," said Tom. "Look, the dog took it!" cried Mia.',
            True,
        ),
        ('"Not the dog! It must be the cat," said Tom. There sat the cat with the pie.', False),
        # Somebody nobody had thought of.
        ("Mia was sure that the cat had taken the cake. It was the bear!", True),
        # The answer comes before the question, or is of another plot, or there is none.
        ("It was the dog! Mia was sure that the cat had taken the cake.", None),
        ("Mia was sure that the cat had taken the cake. It was under the bed!", None),
        ("Mia was sure that the cat had taken the cake. It was a sunny day!", None),
        ("Mia was sure that the cat had taken the cake.", None),
        ("It was the dog!", None),
        ("", None),
        # Contradictions.
        (
            "Mia was sure that the cat had taken the cake. Tom thought that the dog had taken the "
            "cake. It was the dog!",
            None,
        ),
        ("Mia was sure that the cat had taken the cake. It was the dog! It was the cat!", None),
        # What somebody does not believe, or believed first, is not expected.
        (
            "At first, Tom thought that the dog had taken the cake. Then both of them were sure that "
            "the cat had taken the cake. It was the dog!",
            True,
        ),
        (
            "Tom did not think that the path went to a cave. He was sure that the path went to a lake. "
            "At the end of the path was a lake.",
            False,
        ),
        ("Tim said hello. Some said that the ring was by the well. It was by the well!", None),
        # Candidates with a capital, and with names that two plots share.
        ("Mia was sure that the ring was by the well. By the well lay the ring.", False),
        ("Mia was sure that the noise came from a goat. In the barn sat a cow.", True),
        ("Mia was sure that a goat had made the tracks. It was a goat.", False),
    ],
)
def test_twist_by_hand(text: str, twist: bool | None) -> None:
    assert has_feature(text, "Twist") is twist


END = "It was the best day of the year."


@pytest.mark.parametrize(
    ("text", "feature", "found"),
    [
        (
            "One board of the porch was loose. Suddenly, a board of the porch broke under Tom.",
            "Foreshadowing",
            True,
        ),
        (
            f"Suddenly, a board of the porch broke under Tom. One board of the porch was loose. {END}",
            "Foreshadowing",
            False,
        ),
        (
            f"One board of the porch was loose. Suddenly, a bee stung Tom on the nose. {END}",
            "Foreshadowing",
            False,
        ),
        (f"Suddenly, a bee stung Tom on the nose. {END}", "Foreshadowing", False),
        ("One board of the porch was loose. Then Tom", "Foreshadowing", None),
        ("Mia pushed Tom, and Tom pushed back.", "Conflict", True),
        ("They talked about it and took turns.", "Conflict", False),
        ("They talked about it and took turns. They had a bad fight about it.", "Conflict", True),
        ("They did not fight about it and took turns.", "Conflict", False),
        ("They both wanted the red ball.", "Conflict", None),
        ("Tom cried all night.", "BadEnding", True),
        ("Tom smiled all day.", "BadEnding", False),
        ("Tom cried all night. Tom smiled all day.", "BadEnding", False),
        ("Tom went home.", "BadEnding", None),
        (f"{END} So they learned that cats are nice.", "MoralValue", True),
        ('"Now I know that it is good to be kind," said Tom.', "MoralValue", True),
        (END, "MoralValue", False),
        ("Once upon a time", "MoralValue", None),
        ("Tom said hello.", "Dialogue", False),
        ('"Hello," said Tom.', "Dialogue", True),
    ],
)
def test_other_features_by_hand(text: str, feature: str, found: bool | None) -> None:
    assert has_feature(text, feature) is found


def test_sentences_of_different_stories_mix(many: list[StoryRecord]) -> None:
    """A model may begin one story and go on with another: what counts is where the sentences are."""
    for first, second in zip(many[:200], many[200:400], strict=True):
        mixed = first.story.split("\n")[0] + " " + " ".join(second.story.split("\n")[1:])
        found = read_features(mixed)
        assert second.truth is not None
        for name in ("Twist", "BadEnding", "MoralValue", "Conflict"):
            assert found[name] is second.truth[name]


def test_broken_off_stories_are_not_judged(many: list[StoryRecord]) -> None:
    for record in many[:200]:
        found = read_features(record.story.split("\n")[0])
        assert {name for name, value in found.items() if value is not None} == {"Dialogue"}


def test_unknown_feature() -> None:
    with pytest.raises(UnknownNameError, match=r"'Twists'. Did you mean 'Twist'"):
        has_feature("A story.", "Twists")


def test_sentences() -> None:
    text = '"Who is it? Who?" asked Tom. "I see." It was a cat! "Yes," said Mia.\nThe end. And th'
    assert sentences(text) == [
        '"Who is it? Who?" asked Tom.',
        '"I see."',
        "It was a cat!",
        '"Yes," said Mia.',
        "The end.",
    ]


def test_patterns_read_what_templates_write() -> None:
    pattern = SentencePattern('"Not {other}! It must be {guess}," said {friend}.')
    assert pattern.read('"Not a cat! It must be a dog," said Tom!') == {
        "other": "a cat",
        "guess": "a dog",
        "friend": "Tom",
    }
    assert pattern.read('"Not a cat! It must be a dog," said the man.') is None
    assert SentencePattern("They laughed.").matches("They laughed!")


def _features(records: list[StoryRecord], known: dict[str, int]) -> list[torch.Tensor]:
    """Which of the known words and pairs of neighbouring words each story has."""
    rows = []
    for record in records:
        words = re.findall(r"\w+|[^\w\s]", record.story.lower())
        found = {*words, *(f"{a} {b}" for a, b in pairwise(words))}
        rows.append(torch.tensor(sorted(known[item] for item in found if item in known)))
    return rows


def _linear_accuracy(train: list[StoryRecord], test: list[StoryRecord], feature: str) -> float:
    """Held-out accuracy of a logistic regression on words and pairs of words."""
    seen: Counter[str] = Counter()
    for record in train:
        words = re.findall(r"\w+|[^\w\s]", record.story.lower())
        seen.update({*words, *(f"{a} {b}" for a, b in pairwise(words))})
    kept = (item for item, n in seen.items() if n >= 4)
    known = {item: place for place, item in enumerate(kept)}

    def data(records: list[StoryRecord]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        rows = _features(records, known)
        starts = torch.tensor([0, *map(len, rows[:-1])]).cumsum(0)
        wanted = torch.tensor([float(feature in record.features) for record in records])
        return torch.cat(rows), starts, wanted

    weights = torch.nn.EmbeddingBag(len(known), 1, mode="sum")
    torch.nn.init.zeros_(weights.weight)
    optimiser = torch.optim.Adam(weights.parameters(), lr=0.04)
    items, starts, wanted = data(train)
    for _ in range(40):
        scores = weights(items, starts).squeeze(1)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(scores, wanted)
        loss = loss + 2e-4 * weights.weight.square().sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    items, starts, wanted = data(test)
    with torch.no_grad():
        right = (weights(items, starts).squeeze(1) > 0) == (wanted > 0.5)
    return float(right.float().mean())


def test_words_do_not_tell_a_twist(many: list[StoryRecord]) -> None:
    """At chance (0.5 + 4.5 deviations), where the same classifier reads BadEnding and the oracle all."""
    train, test = many[:3000], many[3000:]
    assert _linear_accuracy(train, test, "BadEnding") > 0.98
    assert _linear_accuracy(train, test, "Twist") < 0.56
    assert all(has_feature(r.story, "Twist") is ("Twist" in r.features) for r in test)
