"""What was met while stories were read: every record, and whatever was not as it should be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mechft.tasks.stories.record import StoryRecord

if TYPE_CHECKING:
    import pandas as pd

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
"""Stands where bytes of a file are not UTF-8."""

_NOTES = {
    "other_split": "of the other split",
    "without_story": "left out: no story",
    "truncated": "left out: cut off by the end of the file",
    "run_together": "left out: several stories without an end between them",
    "malformed": "left out: not an object with a story",
    "cut_at_end_marker": "cut where the end marker stood in the story",
    "undecodable": "with characters that could not be decoded (kept as U+FFFD)",
    "part_after_story": "with part of the instruction after the story (put where it belongs)",
    "repeated_features": "naming a feature twice (kept once)",
    "stray_lines": "with lines before the story that belong to no part (left out)",
}
_NAMED = (
    "features",
    "missing",
    "unknown_features",
    "respelled_features",
    "unknown_parts",
    "cut_off_files",
)


@dataclass
class ReadCounts:
    """Filled by the readers while they read; complete once the reader is exhausted.

    Attributes:
        records: Records yielded.
        features: How many of them ask for each feature.
        missing: How many of them lack each part of the instruction ("words", "summary" …). A part that a
            format never has is not counted as missing.
        unknown_features: Spellings that stand for no feature, with how often each was met. The record is
            kept, without them.
        respelled_features: The same for other spellings of a known feature ("bad ending").
        unknown_parts: Labels of instruction lines that stand for no part, and JSON fields that hold something
            else than they should; they are left out.
        other_split: Records that belong to the split that was not asked for; nothing else is known of them.
        without_story: Records left out because there is no text after ``Story:``, or no such label.
        truncated: Records left out because the file ends inside them.
        run_together: Records left out because they hold several ``Story:``: an end marker is lost.
        malformed: Elements of a JSON list left out because they are no objects, or hold no text as story.
        cut_at_end_marker: Stories that held the end marker and were cut there (JSON only: in the text
            format the marker is the end).
        undecodable: Records with bytes that are not UTF-8; kept, with U+FFFD in their place.
        part_after_story: Records with a part of their instruction behind the story, as the public data
            set has some; the part is read as if it stood before.
        repeated_features: Records that name a feature twice; it is kept once.
        stray_lines: Records with lines before the first part, which are left out.
        cut_off_files: Names of files that end before their end, with the characters at the end of each that
            no record was made of (0 if a list lacks nothing but its bracket).
    """

    records: int = 0
    features: Counter[str] = field(default_factory=Counter)
    missing: Counter[str] = field(default_factory=Counter)
    unknown_features: Counter[str] = field(default_factory=Counter)
    respelled_features: Counter[str] = field(default_factory=Counter)
    unknown_parts: Counter[str] = field(default_factory=Counter)
    other_split: int = 0
    without_story: int = 0
    truncated: int = 0
    run_together: int = 0
    malformed: int = 0
    cut_at_end_marker: int = 0
    undecodable: int = 0
    part_after_story: int = 0
    repeated_features: int = 0
    stray_lines: int = 0
    cut_off_files: Counter[str] = field(default_factory=Counter)

    def accept(self, record: StoryRecord, parts: Iterable[str]) -> StoryRecord:
        """Count a record that is about to be yielded, and hand it back.

        Args:
            record: The record.
            parts: Parts of the instruction that its format can have.
        """
        self.records += 1
        self.features.update(record.features)
        self.missing.update(part for part in parts if not getattr(record, part))
        self.undecodable += any(
            REPLACEMENT in text
            for text in (record.story, record.summary, record.sentence, *record.words)
        )
        return record

    @property
    def left_out(self) -> int:
        """Records of this split that were met and not yielded."""
        return self.without_story + self.truncated + self.run_together + self.malformed

    @property
    def frame(self) -> pd.DataFrame:
        """One row a count: what is counted, the name or spelling it is about (or ""), and how many."""
        import pandas as pd

        rows: list[tuple[str, str, int]] = [("records", "", self.records)]
        rows += [
            (what, name, n) for what in _NAMED for name, n in getattr(self, what).most_common()
        ]
        rows += [(what, "", getattr(self, what)) for what in _NOTES]
        return pd.DataFrame(rows, columns=["what", "name", "count"])

    def summary(self) -> str:
        """What was read, in one sentence; names only what happened at least once."""
        said = [f"{self.records:,} records"]
        said += [f"{n:,} {_NOTES[what]}" for what in _NOTES if (n := getattr(self, what))]
        for name, found in (
            ("without", self.missing),
            ("unknown features", self.unknown_features),
            ("respelled features", self.respelled_features),
            ("unknown parts", self.unknown_parts),
        ):
            if found:
                top = ", ".join(f"{key} ({n:,})" for key, n in found.most_common(8))
                more = f" and {len(found) - 8} more" if len(found) > 8 else ""
                said.append(f"{name}: {top}{more}")
        for name, unread in self.cut_off_files.items():
            said.append(f"{name} is cut off ({unread:,} characters at its end are no record)")
        return "; ".join(said) + "."
