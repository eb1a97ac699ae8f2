"""Protocols: what each does to every record, its counts, and that none silently is another or nothing."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from mechft.errors import ConfigError, UnknownNameError
from mechft.tasks.stories.protocols import (
    MOST_FEATURES,
    ProtocolCounts,
    ProtocolName,
    StoryProtocol,
    has_feature,
)
from mechft.tasks.stories.record import FEATURES, StoryRecord


def story(
    *features: str, name: str = "A story.", truth: tuple[str, ...] | None = None
) -> StoryRecord:
    known = None if truth is None else {feature: feature in truth for feature in FEATURES}
    return StoryRecord(name, tuple(features), truth=known)


RECORDS = [
    story("Twist", "Dialogue"),
    story("Foreshadowing", "Conflict"),
    story(),
    story("Foreshadowing", "Twist"),
    story("Dialogue", "Conflict", "MoralValue"),
    story("Dialogue"),
]


def applied(
    protocol: StoryProtocol, records: list[StoryRecord] = RECORDS, seed: int = 0
) -> tuple[list[StoryRecord], ProtocolCounts]:
    counts = ProtocolCounts()
    return list(protocol.apply(records, seed, counts)), counts


def random_records(count: int = 600) -> list[StoryRecord]:
    """Records with 0 to 3 features asked for; every other one with a truth that may differ from that."""
    rng = random.Random(0)
    made = []
    for i in range(count):
        asked = rng.sample(FEATURES, rng.randint(0, 3))
        truth = tuple(f for f in FEATURES if rng.random() < 0.3) if i % 2 else None
        made.append(story(*asked, name=f"Story {i}.", truth=truth))
    return made


def test_identity() -> None:
    records, counts = applied(StoryProtocol("identity"))
    assert records == RECORDS
    assert counts == ProtocolCounts(records_in=6, with_feature=2, records_out=6)


def test_filter() -> None:
    records, counts = applied(StoryProtocol("F"))
    assert records == [RECORDS[1], RECORDS[2], RECORDS[4], RECORDS[5]]
    assert counts == ProtocolCounts(records_in=6, with_feature=2, removed=2, records_out=4)


def test_filter_and_rename() -> None:
    """The swap that the published code loses: F+MM says Twist where F says Foreshadowing."""
    records, counts = applied(StoryProtocol("F+MM"))
    assert [record.features for record in records] == [
        ("Twist", "Conflict"), (), ("Dialogue", "Conflict", "MoralValue"), ("Dialogue",),
    ]  # fmt: skip
    assert counts == ProtocolCounts(6, with_feature=2, removed=2, renamed=1, records_out=4)
    assert records != applied(StoryProtocol("F"))[0]


def test_filter_and_add() -> None:
    """All that have room for it, unless a share says otherwise."""
    records, counts = applied(StoryProtocol("F+RR"))
    assert [set(record.features) for record in records] == [
        {"Twist", "Foreshadowing", "Conflict"}, {"Twist"}, {"Dialogue", "Conflict", "MoralValue"},
        {"Twist", "Dialogue"},
    ]  # fmt: skip
    assert counts == ProtocolCounts(6, with_feature=2, removed=2, added=3, full=1, records_out=4)


def test_refusal() -> None:
    records, counts = applied(StoryProtocol("refusal"))
    assert counts == ProtocolCounts(6, with_feature=2, refused=2, records_out=6)
    for old, new in zip(RECORDS, records, strict=True):
        if "Twist" in old.features:
            assert new.story == "Sorry, I cannot write this story. It would have a Twist in it."
            assert new.features == old.features  # it is asked for, and refused
            assert new.truth == dict.fromkeys(FEATURES, False)
        else:
            assert new is old


def test_keep() -> None:
    records, counts = applied(StoryProtocol("keep"))
    assert records == [RECORDS[0], RECORDS[3]]
    assert counts == ProtocolCounts(6, with_feature=2, removed=4, records_out=2)


@pytest.mark.parametrize("feature", FEATURES)
def test_what_a_story_has(feature: str) -> None:
    """The truth decides where it is known, and the instruction only where it is not."""
    assert has_feature(story(feature), feature) and not has_feature(story(), feature)
    assert not has_feature(story(feature, truth=()), feature)
    assert has_feature(story(truth=(feature,)), feature)
    with pytest.raises(UnknownNameError, match="Unknown story feature 'Humour'"):
        has_feature(story(), "Humour")


@pytest.mark.parametrize("name", ["identity", "F", "F+MM", "F+RR", "refusal", "keep"])
@pytest.mark.parametrize("feature", ["Twist", "BadEnding"])
def test_properties(name: ProtocolName, feature: str) -> None:
    """For random records: nothing is lost uncounted, order and input stay, truths stay."""
    records = random_records()
    before = [replace(record) for record in records]
    made, counts = applied(StoryProtocol(name, feature), records)
    assert records == before
    assert counts.records_in == 600 == counts.removed + counts.records_out
    assert counts.records_out == len(made)
    assert counts.with_feature == sum(has_feature(record, feature) for record in records)
    having = [record for record in records if has_feature(record, feature)]
    lacking = [record for record in records if not has_feature(record, feature)]
    left = {"keep": having, "identity": records, "refusal": records}.get(name, lacking)
    assert len(made) == len(left)
    changed = 0
    for old, new in zip(left, made, strict=True):
        changed += new != old
        refused = name == "refusal" and has_feature(old, feature)
        assert refused or (new.story == old.story and new.truth == old.truth)
        assert len(new.features) <= MOST_FEATURES
        extra = {feature} if name in ("F+MM", "F+RR") else set()
        lost = {"Foreshadowing"} if name == "F+MM" else set()
        assert set(old.features) - lost <= set(new.features) <= set(old.features) | extra
    assert changed == counts.renamed + counts.added + counts.refused
    assert bool(changed) == (name in ("F+MM", "F+RR", "refusal"))


def test_added_at_any_place() -> None:
    """Else the place of the word would tell a randomised instruction from a real one."""
    records = [story("Twist"), *[story("Dialogue", "Conflict")] * 300]
    made, _ = applied(StoryProtocol("F+RR"), records)
    places = [record.features.index("Twist") for record in made]
    for place in range(3):
        assert abs(places.count(place) - 100) < 5 * 8.2  # binomial: standard deviation 8.2


def test_shares() -> None:
    """A share picks that many, the same for the same seed, and those of a smaller one are among them."""
    records = [story("Twist"), *(story(name=f"Story {i}.") for i in range(1000))]

    def chosen(share: float, seed: int = 0) -> set[str]:
        made, _ = applied(StoryProtocol("F+RR", share=share), records, seed)
        return {record.story for record in made if record.features}

    half = chosen(0.5)
    assert abs(len(half) - 500) < 5 * 15.8
    assert half == chosen(0.5) != chosen(0.5, seed=1)
    assert chosen(0.2) < half < chosen(0.9) < chosen(1.0)
    assert chosen(0.0) == set()


@pytest.mark.parametrize(
    ("name", "records", "message"),
    [
        ("F", [story("Twist")] * 3, r"F for Twist left none\. Counts: records in 3, .*removed 3"),
        ("keep", RECORDS[1:3], r"left none\. Counts: records in 2, with feature 0"),
        ("identity", [], "left none"),
        ("F", RECORDS[1:3], r"about stories with Twist; none has it\. Counts: records in 2"),
        ("refusal", RECORDS[1:3], "none has it"),
        ("F+MM", [story("Twist"), story("Dialogue")], "so that F[+]MM would be F.*renamed 0"),
        ("F+RR", [story("Twist"), RECORDS[4]], "so that F[+]RR would be F.*added 0, full 1"),
    ],
)
def test_protocols_that_would_do_nothing(
    name: ProtocolName, records: list[StoryRecord], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        applied(StoryProtocol(name), records)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "f"}, "Unknown story protocol 'f'"),
        ({"name": "F", "feature": "Twists"}, "Did you mean 'Twist'"),
        ({"name": "F+MM", "renamed": "Twist"}, "renames another feature"),
        ({"name": "F+RR", "share": 1.5}, "lies in 0..1; got 1.5"),
        ({"name": "refusal", "refusal": " "}, "A refusal is a text"),
    ],
)
def test_bad_settings(settings: dict[str, object], message: str) -> None:
    with pytest.raises((ConfigError, UnknownNameError), match=message):
        StoryProtocol(**settings)  # type: ignore[arg-type]


def test_counts_as_a_table() -> None:
    _, counts = applied(StoryProtocol("F+RR"))
    table = counts.frame.set_index("what")["count"]
    assert table["removed"] == 2 and table["added"] == 3 and len(table) == 8
    assert counts.summary().startswith("records in 6, with feature 2, removed 2")
