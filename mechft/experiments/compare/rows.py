"""The rows of a comparison: where each came from in the data, and how many a stage is shown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch

from mechft.errors import require
from mechft.tasks.batch import TokenBatch, concatenate
from mechft.tasks.prompts import Prompts

_LOGITS = 2**27  # numbers in the logits of a forward: half a GB in float32


@dataclass(frozen=True)
class Rows:
    """Rows in batches of one length each.

    Attributes:
        batches: The rows.
        numbers: Where in the data each row is from, in the batches' order.
    """

    batches: tuple[TokenBatch, ...]
    numbers: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def length(self) -> float:
        """Mean number of tokens a row."""
        return sum(batch.tokens.numel() for batch in self.batches) / len(self)

    def chosen(self, places: Iterable[int]) -> Rows:
        """The rows at some places, in the order they have here."""
        wanted = sorted(set(places))
        batches, start = [], 0
        for batch in self.batches:
            inside = [place - start for place in wanted if start <= place < start + len(batch)]
            if inside:
                batches.append(batch.rows(torch.tensor(inside)))
            start += len(batch)
        return Rows(tuple(batches), tuple(self.numbers[place] for place in wanted))

    def spread(self, n: int) -> Rows:
        """At most ``n`` rows, evenly spread over the data; always the same."""
        if n >= len(self):
            return self
        return self.chosen(i * len(self) // n for i in range(n))

    def halves(self) -> tuple[Rows, Rows]:
        """Every other row, and those between; a prompt that comes several times stays in one half."""
        sides: tuple[list[int], list[int]] = ([], [])
        seen: dict[tuple[int, ...], int] = {}
        prompts = (row for batch in self.batches for row in batch.prompt.tolist())
        for place, prompt in enumerate(prompts):
            sides[seen.setdefault(tuple(prompt), len(seen) % 2)].append(place)
        return self.chosen(sides[0]), self.chosen(sides[1])

    def by_length(self) -> dict[int, Rows]:
        """The rows by the length of their prompt, the commonest first (of equals the shorter)."""
        places: dict[int, list[int]] = {}
        start = 0
        for batch in self.batches:
            here = range(start, start := start + len(batch))
            places.setdefault(batch.prompt.shape[1], []).extend(here)
        order = sorted(places, key=lambda length: (-len(places[length]), length))
        return {length: self.chosen(places[length]) for length in order}

    def grouped(self, d_vocab: int) -> list[TokenBatch]:
        """The rows in as few batches as their lengths and the memory of their logits allow."""
        groups = self.by_length().values()
        return [part for group in groups for part in in_parts(group.one_batch(), d_vocab)]

    def one_batch(self) -> TokenBatch:
        """Rows of one length as one batch, for analyses that need them together.

        Raises:
            ConfigError: If they differ in length.
        """
        return concatenate(self.batches)

    def answers(self) -> list[int]:
        """The right answers in the rows' order."""
        return [int(answer) for batch in self.batches for answer in batch.answer]

    def answered(self, answers: Sequence[int]) -> Rows:
        """The same rows with other answers as the right ones."""
        require(len(answers) == len(self), f"Give {len(self)} answers; got {len(answers)}.")
        batches, start = [], 0
        for batch in self.batches:
            own = torch.tensor(
                list(answers[start : start + len(batch)]), device=batch.answer.device
            )
            batches.append(replace(batch, answer=own))
            start += len(batch)
        return Rows(tuple(batches), self.numbers)

    def prompt_of(self, row: int, position: int) -> list[int]:
        """The tokens of a row up to a position, that included."""
        start = 0
        for batch in self.batches:
            if row < start + len(batch):
                found: list[int] = batch.tokens[row - start, : position + 1].tolist()
                return found
            start += len(batch)
        raise IndexError(f"There are {len(self)} rows; got row {row}.")


def rows_of(prompts: Prompts, d_vocab: int) -> Rows:
    """The rows of some prompts, in batches whose logits fit in memory."""
    parts = tuple(part for batch in prompts.batches for part in in_parts(batch, d_vocab))
    return Rows(parts, tuple(number for rows in prompts.rows for number in rows))


def in_parts(batch: TokenBatch, d_vocab: int) -> list[TokenBatch]:
    """A batch in parts of so few rows that a forward's logits fit in memory."""
    most = most_rows(batch.tokens.shape[1], d_vocab)
    return [batch.rows(slice(start, start + most)) for start in range(0, len(batch), most)]


def most_rows(length: int, d_vocab: int) -> int:
    """How many rows of a length a forward takes, which gives logits at every position."""
    return max(1, _LOGITS // (length * d_vocab))
