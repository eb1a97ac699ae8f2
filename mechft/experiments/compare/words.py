"""Rows in words: what was asked, and what both models answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mechft.experiments.compare.rows import Rows
from mechft.models.opening import Opened, TextCoder
from mechft.tasks.vocabulary import Vocabulary
from mechft.training.trained import load_task

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = 60  # tokens of a prompt, its last
COLUMNS = (
    "number", "prompt", "right_answer", "base_answer", "finetuned_answer", "kl_from_base",
    "base_probability", "probability",
)  # fmt: skip


def moved_most(rows: Rows, examples: pd.DataFrame, coder: TextCoder | None) -> pd.DataFrame:
    """What moved most, in words.

    Args:
        rows: The rows that were asked.
        examples: ``OutputDiff.examples`` of them.
        coder: The tokenizer; without one tokens are told by their ids.

    Returns:
        Columns number (where in the data the row is from), prompt (its end), right_answer, base_answer,
        finetuned_answer, kl_from_base, base_probability and probability (of the right answer).
    """
    import pandas as pd

    told = []
    for example in examples.itertuples():
        prompt = rows.prompt_of(int(example.row), int(example.position))
        cut = "… " if len(prompt) > _SHOWN else ""
        answers = (example.right_answer, example.base_answer, example.answer)
        told.append(
            (
                rows.numbers[int(example.row)],
                cut + words(prompt[-_SHOWN:], coder),
                *(words([int(answer)], coder) for answer in answers),
                example.kl_from_base,
                example.base_probability,
                example.probability,
            )
        )
    return pd.DataFrame(told, columns=list(COLUMNS))


class VocabularyCoder:
    """The tokens of one of mechft's tasks as text: their names with spaces between.

    Args:
        vocabulary: The task's.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary

    def encode(self, text: str) -> list[int]:
        """The ids of tokens that are named with spaces between."""
        found: list[int] = self.vocabulary.encode(text.split()).tolist()
        return found

    def decode(self, ids: Sequence[int]) -> str:
        """The names of tokens, with spaces between."""
        return " ".join(self.vocabulary.decode(ids))


def reader(opened: Opened, given: Any) -> TextCoder | None:
    """A model's tokenizer, or the vocabulary of the task it was trained on; None where there is neither.

    Args:
        opened: The model.
        given: What it was opened from.
    """
    if opened.coder is not None:
        return opened.coder
    task = getattr(given, "task", None)
    if opened.kind in ("bundled model", "mechft checkpoint"):
        task = load_task(given)
    vocabulary = getattr(task, "vocabulary", None)
    return VocabularyCoder(vocabulary) if isinstance(vocabulary, Vocabulary) else None


def words(ids: Sequence[int], coder: TextCoder | None) -> str:
    """Token ids as text, or as numbers where there is no tokenizer."""
    return " ".join(map(str, ids)) if coder is None else coder.decode(ids)
