"""Sampling strings of an acyclic grammar, without a Python loop over samples.

A derivation is a string of fair coin flips: every symbol has two rules, chosen with probability
0.5. Flips of a symbol's whole subtree can be made at once by drawing one row from a table of all
its derivations, each row equally likely. The paper's grammar (Jain et al. 2024, App. B; 19 symbols,
7 levels) needs two such look-ups: s to a string of j, k, l (512 rows), and those to text (8,192).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import torch
from jaxtyping import Int
from torch import Tensor

from mechft.errors import ConfigError, require

Rules = Mapping[str, tuple[str, str]]

PAPER_RULES: Rules = {
    "s": ("rq", "qp"),
    "p": ("mno", "nom"),
    "q": ("nmo", "mn"),
    "r": ("om", "mon"),
    "m": ("lj", "jlk"),
    "n": ("kjl", "ljk"),
    "o": ("lkj", "kj"),
    "j": ("hi", "ih"),
    "k": ("hgi", "ghi"),
    "l": ("ihg", "hgi"),
    "g": ("dfe", "fed"),
    "h": ("edf", "def"),
    "i": ("efd", "fde"),
    "d": ("ca", "abc"),
    "e": ("cb", "cab"),
    "f": ("cba", "ba"),
}
"""The grammar of the paper. It prints ``l → i h g | h g i`` over two lines; both are used here."""

_MAX_ROWS = 2**13  # rows of one derivation table; more rows mean fewer look-ups and more memory
_MAX_ROUNDS = 1000  # redraws of strings too short to crop before giving up


@dataclass(frozen=True)
class _Stage:
    """Tables that rewrite every symbol of one alphabet into strings of the next, all at once."""

    rows: Int[Tensor, "total width"]  # symbol ids, padded at the end
    lengths: Int[Tensor, " total"]
    first: Int[Tensor, " symbols"]  # first row of each symbol
    last_offset: Int[Tensor, " symbols"]  # its number of rows, a power of two, minus one


class Grammar:
    """An acyclic grammar whose symbols have two equally likely rules each.

    Args:
        rules: For each non-terminal its two right-hand sides, as strings of one-letter symbols.
        start: The symbol every string starts from.

    Attributes:
        terminals: The letters of the text, sorted; letter ``i`` is token ``i`` of a sample.
        min_length, max_length: Lengths of the shortest and the longest string.

    Raises:
        ConfigError: If a symbol has not exactly two non-empty rules, or the grammar is cyclic.
    """

    def __init__(self, rules: Rules = PAPER_RULES, start: str = "s") -> None:
        for symbol, sides in rules.items():
            require(
                len(symbol) == 1 and len(sides) == 2 and all(sides),
                f"Every symbol needs exactly two non-empty rules; {symbol!r} has {sides!r}.",
            )
        require(start in rules, f"The start symbol {start!r} has no rules; it needs two.")
        self.rules, self.start = dict(rules), start
        used = {letter for sides in rules.values() for side in sides for letter in side}
        self.terminals = tuple(sorted(used - set(rules)))
        self._symbols = (*self.terminals, *self.rules)
        self._ids = {symbol: i for i, symbol in enumerate(self._symbols)}
        self.min_length, self.max_length = self._length_range(start, ())
        self._stages = self._build_stages()

    def _length_range(self, symbol: str, path: tuple[str, ...]) -> tuple[int, int]:
        if symbol in path:
            raise ConfigError(
                f"The grammar must be acyclic; it has the cycle {' → '.join((*path, symbol))}."
            )
        if symbol in self.terminals:
            return 1, 1
        sides = [
            [self._length_range(letter, (*path, symbol)) for letter in side]
            for side in self.rules[symbol]
        ]
        return min(sum(a for a, _ in side) for side in sides), max(
            sum(b for _, b in side) for side in sides
        )

    def _derivations(self, symbol: str, alphabet: frozenset[str]) -> list[str] | None:
        """All derivations of ``symbol`` down to ``alphabet``, each equally likely; None: too many.

        Where one rule leads to fewer derivations than the other, its own are repeated, so that each
        rule keeps half of the rows.
        """
        if symbol in alphabet:
            return [symbol]
        halves = []
        for side in self.rules[symbol]:
            parts, count = [], 1
            for letter in side:
                part = self._derivations(letter, alphabet)
                if part is None or (count := count * len(part)) > _MAX_ROWS // 2:
                    return None
                parts.append(part)
            halves.append(["".join(row) for row in product(*parts)])
        size = max(len(half) for half in halves)
        return [row for half in halves for row in half * (size // len(half))]

    def _build_stages(self) -> list[_Stage]:
        stages: list[_Stage] = []
        alphabet = frozenset(self.terminals)
        while self.start not in alphabet:
            found = {s: d for s in self.rules if (d := self._derivations(s, alphabet)) is not None}
            stages.append(self._stage({**{s: [s] for s in self.terminals}, **found}))
            alphabet = frozenset(found) | frozenset(self.terminals)
        return stages[::-1]

    def _stage(self, tables: dict[str, list[str]]) -> _Stage:
        rows = [row for table in tables.values() for row in table]
        width = max(map(len, rows))
        ids = [[self._ids[c] for c in row] + [0] * (width - len(row)) for row in rows]
        first, last_offset, position = {}, {}, 0
        for symbol, table in tables.items():
            first[symbol], last_offset[symbol] = position, len(table) - 1
            position += len(table)
        return _Stage(
            torch.tensor(ids),
            torch.tensor([len(row) for row in rows]),
            torch.tensor([first.get(s, 0) for s in self._symbols]),
            torch.tensor([last_offset.get(s, 0) for s in self._symbols]),
        )

    def strings(
        self, count: int, generator: torch.Generator
    ) -> tuple[Int[Tensor, " total"], Int[Tensor, " count"]]:
        """Whole strings of the grammar, one after the other.

        Returns:
            The letters of all strings, concatenated, and the length of each string.
        """
        flat = torch.full((count,), self._ids[self.start])
        owner = torch.arange(count)
        for stage in self._stages:
            flips = torch.randint(0, _MAX_ROWS, flat.shape, generator=generator)
            row = stage.first[flat] + (flips & stage.last_offset[flat])
            lengths = stage.lengths[row]
            inside = torch.arange(stage.rows.shape[1]) < lengths[:, None]
            flat = stage.rows[row][inside]
            owner = torch.repeat_interleave(owner, lengths)
        return flat, torch.bincount(owner, minlength=count)

    def sample(
        self, count: int, length: int, generator: torch.Generator
    ) -> Int[Tensor, "count length"]:
        """Uniformly placed crops of ``length`` letters, each from a fresh string.

        Strings shorter than ``length`` are drawn again: at the paper's 250 that is about a third
        of them, so its texts are crops of the longer strings (the paper does not say what it does).

        Raises:
            ConfigError: If no string of the grammar is that long.
        """
        require(
            1 <= length <= self.max_length,
            f"A crop must be between 1 and {self.max_length} letters, the grammar's longest string;"
            f" got {length}. Ask for a shorter text.",
        )
        crops: list[Tensor] = []
        missing = count
        for _ in range(_MAX_ROUNDS):
            flat, lengths = self.strings(missing, generator)
            room = lengths - length
            begin = lengths.cumsum(0) - lengths
            # A uniform start in 0..room; float64 keeps the rounding error far below 1/room.
            u = torch.rand(missing, generator=generator, dtype=torch.float64)
            start = begin + (u * (room + 1)).long()
            long_enough = room >= 0
            crops.append(flat[start[long_enough, None] + torch.arange(length)])
            missing -= int(long_enough.sum())
            if missing == 0:
                return torch.cat(crops) if len(crops) > 1 else crops[0]
        raise ConfigError(
            f"Strings of at least {length} letters are too rare in this grammar: {missing} of "
            f"{count} were still missing after {_MAX_ROUNDS} rounds. Ask for a shorter text."
        )
