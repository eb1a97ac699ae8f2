"""Procedural stories: varied English, true instructions, independent features, the same everywhere."""

from __future__ import annotations

import hashlib
import os
import random
import re
import subprocess
import sys
from collections import Counter
from itertools import combinations

import pytest

from mechft.errors import ConfigError, UnknownNameError
from mechft.tasks.stories.procedural import ProceduralStories
from mechft.tasks.stories.procedural.templates import sentences
from mechft.tasks.stories.procedural.words import ADJECTIVES, NOUNS, VERBS
from mechft.tasks.stories.record import FEATURES, StoryRecord

EVEN = ProceduralStories(dict.fromkeys(FEATURES, 0.5))


@pytest.fixture(scope="module")
def many() -> list[StoryRecord]:
    return list(EVEN.stories(10_000, seed=0))


def test_instruction_and_truth_agree(many: list[StoryRecord]) -> None:
    for record in many:
        assert record.truth is not None
        assert set(record.features) == {name for name in FEATURES if record.truth[name]}
    orders = Counter(r.features for r in many if set(r.features) == {"Twist", "Dialogue"})
    assert len(orders) == 2, "features are named in any order"


def test_features_are_independent(many: list[StoryRecord]) -> None:
    """All 64 combinations are equally frequent: a chi-square of 63 degrees of freedom, 5 deviations up."""
    counts = Counter(frozenset(record.features) for record in many)
    expected = len(many) / 64
    assert len(counts) == 64
    assert sum((n - expected) ** 2 / expected for n in counts.values()) < 63 + 5 * (2 * 63) ** 0.5


def test_probabilities() -> None:
    """Each feature as often as asked (4.5 deviations), those left out as often as by default."""
    count = 4000
    stories = ProceduralStories({"Twist": 0.1, "Dialogue": 1.0, "Conflict": 0.0})
    drawn = Counter(name for record in stories.stories(count, 1) for name in record.features)
    assert drawn["Dialogue"] == count and drawn["Conflict"] == 0
    for name, p in (("Twist", 0.1), ("Foreshadowing", 0.2), ("MoralValue", 0.25)):
        assert abs(drawn[name] - count * p) < 4.5 * (count * p * (1 - p)) ** 0.5, name


def test_most_features() -> None:
    counts = [len(r.features) for r in ProceduralStories(most_features=2).stories(1000, 0)]
    assert set(counts) == {0, 1, 2}
    assert any(len(r.features) > 3 for r in ProceduralStories().stories(1000, 0))


def test_story_with_given_features() -> None:
    for size in range(7):
        for wanted in combinations(FEATURES, size):
            record = ProceduralStories(most_features=3).story(random.Random(0), wanted)
            assert set(record.features) == set(wanted)
            assert record.truth == {name: name in wanted for name in FEATURES}


def test_hardly_two_stories_are_equal(many: list[StoryRecord]) -> None:
    assert len({record.story for record in many}) > 0.999 * len(many)
    # And not by the names alone: without them, and the days and places of the first paragraph.
    plots = {re.sub(r"\b[A-Z]\w+", "", r.story.split("\n", 1)[1]) for r in many}
    assert len(plots) > 0.999 * len(many)


def test_parts_of_the_instruction_are_true(many: list[StoryRecord]) -> None:
    for record in many[:3000]:
        if record.words:
            verb, noun, adjective = record.words
            assert verb in VERBS and noun in NOUNS and adjective in ADJECTIVES
            assert all(re.search(rf"\b{word}\b", record.story) for word in record.words)
        if record.sentence:
            assert record.sentence in record.story and record.sentence in sentences(record.story)
        if record.summary:
            assert 1 <= len(sentences(record.summary)) <= 2 and "{" not in record.summary
            names = re.findall(r"\b[A-Z][a-z]+\b", record.summary)
            assert sum(name in record.story for name in names) >= 2  # both friends
    assert not set(VERBS) & set(NOUNS) and not set(NOUNS) & set(ADJECTIVES)
    assert not set(VERBS) & set(ADJECTIVES)


def test_summaries_tell_the_answer() -> None:
    """What a summary says turns out is what the story's third paragraph tells."""
    told = 0
    for record in ProceduralStories(summary_share=1.0).stories(400, 3):
        found = re.search(r"there is (.+) in the box\.$", record.summary)
        if found:
            told += 1
            answer, third = found[1], record.story.split("\n")[2]
            assert answer in third
            assert f"not {answer}" not in third.lower()
    assert told > 5


