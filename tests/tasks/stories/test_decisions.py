"""The decisive word: by hand, on generated stories, and as rows whose two answers part there."""

from __future__ import annotations

import random

import pytest

from mechft.errors import ConfigError
from mechft.tasks.stories.decisions import OTHER, TWIST, decision_rows
from mechft.tasks.stories.layout import render
from mechft.tasks.stories.procedural import ProceduralStories, has_feature
from mechft.tasks.stories.procedural.reveal import Reveal, find_reveal
from mechft.tasks.stories.record import StoryRecord
from mechft.tasks.stories.tokenizer import StoryTokenizer


@pytest.fixture(scope="module")
def records() -> list[StoryRecord]:
    return list(ProceduralStories({"Twist": 0.5}).stories(300, 0))


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
        assert reveal.twist == record.truth["Twist"]
        before, after = record.story[: reveal.place], record.story[reveal.place :]
        assert after.startswith(reveal.answer)
        # Cut off after the sentence, so that what follows does not contradict it.
        rest = after[len(reveal.answer) :]
        ended = rest[: rest.index(".") + 1] if "." in rest else rest
        if reveal.other.lower() in ended.lower():
            continue
        assert has_feature(before + reveal.other + ended, "Twist") is not reveal.twist
        assert reveal.other.lower() in before.lower()
        assert reveal.answer.lower() in before.lower()
    assert found > 0.4 * len(records)


def test_nothing_is_left_to_decide_where_the_other_is_ruled_out_first() -> None:
    setup = (
        "Tina was sure that the mouse had taken the cake. It could not be the monkey, she said.\n"
    )
    reveal = find_reveal(setup + "It was the monkey and not the mouse.")
    assert reveal == Reveal(len(setup) + 7, "the monkey", "the mouse", True)
    reveal = find_reveal(setup + "It was the mouse!")
    assert reveal == Reveal(len(setup) + 7, "the mouse", "the monkey", False)
    assert has_feature(setup + "It was not the mouse. It was the monkey.", "Twist")
    assert find_reveal(setup + "It was not the mouse. It was the monkey.") is None
    assert find_reveal("Once there was a cat. It was the monkey!") is None


def test_rows_end_where_the_two_answers_part(
    records: list[StoryRecord], tokenizer: StoryTokenizer
) -> None:
    found = decision_rows(records, tokenizer, 200)
    rows = found.rows
    assert rows.tokens.shape == (len(found.places), 201)
    assert rows.answer_position == 199
    assert (rows.tokens[:, -1] == rows.answer).all()
    assert (rows.answer != rows.labels[OTHER]).all()
    for i, place in enumerate(found.places):
        record, reveal = records[place], find_reveal(records[place].story)
        assert reveal is not None and record.truth is not None
        assert int(rows.labels[TWIST][i]) == record.truth["Twist"]
        seen = tokenizer.decode(rows.tokens[i].tolist())
        answered = record.story[: reveal.place + len(reveal.answer)]
        begun = seen[-30:]
        assert begun in answered or answered.endswith(begun[: len(begun)])
        other = tokenizer.decode([*rows.prompt[i].tolist(), int(rows.labels[OTHER][i])])
        with_other = record.story[: reveal.place] + reveal.other
        assert other[-30:] in with_other
    share = rows.labels[TWIST].double().mean()
    assert 0.35 < float(share) < 0.65


def test_errors(tokenizer: StoryTokenizer) -> None:
    with pytest.raises(ConfigError, match="procedural stories"):
        decision_rows([StoryRecord("A day in the park.")], tokenizer, 20)
