"""Names of tokens and their ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from mechft.errors import ConfigError, unknown_name


class Vocabulary:
    """An ordered set of token names; a token's id is its place in the order.

    Raises:
        ConfigError: If a name occurs twice.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._ids = {name: i for i, name in enumerate(self.names)}
        if len(self._ids) != len(self.names):
            twice = sorted({name for name in self.names if self.names.count(name) > 1})
            raise ConfigError(f"Token names must be unique; {twice} occur more than once.")

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self._ids

    def id(self, name: str) -> int:
        """The id of one token.

        Raises:
            UnknownNameError: If there is no such token; lists the known ones.
        """
        try:
            return self._ids[name]
        except KeyError:
            raise unknown_name("token", name, self.names) from None

    def encode(self, names: Iterable[str]) -> Int[Tensor, " pos"]:
        """Token ids of a sequence of names."""
        return torch.tensor([self.id(name) for name in names])

    def decode(self, ids: Iterable[int] | Int[Tensor, " pos"]) -> list[str]:
        """Names of a sequence of token ids."""
        return [self.names[int(i)] for i in ids]