@pytest.mark.parametrize("part", ["words", "summary", "sentence"])
def test_shares_of_the_parts(part: str) -> None:
    for share in (0.0, 0.3, 1.0):
        settings = {"words_share": 0.5, "summary_share": 0.5, "sentence_share": 0.5}
        settings[f"{part}_share"] = share
        records = ProceduralStories(**settings).stories(1000, 5)  # type: ignore[arg-type]
        found = sum(bool(getattr(record, part)) for record in records)
        assert abs(found - 1000 * share) <= 4.5 * (1000 * share * (1 - share)) ** 0.5


def test_stories_are_sensible_text(many: list[StoryRecord]) -> None:
    lengths = []
    for record in many[:5000]:
        text = record.story
        lengths.append(len(text.split()))
        assert not re.search(r"[{}]| {2}|\s$|^\s", text), text
        assert not re.search(r"\b[Aa] [aeiou]|\b[Aa]n (?!hour)[^aeiou]", text), text
        assert text.count('"') % 2 == 0, text
        paragraphs = text.split("\n")
        assert len(paragraphs) == 3
        for paragraph in paragraphs:
            parts = sentences(paragraph)
            assert " ".join(parts) == paragraph, "nothing is left over between sentences"
            assert all(re.match(r'"?[A-Z]', part) for part in parts), text
    lengths.sort()
    assert lengths[0] >= 60 and 100 < lengths[2500] < 140 and lengths[-50] < 180


def test_without_dialogue_nobody_is_quoted(many: list[StoryRecord]) -> None:
    assert all(('"' in r.story) == ("Dialogue" in r.features) for r in many)


def test_streams_can_be_cut_anywhere() -> None:
    whole = list(EVEN.stories(60, seed=4))
    assert [*EVEN.stories(25, 4), *EVEN.stories(35, 4, start=25)] == whole
    assert not {r.story for r in whole} & {r.story for r in EVEN.stories(60, seed=5)}


def test_same_stories_in_every_process() -> None:
    """No draw depends on the order of a set or on the global random state, which stays as it was."""

    def digest() -> str:
        told = "".join(map(repr, ProceduralStories().stories(50, 9)))
        return hashlib.sha256(told.encode()).hexdigest()

    state = random.getstate()
    here = digest()
    assert random.getstate() == state
    random.seed(1)
    assert digest() == here
    random.setstate(state)
    code = (
        "import hashlib; from mechft.tasks.stories.procedural import ProceduralStories;"
        "print(hashlib.sha256(''.join(map(repr, ProceduralStories().stories(50, 9))).encode()).hexdigest())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "12345"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == here


def test_equal_settings_are_equal() -> None:
    assert ProceduralStories({"Twist": 0.25}) == ProceduralStories()
    assert list(ProceduralStories({"Twist": 0.5}).probabilities) == list(FEATURES)


@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan")])
def test_probability_out_of_range(value: float) -> None:
    with pytest.raises(ConfigError, match=rf"Twist is a probability, in 0..1; got {value}"):
        ProceduralStories({"Twist": value})
    with pytest.raises(ConfigError, match=r"summary_share is a probability"):
        ProceduralStories(summary_share=value)


def test_too_few_features_allowed() -> None:
    with pytest.raises(ConfigError, match=r"most_features=0 it is 0.00%"):
        ProceduralStories({"Twist": 1.0}, most_features=0)
    with pytest.raises(ConfigError, match=r"most_features=-1"):
        ProceduralStories(most_features=-1)
    none = ProceduralStories(dict.fromkeys(FEATURES, 0.0), most_features=0)
    assert next(none.stories(1, 0)).features == ()


def test_unknown_features() -> None:
    with pytest.raises(UnknownNameError, match=r"'Twists'. Did you mean 'Twist'"):
        ProceduralStories({"Twists": 0.5})
    with pytest.raises(UnknownNameError, match="'Humor'"):
        ProceduralStories().story(random.Random(0), ("Twist", "Humor"))


@pytest.mark.parametrize(("count", "start"), [(-1, 0), (1, -1)])
def test_counts_from_zero(count: int, start: int) -> None:
    with pytest.raises(ConfigError, match=f"got count={count}, start={start}"):
        EVEN.stories(count, 0, start)
    assert list(EVEN.stories(0, 0)) == []
