"""Rows spread evenly over what is true of them, so that knowing what is common answers little."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from mechft.errors import require, unknown_name
from mechft.tasks.batch import Source, TokenBatch


@dataclass(frozen=True)
class Balanced:
    """A source's rows, as evenly spread over the values of some labels as a larger draw allows.

    Counts in grammar strings vary little: at tiny, 61% of the uncorrelated strings with two different answers
    have six a, and 45% have six a and five b. On those, a model that always says six, or one more than the
    b it counts, seems to count a in half of all cases. Spread over the pairs, neither gets a third.

    Attributes:
        source: Where rows come from.
        labels: Names of the labels over whose combinations rows are spread.
        pool: Rows drawn for each one kept; combinations rarer than that allows stay rarer than others.
    """

    source: Source
    labels: Sequence[str]
    pool: int = 8

    def __post_init__(self) -> None:
        require(
            self.pool >= 1, f"At least one row is drawn for each one kept; got pool={self.pool}."
        )
        require(
            len(self.labels) > 0, "Rows are spread over the values of labels; name at least one."
        )

    def sample(self, size: int, generator: torch.Generator) -> TokenBatch:
        """Draw ``size`` rows, in random order.

        Raises:
            UnknownNameError: If the source's rows have no such label.

        Cost: ``pool`` times the source's.
        """
        drawn = self.source.sample(self.pool * size, generator)
        for name in self.labels:
            if name not in drawn.labels:
                raise unknown_name("label", name, drawn.labels)
        return drawn.rows(_even_rows(torch.stack([drawn.labels[n] for n in self.labels], 1), size))


def _even_rows(values: Int[Tensor, "row label"], size: int) -> Int[Tensor, " kept"]:
    """Rows to keep: the first of every combination, then the second of every one, … in their order."""
    _, group = values.unique(dim=0, return_inverse=True)
    by_group = group.argsort(stable=True)
    starts = group.bincount().cumsum(0) - group.bincount()
    rank = torch.empty_like(group)
    rank[by_group] = torch.arange(len(group)) - starts[group[by_group]]
    return rank.argsort(stable=True)[:size].sort().values
