"""Settings of the compiled programs' tasks (Jain et al. 2024, Sec. 4 and App. C: Tracr)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from mechft.errors import require, unknown_name

ProgramName = Literal["counter", "max"]

PROGRAM_LETTERS: dict[str, str] = {
    "counter": "abcdefghi",
    "max": "abcdefghijklmnopqrstuvwxyz",
}
"""The letters strings are made of. Paper: the first nine; the whole alphabet."""

PROGRAM_LENGTHS: dict[str, int] = {"counter": 46, "max": 10}
"""Letters in a string by default. The paper gives no number; its examples have about as many."""


@dataclass(frozen=True)
class ProgramConfig:
    """Everything that defines the task of a compiled program.

    Attributes:
        program: "counter" (how often a letter occurs) or "max" (the Max-identifier: the n-th largest
            letter, a being the largest).
        length: Letters after "$"; a shorter string is padded with "#" to this length. 0 means the
            program's default, 46 or 10, and reads so afterwards.
        shortest: Fewest letters of a string, max only: their number is uniform in shortest..length.
            0 means ``length`` (no padding), and reads so afterwards.

    Raises:
        UnknownNameError: If the program is not known.
        ConfigError: If a length is out of range.

    Example:
        >>> import mechft as mf
        >>> mf.ProgramConfig("max")
        ProgramConfig(program='max', length=10, shortest=10)
    """

    program: ProgramName = "counter"
    length: int = 0
    shortest: int = 0

    def __post_init__(self) -> None:
        if self.program not in get_args(ProgramName):
            raise unknown_name("program", self.program, get_args(ProgramName))
        object.__setattr__(self, "length", self.length or PROGRAM_LENGTHS[self.program])
        object.__setattr__(self, "shortest", self.shortest or self.length)
        if self.program == "counter":
            require(self.length >= 1, f"A string has at least one letter; got {self.length}.")
            require(
                self.shortest == self.length,
                f"The counter's strings all have {self.length} letters; got shortest="
                f"{self.shortest}. Leave shortest at 0; only the program max pads strings.",
            )
            return
        letters = len(PROGRAM_LETTERS[self.program])
        require(
            2 <= self.length <= letters,
            f"The program max draws its letters without replacement: length lies in 2..{letters}; "
            f"got {self.length}.",
        )
        require(
            2 <= self.shortest <= self.length,
            f"shortest lies in 2..{self.length}, the longest string; got {self.shortest}.",
        )
