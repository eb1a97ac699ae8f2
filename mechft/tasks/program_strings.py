"""Strings of the compiled programs, and every answer about them in one table.

Strings are tensors of codes: a letter's code is its place in the alphabet, a = 0, and whatever is
no letter has the code after the last letter's, as "#" comes after "z". Codes sort as letters do.
"""

from __future__ import annotations

from typing import Protocol

import torch
from jaxtyping import Int
from torch import Tensor

from mechft.tasks.program_config import PROGRAM_LETTERS, ProgramConfig

BOS, PAD, FILLER = "$", "PAD", "#"
"""What every string begins with; what Tracr pads with (never drawn); what pads max's strings."""


class Strings(Protocol):
    """The sampling rule and the answers of one program.

    Attributes:
        letters: The letters, in order of their codes.
        inputs: Names of input tokens, in the order of Tracr's encoding (sorted as strings).
        outputs: Names of answers, in the order of Tracr's encoding.
        operands: What can be asked, one column of ``facts`` each.
        first_output: Place in ``outputs`` of the answer whose value is 0.
    """

    letters: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    operands: tuple[str, ...]
    first_output: int

    def draw(self, count: int, generator: torch.Generator) -> Int[Tensor, "batch letter"]:
        """Codes of ``count`` strings."""
        ...

    def facts(self, codes: Int[Tensor, "batch letter"]) -> Int[Tensor, "batch operand"]:
        """r(x, O) of every operand, as values (counts; places in the alphabet)."""
        ...


class CounterStrings:
    """Letters drawn uniformly with replacement; the answer is how often one occurs."""

    def __init__(self, config: ProgramConfig) -> None:
        self.letters = PROGRAM_LETTERS["counter"]
        self.inputs = tuple(sorted((BOS, PAD, *self.letters)))
        self.outputs = tuple(str(count) for count in range(config.length + 1))
        self.operands = tuple(self.letters)
        self.first_output = 0
        self._length = config.length

    def draw(self, count: int, generator: torch.Generator) -> Int[Tensor, "batch letter"]:
        """Codes of ``count`` strings."""
        return torch.randint(len(self.letters), (count, self._length), generator=generator)

    def facts(self, codes: Int[Tensor, "batch letter"]) -> Int[Tensor, "batch operand"]:
        """Occurrences of each letter, all counted in one pass."""
        rows, bins = len(codes), len(self.letters) + 1  # the last bin: no letter
        flat = codes + bins * torch.arange(rows, device=codes.device)[:, None]
        return torch.bincount(flat.view(-1), minlength=rows * bins).view(rows, bins)[:, :-1]


class MaxStrings:
    """Letters drawn without replacement, in random order; the answer is the n-th largest.

    The largest is a. A string of fewer letters than the longest ends in "#", smaller than any.
    """

    def __init__(self, config: ProgramConfig) -> None:
        self.letters = PROGRAM_LETTERS["max"]
        self.inputs = tuple(sorted((FILLER, BOS, PAD, *self.letters)))
        self.outputs = tuple(sorted((FILLER, *self.letters)))
        self.operands = tuple(str(n) for n in range(1, config.shortest + 1))
        self.first_output = self.outputs.index(self.letters[0])
        self._length, self._shortest = config.length, config.shortest

    def draw(self, count: int, generator: torch.Generator) -> Int[Tensor, "batch letter"]:
        """Codes of ``count`` strings: the letters with the largest of 26 random keys, in key order."""
        # In double precision two keys are equal about once in 10^13 rows.
        keys = torch.rand(count, len(self.letters), generator=generator, dtype=torch.float64)
        codes = keys.topk(self._length, 1).indices
        if self._shortest == self._length:
            return codes
        letters = torch.randint(self._shortest, self._length + 1, (count, 1), generator=generator)
        return codes.masked_fill(torch.arange(self._length) >= letters, len(self.letters))

    def facts(self, codes: Int[Tensor, "batch letter"]) -> Int[Tensor, "batch operand"]:
        """Each row in order: the n-th column is the n-th largest letter's place in the alphabet."""
        return codes.sort(1).values


def strings_of(config: ProgramConfig) -> Strings:
    """The strings of the config's program."""
    return CounterStrings(config) if config.program == "counter" else MaxStrings(config)
