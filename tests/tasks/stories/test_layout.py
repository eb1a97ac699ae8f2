"""The layout: exactly the public format, every order of parts, and what is read back is what was written."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest

from mechft.errors import ConfigError
from mechft.tasks.stories.counts import ReadCounts
from mechft.tasks.stories.layout import completion, prompt, render
from mechft.tasks.stories.record import FEATURES, StoryRecord
from mechft.tasks.stories.text_reader import read_text

RECORD = StoryRecord(
    story="Mia saw a drum.\nShe hit it.",
    features=("Dialogue", "Twist"),
    words=("drum", "hit", "loud"),
    summary="Mia plays.",
    sentence="She hit it.",
)


def test_the_exact_text() -> None:
    """Every character of the public layout: labels, separators, the space and line behind ``Story:``."""
    only_words = replace(RECORD, features=(), summary="", sentence="")
    rendered = render(only_words, random.Random(0))
    assert rendered.prompt == "Words: drum, hit, loud\nStory: \n\n"
    assert rendered.completion == "Mia saw a drum.\nShe hit it.\n<|endoftext|>"
    assert rendered.text == rendered.prompt + rendered.completion


def test_lines_of_a_full_instruction() -> None:
    *parts, label, empty, last = prompt(RECORD, random.Random(1)).split("\n")
    assert sorted(parts) == [
        "Features: Dialogue, Twist",
        "Random sentence: She hit it.",
        "Summary: Mia plays.",
        "Words: drum, hit, loud",
    ]
    assert (label, empty, last) == ("Story: ", "", "")


def test_every_order_is_as_likely() -> None:
    """24 orders of four parts in 4,800 draws: each within five standard deviations of 200."""
    rng = random.Random(2)
    found = [tuple(line[0] for line in prompt(RECORD, rng).split("\n")[:4]) for _ in range(4800)]
    for order in itertools.permutations("FWSR"):
        assert abs(found.count(order) - 200) < 5 * 14


def test_no_instruction_at_all() -> None:
    assert prompt(StoryRecord("A story."), random.Random(0)) == "Story: \n\n"


def test_a_part_is_one_line() -> None:
    record = StoryRecord("A story.", summary="One.\n\n  Two. ", words=(" big  dog",))
    lines = prompt(record, random.Random(0)).split("\n")
    assert {"Summary: One. Two.", "Words: big dog"} < set(lines)


def test_orders_depend_on_the_seed_alone() -> None:
    """Also not on which parts earlier records have."""
    bare = StoryRecord("A story.")
    one, other = random.Random(5), random.Random(5)
    prompt(RECORD, one), prompt(bare, other)
    assert prompt(RECORD, one) == prompt(RECORD, other)


def test_what_is_written_is_read_back() -> None:
    """Every set of features of up to three, with every choice of parts, in random order."""
    rng = random.Random(3)
    records = [
        StoryRecord(
            story=f"Day {i}.\n\n“Hé!” said Tom: run.",
            features=features,
            words=("ice cream", "jump") if i % 2 else (),
            summary="Tom: he runs." if i % 3 else "",
            sentence="It was day." if i % 5 else "",
        )
        for i, features in enumerate(
            itertools.chain.from_iterable(itertools.permutations(FEATURES, k) for k in range(4))
        )
    ]
    text = "".join(render(record, rng).text + "\n" for record in records)
    counts = ReadCounts()
    assert list(read_text(iter(text), counts)) == records
    assert counts.records == len(records) == 1 + 6 + 30 + 120
    assert counts.left_out == 0 and not counts.unknown_features and not counts.unknown_parts


@pytest.mark.parametrize(
    "record",
    [StoryRecord("One <|endoftext|> two."), StoryRecord("One.", summary="Two <|endoftext|>")],
)
def test_an_end_marker_inside(record: StoryRecord) -> None:
    with pytest.raises(ConfigError, match="does not hold the end marker"):
        render(record, random.Random(0))


def test_completion_needs_no_randomness() -> None:
    assert completion(RECORD) == render(RECORD, random.Random(9)).completion
