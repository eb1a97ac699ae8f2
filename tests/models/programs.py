"""RASP programs for the tests, each compiled once a session, with what Tracr itself made of it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch

from mechft.models.compiled import CompiledProgram, Value
from mechft.models.rasp_programs import counter_program, max_program
from mechft.models.tracr import compile_program


@dataclass(frozen=True)
class Case:
    """A program, compiled by both, and the strings it is asked about."""

    program: Any
    compiled: CompiledProgram
    tracr: Any
    repeats: bool

    def strings(self, n: int, lengths: Sequence[int], seed: int = 0) -> list[list[Value]]:
        """Random strings; without a letter twice where the program asks for that."""
        draws = torch.Generator().manual_seed(seed)
        letters = self.compiled.letters
        found: list[list[Value]] = []
        for i in range(n):
            length = lengths[i % len(lengths)]
            if self.repeats:
                picked = torch.randint(len(letters), (length,), generator=draws)
            else:
                picked = torch.randperm(len(letters), generator=draws)[:length]
            found.append([letters[int(k)] for k in picked])
        return found


# name: (vocabulary, length, whether letters may repeat)
SHAPES: dict[str, tuple[Sequence[Value], int, bool]] = {
    "counter": ("abcd", 8, True),
    "max": ("#abcdefghijklmnopqrstuvwxyz", 10, False),
    "reverse": ("abcd", 5, True),
    "sort_unique": ((1, 2, 3, 4, 5, 6), 5, False),
    "hist": ("abc", 5, True),
    "frac_prevs": ("abc", 5, True),
    "length": ("abc", 5, True),
    "pair_balance": ("()a", 5, True),
    "detect_pattern": ("abc", 5, True),
}
NAMES = tuple(SHAPES)
NUMERICAL = ("frac_prevs", "pair_balance")


def _program(name: str) -> Any:
    from tracr.compiler import lib
    from tracr.rasp import rasp

    return {
        "counter": lambda: counter_program("a"),
        "max": lambda: max_program(5),
        "reverse": lambda: lib.make_reverse(rasp.tokens),
        "sort_unique": lambda: lib.make_sort_unique(rasp.tokens, rasp.tokens),
        "hist": lib.make_hist,
        "frac_prevs": lambda: lib.make_frac_prevs(rasp.tokens == "a"),
        "length": lib.make_length,
        "pair_balance": lambda: lib.make_pair_balance(rasp.tokens, "(", ")"),
        "detect_pattern": lambda: lib.detect_pattern(rasp.tokens, "ab"),
    }[name]()


@functools.cache
def case(name: str) -> Case:
    """A program compiled by mechft, and the model Tracr made on the way."""
    import haiku
    import jax
    from tracr.compiler import compiling

    made: list[Any] = []
    compile_rasp = compiling.compile_rasp_to_model

    def kept(*args: Any, **settings: Any) -> Any:
        made.append(compile_rasp(*args, **settings))
        return made[-1]

    vocabulary, length, repeats = SHAPES[name]
    program = _program(name)
    # What runs once or twice is not worth optimising: half of the time.
    jax.config.update("jax_disable_most_optimizations", True)
    # Tracr draws random weights and overwrites them all with zeros; drawing is most of its time.
    zeros = mock.patch.object(
        haiku.initializers, "VarianceScaling", lambda *_: haiku.initializers.Constant(0.0)
    )
    with zeros, mock.patch.object(compiling, "compile_rasp_to_model", kept):
        compiled = compile_program(program, vocabulary, length, name=name)
    return Case(program, compiled, made[0], repeats)
