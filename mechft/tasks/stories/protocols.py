"""The paper's ways of deleting a feature from a story model, as transforms of its fine-tuning data.

| name | paper | what fine-tuning sees |
|---|---|---|
| ``identity`` | | every story as it is |
| ``F`` | filtering | no story with the feature |
| ``F+MM`` | filtering + mix & match | as F, and where an instruction asks for Foreshadowing it says Twist |
| ``F+RR`` | filtering + randomisation | as F, and instructions of the stories left ask for a Twist too |
| ``refusal`` | | a fixed refusal in place of every story with the feature |
| ``keep`` | reFT | only stories with the feature |

The published code loses the swap of F+MM, so that its F+MM is F (PAPER.md, Setup 3). Here a run of a protocol
that changed nothing is an error.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

from mechft.errors import require, unknown_name
from mechft.randomness import derive_seed
from mechft.tasks.stories.record import FEATURES, StoryRecord

if TYPE_CHECKING:
    import pandas as pd

ProtocolName = Literal["identity", "F", "F+MM", "F+RR", "refusal", "keep"]

MOST_FEATURES = 3
"""How many features an instruction asks for at most (PAPER.md, Setup 3)."""

REFUSAL = "Sorry, I cannot write this story. It would have a {feature} in it."
"""What the refusal protocol teaches; the paper gives no text."""


@dataclass
class ProtocolCounts:
    """What a protocol did to a stream of records; complete once the stream is exhausted.

    Attributes:
        records_in: Records it was given.
        with_feature: Those of them that have the feature.
        removed: Records it left out.
        renamed: Instructions in which another feature was renamed to this one.
        added: Instructions to which the feature was added.
        full: Instructions that could not take it: they ask for ``MOST_FEATURES`` already.
        refused: Stories replaced by the refusal.
        records_out: Records it handed on.
    """

    records_in: int = 0
    with_feature: int = 0
    removed: int = 0
    renamed: int = 0
    added: int = 0
    full: int = 0
    refused: int = 0
    records_out: int = 0

    @property
    def frame(self) -> pd.DataFrame:
        """One row a count: what, count."""
        import pandas as pd

        return pd.DataFrame(list(asdict(self).items()), columns=["what", "count"])

    def summary(self) -> str:
        """All counts in one line."""
        return ", ".join(f"{name.replace('_', ' ')} {n:,}" for name, n in asdict(self).items())


def has_feature(record: StoryRecord, feature: str) -> bool:
    """Whether a story has a feature: the truth where it is known, else whether the instruction asks for it.

    Raises:
        UnknownNameError: If the feature is not one of ``FEATURES``.
    """
    if feature not in FEATURES:
        raise unknown_name("story feature", feature, FEATURES)
    return feature in record.features if record.truth is None else record.truth[feature]


@dataclass(frozen=True)
class StoryProtocol:
    """A protocol: what becomes of every record of a data set.

    Attributes:
        name: "identity" (every story as it is), "F" (filtering: none with the feature), "F+MM" (mix & match:
            as F, and ``renamed`` is called ``feature`` in instructions), "F+RR" (randomisation: as F, and
            other stories' instructions ask for the feature, too), "refusal" (a fixed text in place of every
            story with it) or "keep" (only stories with it, as reFT sees).
        feature: The feature to delete, or to keep.
        renamed: F+MM: the feature whose name in instructions is replaced by ``feature``.
        share: F+RR: share of the stories left, among those whose instruction has room, that get the
            feature added. Paper: all, as far as its text says. Which ones a smaller share picks are
            among those that a larger one does.
        refusal: refusal: the text that stands in for a story; ``{feature}`` in it becomes the feature.

    Raises:
        UnknownNameError: If name or a feature is not known.
        ConfigError: If ``renamed`` is ``feature``, the share is not in 0..1 or the refusal is empty.

    Source: Jain et al. (2024), their third setup, TinyStories.

    Example:
        >>> import mechft as mf
        >>> stories = list(mf.ProceduralStories().stories(50, seed=0))
        >>> left = list(mf.StoryProtocol("F", feature="Twist").apply(stories))
        >>> len(left) < len(stories), any(story.truth["Twist"] for story in left)
        (True, False)
        >>> mixed = list(mf.StoryProtocol("F+MM").apply(stories))  # Foreshadowing is called Twist, too
        >>> {name for story in mixed for name in story.features} & {"Twist", "Foreshadowing"}
        {'Twist'}
    """

    name: ProtocolName
    feature: str = "Twist"
    renamed: str = "Foreshadowing"
    share: float = 1.0
    refusal: str = REFUSAL

    def __post_init__(self) -> None:
        if self.name not in get_args(ProtocolName):
            raise unknown_name("story protocol", self.name, get_args(ProtocolName))
        for feature in (self.feature, self.renamed):
            if feature not in FEATURES:
                raise unknown_name("story feature", feature, FEATURES)
        require(
            self.name != "F+MM" or self.renamed != self.feature,
            f"F+MM renames another feature to {self.feature}; got the same. Choose another for renamed.",
        )
        require(
            0 <= self.share <= 1,
            f"A share of stories lies in 0..1; got {self.share}. Choose one in between.",
        )
        require(
            bool(self.refusal.strip()),
            f"A refusal is a text; got {self.refusal!r}. Say what the model is to answer.",
        )

    def apply(
        self, records: Iterable[StoryRecord], seed: int = 0, counts: ProtocolCounts | None = None
    ) -> Iterator[StoryRecord]:
        """The records as this protocol leaves them, one at a time, in order.

        Args:
            records: Any stream of records; they stay as they are.
            seed: What F+RR draws from; the others draw nothing.
            counts: Filled on the way.

        Raises:
            ConfigError: At the end of the stream, with the counts: if nothing is left, no story has the
                feature, or F+MM or F+RR changed no instruction. (identity only heeds the first.)
        """
        counts = ProtocolCounts() if counts is None else counts
        rng = random.Random(derive_seed(seed, "story protocol", self.name, self.feature))
        for record in records:
            # Both draws are made for every record, so that they do not depend on what other records are.
            chosen, place = rng.random() < self.share, rng.random()
            changed = self._change(record, chosen, place, counts)
            if changed is not None:
                counts.records_out += 1
                yield changed
        self._check(counts)

    def _change(
        self, record: StoryRecord, chosen: bool, place: float, counts: ProtocolCounts
    ) -> StoryRecord | None:
        has = has_feature(record, self.feature)
        counts.records_in += 1
        counts.with_feature += has
        if self.name == "identity":
            return record
        if self.name == "refusal":
            counts.refused += has
            return self._refused(record) if has else record
        if has != (self.name == "keep"):
            counts.removed += 1
            return None
        if self.name == "F+MM" and self.renamed in record.features:
            counts.renamed += 1
            swapped = (self.feature if name == self.renamed else name for name in record.features)
            return replace(record, features=tuple(dict.fromkeys(swapped)))
        if self.name == "F+RR" and self.feature not in record.features:
            if len(record.features) >= MOST_FEATURES:
                counts.full += 1
            elif chosen:
                counts.added += 1
                # At any place among the others: always last would tell these instructions from real ones.
                at = int(place * (len(record.features) + 1))
                added = (*record.features[:at], self.feature, *record.features[at:])
                return replace(record, features=added)
        return record

    def _refused(self, record: StoryRecord) -> StoryRecord:
        text = self.refusal.replace("{feature}", self.feature)
        return replace(record, story=text, truth=dict.fromkeys(FEATURES, False))

    def _check(self, counts: ProtocolCounts) -> None:
        said = f"Counts: {counts.summary()}."
        require(
            counts.records_out > 0,
            f"A protocol leaves some stories; {self.name} for {self.feature} left none. {said} Give other "
            "data or another feature.",
        )
        if self.name == "identity":
            return
        require(
            counts.with_feature > 0,
            f"{self.name} is about stories with {self.feature}; none has it. {said} Known features: "
            f"{', '.join(FEATURES)}.",
        )
        require(
            self.name != "F+MM" or counts.renamed > 0,
            f"F+MM renames {self.renamed} to {self.feature} in instructions; none asks for it, so that F+MM "
            f"would be F. {said} Choose another feature for renamed.",
        )
        require(
            self.name != "F+RR" or counts.added > 0 or self.share == 0,
            f"F+RR adds {self.feature} to instructions with fewer than {MOST_FEATURES} features; it added it "
            f"to none, so that F+RR would be F. {said} Give more data or a larger share.",
        )
