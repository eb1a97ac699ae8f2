"""The batch every task yields, and the protocol of what yields it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mechft.errors import require


@dataclass(frozen=True)
class TokenBatch:
    """Token sequences with the answer each should get.

    Attributes:
        tokens: Whole samples; where the answer is a token of the text, it is included.
            Int["batch pos"].
        answer_position: Position at which the answer is predicted, the same in every row: the one
            before the answer's token, or the last where the answer is no token of the text.
        answer: Id of the right answer in the task's answer vocabulary. Int["batch"].
        labels: Other true facts of each row by name ("C(a)": the count of a). Int["batch"] each.
            These are the targets of probes, so they hold values (counts, positions), not token ids.
        correlated: Whether the planted correlation holds in the row. Bool["batch"], or None where
            the question does not arise.
        candidates: The tokens that an answer is chosen from, the right one among them, or None for the
            whole vocabulary. Whoever asks whether, or how surely, a row is answered right looks at these
            alone; training does not. Int["batch candidate"].
    """

    tokens: Int[Tensor, "batch pos"]
    answer_position: int
    answer: Int[Tensor, " batch"]
    labels: dict[str, Int[Tensor, " batch"]] = field(default_factory=dict)
    correlated: Bool[Tensor, " batch"] | None = None
    candidates: Int[Tensor, "batch candidate"] | None = None

    def __len__(self) -> int:
        return int(self.tokens.shape[0])

    @property
    def prompt(self) -> Int[Tensor, "batch prompt"]:
        """The tokens a model may see before it answers: up to and including ``answer_position``."""
        return self.tokens[:, : self.answer_position + 1]

    def rows(self, index: slice | Int[Tensor, " row"]) -> TokenBatch:
        """Some of the rows, all that belongs to them included."""
        return TokenBatch(
            self.tokens[index],
            self.answer_position,
            self.answer[index],
            {name: label[index] for name, label in self.labels.items()},
            None if self.correlated is None else self.correlated[index],
            None if self.candidates is None else self.candidates[index],
        )

    def digest(self) -> str:
        """A short hash of tokens and answers: the same rows, the same name."""
        content = [self.answer_position, self.tokens.tolist(), self.answer.tolist()]
        if self.candidates is not None:
            content.append(self.candidates.tolist())
        return hashlib.blake2b(repr(content).encode(), digest_size=8).hexdigest()

    def to(self, device: torch.device | str) -> TokenBatch:
        """The same batch on another device."""
        return TokenBatch(
            self.tokens.to(device),
            self.answer_position,
            self.answer.to(device),
            {name: label.to(device) for name, label in self.labels.items()},
            None if self.correlated is None else self.correlated.to(device),
            None if self.candidates is None else self.candidates.to(device),
        )


def concatenate(batches: Iterable[TokenBatch]) -> TokenBatch:
    """Batches of the same shape as one, in order.

    Raises:
        ConfigError: If there is none, or they differ in length, answer position, labels or number of
            candidates.
    """
    parts = list(batches)
    require(bool(parts), "There is no batch to work on; give at least one.")
    first = parts[0]
    for part in parts[1:]:
        one, other = _form(first), _form(part)
        require(
            one == other,
            "Batches put together have the same length, answer position, labels and number of candidates "
            f"(None: all tokens); got {one} and {other}.",
        )
    flags = [part.correlated for part in parts]
    return TokenBatch(
        torch.cat([part.tokens for part in parts]),
        first.answer_position,
        torch.cat([part.answer for part in parts]),
        {name: torch.cat([part.labels[name] for part in parts]) for name in first.labels},
        torch.cat([f for f in flags if f is not None]) if None not in flags else None,
        torch.cat([p.candidates for p in parts if p.candidates is not None])
        if first.candidates is not None
        else None,
    )


def _form(batch: TokenBatch) -> tuple[int, int, list[str], int | None]:
    """What batches that are put together have in common."""
    choices = None if batch.candidates is None else int(batch.candidates.shape[1])
    return int(batch.tokens.shape[1]), batch.answer_position, list(batch.labels), choices


@runtime_checkable
class Source(Protocol):
    """Anything that yields fresh batches: the training loop and the evaluations ask for no more."""

    def sample(self, size: int, generator: torch.Generator) -> TokenBatch:
        """Draw ``size`` rows using only the randomness of ``generator``."""
        ...
