"""Stories cut off where they are about to say whether they have a twist: a question with one right answer."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from mechft.errors import require
from mechft.randomness import derive_seed
from mechft.tasks.batch import TokenBatch
from mechft.tasks.stories.layout import prompt
from mechft.tasks.stories.procedural.reveal import Reveal, find_reveal
from mechft.tasks.stories.record import StoryRecord
from mechft.tasks.stories.tokenizer import END_ID, StoryTokenizer

OTHER = "other"
"""Label of decision rows: the token that begins the other candidate."""

TWIST = "twist"
"""Label of decision rows: 1 where the right answer is not the expected one."""


@dataclass(frozen=True)
class Decisions:
    """Decision rows and the records they are of.

    Attributes:
        rows: tokens Int["row length+1"], the answer's last; answer: the token that begins the answer where
            it differs from the other candidate's; labels ``OTHER`` and ``TWIST``.
        places: For each row the number of its record.
    """

    rows: TokenBatch
    places: tuple[int, ...]


def decision_rows(
    records: Sequence[StoryRecord], tokenizer: StoryTokenizer, length: int, seed: int = 0
) -> Decisions:
    """Procedural stories with their instructions, up to the word that decides.

    Rows are aligned at that word; before short ones stands what comes before them in ``records``, as in
    ``story_rows``. Stories without a decisive place (``find_reveal``) are left out: 16% (of 4,000).

    Args:
        records: Procedural stories.
        tokenizer: The model's.
        length: Tokens a model sees.
        seed: Decides the order of the instructions' parts.

    Raises:
        ConfigError: If no story has a decisive place.
    """
    found: list[tuple[int, list[int], int, int, Reveal]] = []
    documents: list[list[int]] = []
    for place, record in enumerate(records):
        begun = prompt(record, random.Random(derive_seed(seed, "story rows", place)))
        reveal = find_reveal(record.story)
        start, end = (
            (0, 0)
            if reveal is None
            else (len(begun) + reveal.place, len(begun) + reveal.place + len(reveal.answer))
        )
        whole = begun + record.story
        if reveal is None:
            documents.append([*tokenizer.encode(whole + "\n"), END_ID])
            continue
        told, else_told = tokenizer.encode_batch(
            [whole + "\n", whole[:start] + reveal.other + whole[end:] + "\n"]
        )
        documents.append([*told, END_ID])
        same = next(
            i for i, (one, two) in enumerate(zip(told, else_told, strict=False)) if one != two
        )
        found.append((place, told[:same], told[same], else_told[same], reveal))
    require(
        bool(found),
        f"Decisions are those of procedural stories; none of {len(records)} texts has one. Use "
        "ProceduralStories.",
    )
    rows = []
    for place, before, answer, _, _ in found:
        row, back = before, place
        while len(row) < length:
            back -= 1
            row = documents[back % len(documents)] + row
        rows.append([*row[-length:], answer])
    tokens = torch.tensor(rows)
    labels = {
        OTHER: torch.tensor([other for _, _, _, other, _ in found]),
        TWIST: torch.tensor([int(reveal.twist) for *_, reveal in found]),
    }
    batch = TokenBatch(tokens, length - 1, tokens[:, -1], labels)
    return Decisions(batch, tuple(place for place, *_ in found))
