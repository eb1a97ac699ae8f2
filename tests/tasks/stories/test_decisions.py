"""The decisive word: by hand, on generated stories, and as rows whose two answers part there."""

from __future__ import annotations

import random

import pytest

from mechft.errors import ConfigError, UnknownNameError
from mechft.tasks.stories.decisions import HAS, decision_rows
from mechft.tasks.stories.layout import render
from mechft.tasks.stories.procedural import ProceduralStories, has_feature
from mechft.tasks.stories.procedural.conflict import find_outcome
from mechft.tasks.stories.procedural.fork import Fork
from mechft.tasks.stories.procedural.forks import FORKS
from mechft.tasks.stories.procedural.reveal import find_reveal
from mechft.tasks.stories.record import StoryRecord
from mechft.tasks.stories.tokenizer import StoryTokenizer


@pytest.fixture(scope="module")
def records() -> list[StoryRecord]:
    return list(ProceduralStories({"Twist": 0.5, "Conflict": 0.5}).stories(300, 0))


@pytest.fixture(scope="module")
def tokenizer(records: list[StoryRecord]) -> StoryTokenizer:
    rng = random.Random(0)
    return StoryTokenizer.train([render(record, rng).text for record in records], 1000)


def test_saying_the_other_makes_the_other_story(records: list[StoryRecord]) -> None:
    """At the decisive place, and there alone, a twist becomes none and none a twist."""
    found = 0
    for record in records:
        reveal = find_reveal(record.story)
        if reveal is None:
            continue
        found += 1
        assert record.truth is not None
        assert reveal.has == record.truth["Twist"]
        before, after = record.story[: reveal.place], record.story[reveal.place :]
        assert after.startswith(reveal.answer)
        # Cut off after the sentence, so that what follows does not contradict it.
        rest = after[len(reveal.answer) :]
        ended = rest[: rest.index(".") + 1] if "." in rest else rest
        if reveal.other.lower() in ended.lower():
            continue
        assert has_feature(before + reveal.other + ended, "Twist") is not reveal.has
        assert reveal.other.lower() in before.lower()
        assert reveal.answer.lower() in before.lower()
    assert found > 0.4 * len(records)


def test_nothing_is_left_to_decide_where_the_other_is_ruled_out_first() -> None:
    setup = (
        "Tina was sure that the mouse had taken the cake. It could not be the monkey, she said.\n"
    )
    reveal = find_reveal(setup + "It was the monkey and not the mouse.")
    assert reveal == Fork(len(setup) + 7, "the monkey", "the mouse", True)
    reveal = find_reveal(setup + "It was the mouse!")
    assert reveal == Fork(len(setup) + 7, "the mouse", "the monkey", False)
    assert has_feature(setup + "It was not the mouse. It was the monkey.", "Twist")
    assert find_reveal(setup + "It was not the mouse. It was the monkey.") is None
    assert find_reveal("Once there was a cat. It was the monkey!") is None


def test_another_outcome_makes_the_other_story(records: list[StoryRecord]) -> None:
    """One sentence said otherwise, and a quarrel is an agreement, and nothing else has changed."""
    found = 0
    for record in records:
        fork = find_outcome(record.story)
        if fork is None:
            continue
        found += 1
        assert record.truth is not None
        assert fork.has == record.truth["Conflict"]
        before, after = record.story[: fork.place], record.story[fork.place :]
        assert after.startswith(fork.answer)
        assert fork.answer[0] == fork.other[0]  # the first word alone does not tell
        assert ('"' in fork.answer) == ('"' in fork.other)
        changed = before + fork.other + after[len(fork.answer) :]
        for feature in ("Conflict", "Twist", "Dialogue", "BadEnding"):
            same = has_feature(changed, feature) is has_feature(record.story, feature)
            assert same is (feature != "Conflict")
    assert found > 0.85 * len(records)


def test_outcomes_by_hand() -> None:
    wish = "One day, Tom and Mia both wanted the red ball. "
    assert find_outcome(wish + "Tom pushed Mia, and Mia pushed back.") == Fork(
        len(wish),
        "Tom pushed Mia, and Mia pushed back.",
        "Tom let Mia go first, and then it was the other way round.",
        True,
    )
    told = "So Mia smiled and let Tom choose."
    other = "Soon both of them were angry and yelled."
    assert find_outcome(wish + told) == Fork(len(wish), told, other, False)
    nobody = "Nobody was angry, for they found a way that both of them liked."
    assert find_outcome(wish + nobody) is None  # no quarrel opens like it
    assert find_outcome("Soon both of them were angry and yelled.") is None  # about what?
    assert find_outcome(wish) is None


@pytest.mark.parametrize("feature", list(FORKS))
def test_rows_end_where_the_two_answers_part(
    records: list[StoryRecord], tokenizer: StoryTokenizer, feature: str
) -> None:
    found = decision_rows(records, tokenizer, 200, feature=feature)
    rows = found.rows
    assert rows.tokens.shape == (len(found.places), 201)
    assert rows.answer_position == 199
    assert (rows.tokens[:, -1] == rows.answer).all()
    assert rows.candidates is not None and rows.candidates.shape == (len(rows), 2)
    assert (rows.candidates[:, 0] == rows.answer).all()
    assert (rows.candidates[:, 1] != rows.answer).all()
    for i, place in enumerate(found.places):
        record, fork = records[place], FORKS[feature](records[place].story)
        assert fork is not None and record.truth is not None
        assert int(rows.labels[HAS][i]) == record.truth[feature]
        seen = tokenizer.decode(rows.tokens[i].tolist())
        assert seen[-30:] in record.story[: fork.place + len(fork.answer)]
        other = tokenizer.decode([*rows.prompt[i].tolist(), int(rows.candidates[i, 1])])
        assert other[-30:] in record.story[: fork.place] + fork.other
    share = rows.labels[HAS].double().mean()
    assert 0.35 < float(share) < 0.65


def test_errors(tokenizer: StoryTokenizer) -> None:
    with pytest.raises(ConfigError, match="procedural stories"):
        decision_rows([StoryRecord("A day in the park.")], tokenizer, 20)
    with pytest.raises(UnknownNameError, match="Conflict"):
        decision_rows([StoryRecord("A day in the park.")], tokenizer, 20, feature="Dialogue")
