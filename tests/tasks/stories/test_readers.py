"""Readers on hand-written files in the public formats, and on every way such files are damaged."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from itertools import chain
from typing import Any

import pytest

from mechft.errors import ConfigError
from mechft.tasks.stories.counts import ReadCounts
from mechft.tasks.stories.features import feature_of
from mechft.tasks.stories.json_reader import read_json
from mechft.tasks.stories.record import StoryRecord
from mechft.tasks.stories.text_reader import read_text

# In the layout of TinyStories-Instruct-train.txt: parts in any order and some absent, a space behind
# "Story:", mostly an empty line below it, the end marker on its own line; the third has its summary last.
TEXT = """\
Features: Dialogue
Words: quit, oak, gloomy
Summary: Two friends want different things in the park.
Story:\x20

Ana and Leo were in the park. The oak was tall.
"I want to quit," said Ana. It was gloomy.

Leo nodded.
<|endoftext|>
Random sentence: The duck was not a duck.
Features: Twist, BadEnding, MoralValue
Story:\x20
Pip had a duck. The duck was not a duck.
<|endoftext|>
Words: red, ball, share
Story:\x20

Sam had a red ball. He did share it.
Summary: Sam learns to share.
<|endoftext|>
"""

RECORDS = [
    StoryRecord(
        story="Ana and Leo were in the park. The oak was tall.\n"
        '"I want to quit," said Ana. It was gloomy.\n\nLeo nodded.',
        features=("Dialogue",),
        words=("quit", "oak", "gloomy"),
        summary="Two friends want different things in the park.",
    ),
    StoryRecord(
        story="Pip had a duck. The duck was not a duck.",
        features=("Twist", "BadEnding", "MoralValue"),
        sentence="The duck was not a duck.",
    ),
    StoryRecord(
        story="Sam had a red ball. He did share it.",
        words=("red", "ball", "share"),
        summary="Sam learns to share.",
    ),
]

# As the shards of TinyStories_all_data have it, the colon in "prompt:" included.
ELEMENTS: list[Any] = [
    {
        "story": "\n\nAna and Leo were friends.\nThey ran.",
        "instruction": {
            "prompt:": 'Write a short story with the verb "run" …',
            "words": ["run", "park", "cute"],
            "features": ["Dialogue", "Twist"],
        },
        "summary": "Ana and Leo run\nin the park.",
        "source": "GPT-4",
    },
    {
        "story": "Pip slept.",
        "instruction": {"prompt:": "Write …", "words": ["sleep"], "features": []},
        "summary": "",
        "source": "GPT-3.5",
    },
]


def pieces(text: str, size: int) -> Iterator[str]:
    return (text[at : at + size] for at in range(0, len(text), size))


def from_text(text: str, size: int = 1 << 16) -> tuple[list[StoryRecord], ReadCounts]:
    counts = ReadCounts()
    return list(read_text(pieces(text, size), counts, name="a.txt")), counts


def from_json(text: str, size: int = 1 << 16) -> tuple[list[StoryRecord], ReadCounts]:
    counts = ReadCounts()
    return list(read_json(pieces(text, size), counts, name="a.json")), counts


@pytest.mark.parametrize("size", [1, 7, 64, 1 << 16])
def test_text(size: int) -> None:
    """The public layout, wherever the pieces of the file are cut."""
    records, counts = from_text(TEXT, size)
    assert records == RECORDS
    assert counts.records == 3 and counts.left_out == 0 and counts.part_after_story == 1
    assert counts.missing == {"sentence": 2, "features": 1, "words": 1, "summary": 1}
    assert counts.features == {"Dialogue": 1, "Twist": 1, "BadEnding": 1, "MoralValue": 1}


@pytest.mark.parametrize("size", [1, 7, 64, 1 << 16])
@pytest.mark.parametrize("indent", [None, 4])
def test_json(size: int, indent: int | None) -> None:
    records, counts = from_json(json.dumps(ELEMENTS, indent=indent), size)
    assert records == [
        StoryRecord(
            story="Ana and Leo were friends.\nThey ran.",
            features=("Dialogue", "Twist"),
            words=("run", "park", "cute"),
            summary="Ana and Leo run in the park.",
        ),
        StoryRecord(story="Pip slept.", words=("sleep",)),
    ]
    assert counts.records == 2 and not counts.cut_off_files
    assert counts.missing == {"features": 1, "summary": 1}  # the format has no sentence to miss


def test_text_cut_off_anywhere() -> None:
    """What was whole is yielded; a beginning of a record is left out and counted, and nothing else is."""
    for cut in range(1, len(TEXT)):
        records, counts = from_text(TEXT[:cut])
        *whole, rest = TEXT[:cut].split("<|endoftext|>")
        assert records == RECORDS[: len(whole)]
        assert counts.left_out == counts.truncated == bool(rest.strip())
        assert counts.cut_off_files["a.txt"] == (len(rest) if rest.strip() else 0)


def test_json_cut_off_anywhere() -> None:
    """Wherever a shard is cut: the whole elements come, and the counts say that it was cut."""
    text = json.dumps(ELEMENTS)
    ends = [len(text) - 1 - len(", ") - len(json.dumps(ELEMENTS[1])), len(text) - 1]
    for cut in range(2, len(text)):
        records, counts = from_json(text[:cut], 50)
        assert len(records) == sum(end <= cut for end in ends)
        assert list(counts.cut_off_files) == ["a.json"]
        assert counts.truncated == (counts.cut_off_files["a.json"] > 0)


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("BadEnding", "BadEnding"), ("Badending", "BadEnding"), ("bad ending", "BadEnding"),
        ("Moral-Value", "MoralValue"), ("moral values", "MoralValue"), ("PLOT TWIST", "Twist"),
        ("twist", "Twist"), ("Dialogues", "Dialogue"), ("Foreshadowing.", "Foreshadowing"),
        ("Humour", None), ("", None), ("Twisted", None),
    ],
)  # fmt: skip
def test_spellings_of_features(spelling: str, name: str | None) -> None:
    assert feature_of(spelling) == name


def test_odd_text() -> None:
    """Labels and lists spelled freely, parts over several lines, lines that are no part."""
    records, counts = from_text(
        "\ufefflost line\n"
        "FEATURES :  Badending,,  Humour , twist, Twist\n"
        "words:big   dog ,\nrun\n"
        "Title: The dog\nand more of it\n"
        "Sentence:  The dog   ran.\n"
        "Summary: A dog runs.\nIt comes back.\n"
        "story:The dog ran.\n"
        "Words: were not heard.\n"  # the part has come already: it is a line of the story
        "<|endoftext|>"
    )
    assert records == [
        StoryRecord(
            story="The dog ran.\nWords: were not heard.",
            features=("BadEnding", "Twist"),
            words=("big dog", "run"),
            summary="A dog runs. It comes back.",
            sentence="The dog ran.",
        )
    ]
    assert counts.respelled_features == {"Badending": 1, "twist": 1}
    assert counts.unknown_features == {"Humour": 1}
    assert counts.unknown_parts == {"Title": 1}
    assert counts.repeated_features == counts.stray_lines == counts.records == 1


def test_a_part_that_comes_twice_goes_on() -> None:
    records, _ = from_text("Features: Twist\nWords: a\nFeatures: Conflict\nStory: S.<|endoftext|>")
    assert records[0].features == ("Twist", "Conflict") and records[0].words == ("a",)


@pytest.mark.parametrize(
    ("block", "what"),
    [
        ("Words: a, b\nSummary: No story.\n", "without_story"),
        ("Words: a, b\nStory: \n\n  \n", "without_story"),
        ("\n", "without_story"),
        ("Only a story, without any label.\n", "without_story"),
        ("Story: One.\nWords: a\nStory: Two.\n", "run_together"),
    ],
)
def test_blocks_that_are_left_out(block: str, what: str) -> None:
    """They are counted under their own name, and their neighbours are read as ever."""
    records, counts = from_text(f"{TEXT}{block}<|endoftext|>\n{TEXT}")
    assert records == RECORDS * 2
    assert getattr(counts, what) == counts.left_out == 1
    assert f"1 left out: {'no story' if what == 'without_story' else 'several'}" in counts.summary()


def test_odd_elements() -> None:
    """Missing fields, wrong types, an end marker and half a surrogate pair within a story."""
    records, counts = from_json(
        '[{"story": "One.", "summary": null}, 3, {"story": 4}, {"summary": "No story."}, '
        '{"story": "Two.", "instruction": {"words": "big, dog", "features": "Twist,twist"}}, '
        '{"story": "Three.<|endoftext|>Four.", "instruction": "Write", "summary": ["x"]}, '
        '{"story": "Five \\ud83d.", "instruction": {"words": [1], "features": {"a": 1}}}]'
    )
    assert records == [
        StoryRecord("One."),
        StoryRecord("Two.", features=("Twist",), words=("big", "dog")),
        StoryRecord("Three."),
        StoryRecord("Five \N{REPLACEMENT CHARACTER}."),
    ]
    assert counts.records == 4 and counts.malformed == 2 and counts.without_story == 1
    assert counts.cut_at_end_marker == counts.undecodable == counts.repeated_features == 1
    assert counts.unknown_parts == {"instruction": 1, "summary": 1, "words": 1, "features": 1}


def test_json_objects_line_by_line() -> None:
    """Not the public form, but what many tools make of it."""
    text = "\n".join(json.dumps(element) for element in ELEMENTS)
    assert from_json(text)[0] == from_json(json.dumps(ELEMENTS))[0]
    assert not from_json(text)[1].cut_off_files


def test_what_is_not_json_is_an_error_where_it_stands() -> None:
    text = json.dumps([ELEMENTS[0]] * 3).replace('"summary"', "summary", 1)
    with pytest.raises(ConfigError, match=r"element 1 of a.json is not JSON: .*at 'summary"):
        from_json(text)


def _endless(piece: str) -> Iterator[str]:
    while True:
        yield piece


def test_endless_records_are_errors() -> None:
    """Memory stays bounded also where nothing ever ends."""
    with pytest.raises(ConfigError, match=r"ends with <\|endoftext\|> within 4,000,000"):
        list(read_text(_endless("word " * 100_000), ReadCounts()))
    with pytest.raises(ConfigError, match="element 1 of the JSON is not JSON: Unterminated"):
        list(read_json(chain(['["'], _endless("word " * 100_000)), ReadCounts()))


@pytest.mark.parametrize("kind", ["text", "json"])
def test_memory_does_not_grow_with_the_number_of_records(kind: str) -> None:
    """A megabyte passes through; no fifth of it is held at any time."""
    piece = TEXT if kind == "text" else json.dumps(ELEMENTS)[1:-1] + ","
    read = read_text if kind == "text" else read_json
    repeats = 1_000_000 // len(piece)
    tracemalloc.start()
    try:
        count = sum(1 for _ in read((piece for _ in range(repeats)), ReadCounts()))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == repeats * (3 if kind == "text" else 2)
    assert peak < 200_000


def test_counts_as_a_table() -> None:
    _, counts = from_text(TEXT + "Features: Humour\nStory: \n<|endoftext|>\nWords: a")
    frame = counts.frame.set_index(["what", "name"])["count"]
    assert frame["records", ""] == 3
    assert frame["missing", "sentence"] == 2
    assert frame["without_story", ""] == 1
    assert frame["truncated", ""] == 1
    assert frame["cut_off_files", "a.txt"] == len("\nWords: a")
    assert "3 records" in counts.summary() and "a.txt is cut off (9 characters" in counts.summary()
