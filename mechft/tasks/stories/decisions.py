"""Stories cut off where they are about to say whether they have a feature: a question with one answer."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from mechft.errors import require, unknown_name
from mechft.randomness import derive_seed
from mechft.tasks.batch import TokenBatch
from mechft.tasks.stories.layout import prompt
from mechft.tasks.stories.procedural.forks import FORKS
from mechft.tasks.stories.record import StoryRecord
from mechft.tasks.stories.tokenizer import END_ID, TextEncoder, encoded

HAS = "has"
"""Label of decision rows: 1 where the story has the feature."""


@dataclass(frozen=True)
class Decisions:
    """Decision rows and the records they are of.

    Attributes:
        rows: tokens Int["row length+1"], the answer's last; answer: the token that begins the story's own
            words where they differ from the other kind's; candidates: that token and the one that begins
            the other words; label ``HAS``.
        places: For each row the number of its record.
    """

    rows: TokenBatch
    places: tuple[int, ...]


def decision_rows(
    records: Sequence[StoryRecord],
    tokenizer: TextEncoder,
    length: int,
    seed: int = 0,
    *,
    feature: str = "Twist",
) -> Decisions:
    """Procedural stories with their instructions, up to the token that decides.

    Rows are aligned at that token; before short ones stands what comes before them in ``records``, as in
    ``story_rows``. Stories without a decisive place (``find_reveal``, ``find_outcome``) are left out.

    Args:
        records: Procedural stories.
        tokenizer: As in ``story_rows``.
        length: Tokens a model sees.
        seed: Decides the order of the instructions' parts.
        feature: What is decided: one of ``FORKS``.

    Raises:
        UnknownNameError: If it is not known where a story decides about the feature.
        ConfigError: If no story has a decisive place.

    Cost: that of encoding the texts twice.

    Example:
        >>> import mechft as mf
        >>> stories = list(mf.ProceduralStories().stories(20, seed=0))
        >>> tokenizer = mf.StoryTokenizer.train((story.story for story in stories), vocab_size=400)
        >>> found = mf.decision_rows(stories, tokenizer, length=64, feature="Conflict")
        >>> [tokenizer.decode([token]) for token in found.rows.candidates[0].tolist()]  # answer, other
        [' did', ' had']
    """
    if feature not in FORKS:
        raise unknown_name("feature with a decisive place", feature, FORKS)
    found: list[tuple[int, list[int], int, int, bool]] = []
    documents: list[list[int]] = []
    for place, record in enumerate(records):
        begun = prompt(record, random.Random(derive_seed(seed, "story rows", place)))
        fork = FORKS[feature](record.story)
        whole = begun + record.story
        if fork is None:
            documents.append([*tokenizer.encode(whole + "\n"), END_ID])
            continue
        start = len(begun) + fork.place
        else_told = whole[:start] + fork.other + whole[start + len(fork.answer) :]
        told, other = encoded(tokenizer, [whole + "\n", else_told + "\n"])
        documents.append([*told, END_ID])
        same = next(i for i, (one, two) in enumerate(zip(told, other, strict=False)) if one != two)
        found.append((place, told[:same], told[same], other[same], fork.has))
    require(
        bool(found),
        f"Decisions are those of procedural stories; none of {len(records)} texts has one. Use "
        "ProceduralStories.",
    )
    rows = []
    for place, before, answer, *_ in found:
        row, back = before, place
        while len(row) < length:
            back -= 1
            row = documents[back % len(documents)] + row
        rows.append([*row[-length:], answer])
    tokens = torch.tensor(rows)
    batch = TokenBatch(
        tokens,
        length - 1,
        tokens[:, -1],
        {HAS: torch.tensor([int(has) for *_, has in found])},
        candidates=torch.tensor([[answer, other] for _, _, answer, other, _ in found]),
    )
    return Decisions(batch, tuple(place for place, *_ in found))
