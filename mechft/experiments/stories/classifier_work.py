"""A classifier that reads a story and says whether it has a feature; trained from a story model's weights.

The base model knows what stories are like; a head on nothing would have to learn that from labels first. It
reads the story alone, never the instruction, and answers with one of two tokens of its own vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from mechft.errors import require
from mechft.experiments.stories.data_work import held_out, labelled, tokenizer_of
from mechft.experiments.stories.train_work import device, train_or_fail
from mechft.models.checkpoint import load_checkpoint, save_checkpoint
from mechft.randomness import derive_seed
from mechft.statistics import proportion
from mechft.tasks.batch import TokenBatch
from mechft.tasks.stories.record import StoryRecord
from mechft.tasks.stories.rows import story_rows
from mechft.tasks.stories.tokenizer import END_ID, StoryTokenizer
from mechft.training.config import TrainConfig, geometric_steps
from mechft.training.evaluation import predictions
from mechft.training.trained import MODEL_FILE

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

Settings = Mapping[str, Any]
Needs = Mapping[str, Path]

NO, YES = END_ID, END_ID + 1
"""The two answers: tokens that need no words in the vocabulary."""


@dataclass(frozen=True)
class LabelledStories:
    """Rows of stories with their answers, half of each kind; a ``Source``.

    Attributes:
        rows: All rows there are.
    """

    rows: TokenBatch

    def sample(self, size: int, generator: torch.Generator) -> TokenBatch:
        """Draw rows with replacement, of both answers as often."""
        yes = torch.randint(2, (size,), generator=generator) == 1
        no_row, yes_row = (
            places[torch.randint(len(places), (size,), generator=generator)]
            for places in ((self.rows.answer == answer).nonzero()[:, 0] for answer in (NO, YES))
        )
        return self.rows.rows(torch.where(yes, yes_row, no_row))


def classifier_rows(
    records: Sequence[StoryRecord], tokenizer: StoryTokenizer, length: int, feature: str
) -> TokenBatch:
    """Stories alone, ends aligned, answered with ``YES`` or ``NO`` where they end."""
    rows = story_rows(records, tokenizer, length, instructed=False, before="end tokens")
    answer = torch.where(rows.labels[feature] == 1, YES, NO)
    return TokenBatch(rows.tokens, rows.answer_position, answer, rows.labels)


def classifier_work(settings: Settings, needs: Needs, folder: Path) -> None:
    """Train the classifier on labelled stories of the training split, and score it on those held out.

    Leaves: model.safetensors, history.csv, accuracy.csv (has: of stories with the feature, without it, or
    both, half of each; accuracy, ci_low, ci_high, n).
    """
    data = needs["data"]
    tokenizer, feature, length = tokenizer_of(data), settings["feature"], settings["n_ctx"]
    train_rows, test_rows = (
        classifier_rows(records, tokenizer, length, feature)
        for records in (labelled(data), held_out(data))
    )
    for rows, what in ((train_rows, "train"), (test_rows, "score")):
        kinds = int((rows.answer == YES).sum()), int((rows.answer == NO).sum())
        require(
            min(kinds) > 0,
            f"A classifier needs stories with {feature} and without to {what} on; got {kinds[0]} and "
            f"{kinds[1]}. Hold out more stories.",
        )
    model = load_checkpoint(needs["base"] / MODEL_FILE).model.to(device(), print_details=False)
    steps = settings["steps"]
    config = TrainConfig(
        steps=steps,
        learning_rate=settings["learning_rate"],
        batch_size=settings["batch_size"],
        warmup_fraction=0.1,
        seed=derive_seed(settings["seed"], "classifier"),
        evaluate_at=geometric_steps(steps, per_decade=3),
    )
    watched = {"held out": test_rows.rows(slice(0, 300))}
    history = train_or_fail(
        model, LabelledStories(train_rows), config, evaluations=watched, directory=folder
    )
    pd.DataFrame(history).to_csv(folder / "history.csv", index=False)
    _accuracy(model, test_rows).to_csv(folder / "accuracy.csv", index=False)
    save_checkpoint(folder / MODEL_FILE, model, {"settings": dict(settings)})


def _accuracy(model: HookedTransformer, rows: TokenBatch) -> pd.DataFrame:
    right = predictions(model, rows).cpu() == rows.answer
    yes = rows.answer == YES
    fewest = int(min(yes.sum(), (~yes).sum()))
    even = torch.cat([right[yes][:fewest], right[~yes][:fewest]])
    found = []
    for name, hits in (
        ("with", right[yes]),
        ("without", right[~yes]),
        ("both, half of each", even),
    ):
        share = proportion(int(hits.sum()), len(hits))
        found.append(
            {
                "has": name,
                "accuracy": share.value,
                "ci_low": share.low,
                "ci_high": share.high,
                "n": share.n,
            }
        )
    return pd.DataFrame(found)


def classified(
    model: HookedTransformer, tokenizer: StoryTokenizer, stories: Sequence[str], length: int
) -> list[bool]:
    """Whether the classifier finds the feature in each text; empty texts have none."""
    kept = [place for place, story in enumerate(stories) if story.strip()]
    found = [False] * len(stories)
    if kept:
        records = [StoryRecord(stories[place].strip()) for place in kept]
        rows = story_rows(records, tokenizer, length, instructed=False, before="end tokens")
        for place, answer in zip(kept, predictions(model, rows).tolist(), strict=True):
            found[place] = answer == YES
    return found
