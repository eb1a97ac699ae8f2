"""Stories as rows of one length that end where the story ends: what losses, probes and classifiers take."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal

import torch

from mechft.errors import require
from mechft.randomness import derive_seed
from mechft.tasks.batch import TokenBatch
from mechft.tasks.stories.layout import render
from mechft.tasks.stories.protocols import has_feature
from mechft.tasks.stories.record import FEATURES, StoryRecord
from mechft.tasks.stories.tokenizer import END_ID, TextEncoder, encoded

STORY_START = "story_start"
"""Label of rows: position of the story's first token."""

Before = Literal["documents", "end tokens"]
"""What stands before a document shorter than a row: others, as in pretraining's windows, or end tokens."""


def story_rows(
    records: Sequence[StoryRecord],
    tokenizer: TextEncoder,
    length: int,
    seed: int = 0,
    *,
    instructed: bool = True,
    before: Before = "documents",
) -> TokenBatch:
    """Rows that end with the end token of a story, in the order of the records.

    Right ends are aligned, so that "the last ten positions" means the same in every row, and no position is
    padding that a model never saw: what comes before a short document are the documents before it in
    ``records`` (before the first ones the last), as in the windows of ``PackedSource``.

    Args:
        records: Stories, at least one.
        tokenizer: The model's, whose token 0 ends documents: a ``StoryTokenizer``, or what ``open_model``
            calls ``coder``.
        length: Tokens of a row; of longer documents the last ones.
        seed: Decides the order of the instructions' parts.
        instructed: Whether instructions are shown, or stories alone.
        before: What fills a row up.

    Returns:
        tokens Int["row length"]; answer_position is the last; answer is the end token, for batches need one;
        labels: for every feature whether the story has it (0 or 1), and ``STORY_START``, at least 1: where a
        row is too short for its story, the first position with a token before it.

    Raises:
        ConfigError: If there is no record or the length is below 2.

    Cost: that of encoding the texts.

    Example:
        >>> import mechft as mf
        >>> stories = list(mf.ProceduralStories().stories(20, seed=0))
        >>> tokenizer = mf.StoryTokenizer.train((story.story for story in stories), vocab_size=400)
        >>> rows = mf.story_rows(stories, tokenizer, length=64)
        >>> tuple(rows.tokens.shape), rows.labels["Twist"].sum().item()
        ((20, 64), 4)
    """
    require(len(records) > 0, "Rows are made of stories; got none. Give at least one record.")
    require(length >= 2, f"A row has at least two tokens; got length={length}. Choose more.")
    documents, stories = _encoded(records, tokenizer, seed, instructed)
    rows = []
    for place, document in enumerate(documents):
        row = document
        back = place
        while len(row) < length:
            back -= 1
            filling = [END_ID] if before == "end tokens" else documents[back % len(documents)]
            row = filling * (length if before == "end tokens" else 1) + row
        rows.append(row[-length:])
    starts = [max(1, length - len(story)) for story in stories]
    labels = {name: _column([has_feature(r, name) for r in records]) for name in FEATURES}
    tokens = torch.tensor(rows)
    return TokenBatch(tokens, length - 1, tokens[:, -1], {**labels, STORY_START: _column(starts)})


def _encoded(
    records: Sequence[StoryRecord], tokenizer: TextEncoder, seed: int, instructed: bool
) -> tuple[list[list[int]], list[list[int]]]:
    """Each record's whole document, and its story alone; both with the end token."""
    prompts, stories = [], []
    for place, record in enumerate(records):
        rendered = render(record, random.Random(derive_seed(seed, "story rows", place)))
        prompts.append(rendered.prompt if instructed else "")
        stories.append(rendered.completion)
    before, after = encoded(tokenizer, prompts), encoded(tokenizer, stories)
    return [p + s for p, s in zip(before, after, strict=True)], after


def _column(values: Sequence[int] | Sequence[bool]) -> torch.Tensor:
    return torch.tensor([int(value) for value in values])
