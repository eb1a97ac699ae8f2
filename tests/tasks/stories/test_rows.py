"""Rows end where stories end; what comes before, where stories start, and what is true of them."""

from __future__ import annotations

import random

import pytest

from mechft.errors import ConfigError
from mechft.tasks.stories.layout import END, render
from mechft.tasks.stories.procedural.generator import ProceduralStories
from mechft.tasks.stories.record import FEATURES, StoryRecord
from mechft.tasks.stories.rows import STORY_START, story_rows
from mechft.tasks.stories.tokenizer import END_ID, StoryTokenizer


@pytest.fixture(scope="module")
def records() -> list[StoryRecord]:
    return list(ProceduralStories().stories(150, 0))


@pytest.fixture(scope="module")
def tokenizer(records: list[StoryRecord]) -> StoryTokenizer:
    rng = random.Random(0)
    return StoryTokenizer.train([render(record, rng).text for record in records], 1000)


def test_a_long_row_holds_the_document_and_those_before_it(
    records: list[StoryRecord], tokenizer: StoryTokenizer
) -> None:
    rows = story_rows(records, tokenizer, 700)
    for i, record in enumerate(records):
        *before, last, nothing = tokenizer.decode(rows.tokens[i].tolist()).split(END)
        assert nothing == ""
        assert last.endswith(f"Story: \n\n{record.story}\n")
        assert (records[i - 1].story + "\n").endswith(before[-1][-200:])
        start = int(rows.labels[STORY_START][i])
        assert tokenizer.decode(rows.tokens[i, start:].tolist()) == f"{record.story}\n{END}"
    assert rows.tokens.shape == (150, 700)
    assert rows.answer_position == 699
    assert (rows.answer == END_ID).all()


def test_a_short_row_holds_the_storys_end(
    records: list[StoryRecord], tokenizer: StoryTokenizer
) -> None:
    rows = story_rows(records, tokenizer, 12)
    for i, record in enumerate(records):
        assert f"{record.story}\n{END}".endswith(tokenizer.decode(rows.tokens[i].tolist()))
    assert (rows.labels[STORY_START] == 1).all()


def test_end_tokens_before_stories_alone(
    records: list[StoryRecord], tokenizer: StoryTokenizer
) -> None:
    rows = story_rows(records, tokenizer, 700, instructed=False, before="end tokens")
    for i, record in enumerate(records):
        start = int(rows.labels[STORY_START][i])
        assert (rows.tokens[i, :start] == END_ID).all()
        assert tokenizer.decode(rows.tokens[i, start:].tolist()) == f"{record.story}\n{END}"


def test_labels_are_what_is_true(records: list[StoryRecord], tokenizer: StoryTokenizer) -> None:
    labels = story_rows(records, tokenizer, 8).labels
    for name in FEATURES:
        assert labels[name].tolist() == [int((r.truth or {})[name]) for r in records]
    untold = StoryRecord("A day.", features=("Twist",))
    labels = story_rows([untold], tokenizer, 8).labels
    assert [int(labels[name]) for name in FEATURES] == [1, 0, 0, 0, 0, 0]


def test_what_is_said_twice_is_encoded_once(
    records: list[StoryRecord], tokenizer: StoryTokenizer
) -> None:
    """A prompt and what follows encode as the whole does, so that a model is asked as it was trained."""
    rows = story_rows(records, tokenizer, 700)
    for row in rows.tokens.tolist():
        document = tokenizer.decode(row).split(END)[-2] + END
        whole = tokenizer.encode(document)
        assert row[-len(whole) :] == whole


def test_errors(tokenizer: StoryTokenizer) -> None:
    with pytest.raises(ConfigError, match="at least one record"):
        story_rows([], tokenizer, 10)
    with pytest.raises(ConfigError, match="at least two tokens"):
        story_rows([StoryRecord("A day.")], tokenizer, 1)
