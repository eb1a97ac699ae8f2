"""Strings of a task's own rule, conditioned on the planted correlation holding, or not."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mechft.errors import ConfigError, require
from mechft.tasks.correlation import Correlation

_TRIAL = 4096  # strings tried before a correlation is accepted
_RAREST = 0.005  # share of them that must (and must not) have it: at worst 200 candidates a row
_LARGEST_POOL = 65_536  # candidates drawn at once: 24 MB of the counter's strings
_FRUITLESS_ROUNDS = 100  # at shares of _RAREST the chance of as many without a find is below 1e-50


@dataclass(frozen=True)
class Conditioned:
    """Fresh strings, each with the correlation or without it as a coin of its probability says.

    Either kind is *exactly* the task's rule conditioned on that: candidates are drawn by the rule and the
    first that fit are taken. No string is edited, so labels given the correlation are those of the strings
    that happen to have it.

    Attributes:
        draw: The rule: some strings from a generator, in rows.
        values: r(x, O_PT) and r(x, O_FT) of each string.
        correlation: What holds of a string, and how often.
        of: Which strings these are, for errors: "strings of the program max with 10 to 10 letters".

    Raises:
        ConfigError: If the correlation is out of reach: of 4,096 trial strings fewer than one in 200
            have it, or lack it, though the probability asks for such strings.
    """

    draw: Callable[[int, torch.Generator], Int[Tensor, "string item"]]
    values: Callable[[Int[Tensor, "string item"]], tuple[Tensor, Tensor]]
    correlation: Correlation
    of: str
    _shares: dict[bool, float] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        trial = self.draw(_TRIAL, torch.Generator().manual_seed(0))
        shares = {kind: float(fit.double().mean()) for kind, fit in self._fits(trial).items()}
        object.__setattr__(self, "_shares", shares)
        correlation = self.correlation
        claim = (
            f"r(x, {correlation.finetuning_operand}) − r(x, {correlation.pretraining_operand}) = "
            f"{correlation.offset} holds in {shares[True]:.1%} of {_TRIAL} trial {self.of}"
        )
        require(
            correlation.probability == 0 or shares[True] >= _RAREST,
            f"The offset q = {correlation.offset} is out of reach: {claim}. Give the task or the recipe an "
            f"offset that plain strings have: {self._offsets(trial)}.",
        )
        require(
            correlation.probability == 1 or shares[False] >= _RAREST,
            f"Strings without the correlation are out of reach: {claim}. Choose another offset, other "
            "strings, or probability 1.",
        )

    def _offsets(self, strings: Tensor) -> str:
        """The offsets that most strings have, in words."""
        pretraining, finetuning = self.values(strings)
        offsets, counts = (finetuning - pretraining).unique(return_counts=True)
        shown = counts.argsort(descending=True)[:4].tolist()
        return ", ".join(f"{offsets[i]:g} ({counts[i] / len(strings):.1%})" for i in shown)

    def _fits(self, strings: Tensor) -> dict[bool, Bool[Tensor, " string"]]:
        """Which strings do as ones with the correlation (True), and which as ones without (False)."""
        pretraining, finetuning = self.values(strings)
        gap = finetuning - pretraining
        holds = gap == self.correlation.offset
        return {True: holds, False: ~holds & (gap != 0) if self.correlation.distinct else ~holds}

    def sample(
        self, size: int, generator: torch.Generator
    ) -> tuple[Int[Tensor, "string item"], Bool[Tensor, " string"]]:
        """Draw ``size`` strings, and say which of them have the correlation.

        Raises:
            ConfigError: If 100 rounds in a row find none that fits, which after the trial hardly happens.

        Cost: about 1 / share candidates a string, drawn in pools.
        """
        shares = self._shares
        wanted = torch.rand(size, generator=generator) < self.correlation.probability
        rows = {kind: (wanted == kind).nonzero().squeeze(1) for kind in shares}
        found: Tensor | None = None
        fruitless = 0
        while any(len(left) for left in rows.values()):
            # A tenth and 16 candidates above what is expected to do: mostly one round suffices.
            expected = max(len(rows[kind]) / shares[kind] for kind in rows if len(rows[kind]))
            pool = self.draw(min(math.ceil(1.1 * expected) + 16, _LARGEST_POOL), generator)
            found = torch.empty(size, *pool.shape[1:], dtype=pool.dtype) if found is None else found
            fits = self._fits(pool)
            fruitless += 1
            for kind, left in rows.items():
                good = fits[kind].nonzero().squeeze(1)[: len(left)]
                found[left[: len(good)]] = pool[good]
                rows[kind] = left[len(good) :]
                fruitless = 0 if len(good) else fruitless
            if fruitless >= _FRUITLESS_ROUNDS:
                missing = sum(len(left) for left in rows.values())
                raise ConfigError(
                    f"No string could be found for {missing} of {size} samples in "
                    f"{_FRUITLESS_ROUNDS} rounds with {self.correlation}. Choose an offset nearer to "
                    "what plain strings have."
                )
        return self.draw(0, generator) if found is None else found, wanted
