"""Fresh strings for a compiled program, with and without the planted correlation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mechft.errors import ConfigError, require
from mechft.tasks.batch import TokenBatch
from mechft.tasks.correlation import Correlation

if TYPE_CHECKING:
    from mechft.tasks.programs import ProgramTask

_TRIAL = 4096  # strings tried before a correlation is accepted
_RAREST = 0.005  # share of them that must (and must not) have it: at worst 200 candidates a row
_LARGEST_POOL = 65_536  # candidates drawn at once: 24 MB of the counter's strings
_FRUITLESS_ROUNDS = 100  # at shares of _RAREST the chance of as many without a find is below 1e-50


class ProgramSource:
    """Fresh strings that all ask for r(x, operand), with labels of what is in them.

    Strings follow the task's sampling rule. With a correlation, a row carries it with its probability
    and otherwise does not, and either is *exactly* the rule conditioned on that: candidates are drawn
    by the rule and the first that fit are taken. (The PCFG's strings are edited instead, as the
    paper edits them; of these programs it says only that strings are sampled.) No string is edited,
    so labels given the correlation are those of the strings that happen to have it.

    Labels: "counter(a)" … "counter(i)", the counts of every letter (46/9 = 5.1 expected of each in
    plain strings of 46, standard deviation 2.1; the correlation with q = 1 holds in 12% of them); or
    "max(5)", "max(6)" … of the operand asked, the correlation's and the contrast's, as
    places in the alphabet (of ten letters the n-th largest is at place 27 n / 11 − 1 on average;
    fifth and sixth are neighbours in 38% of plain strings).

    Args:
        task: The task.
        family: Task family asked for; the program's name.
        operand: Operand asked for; need not be one of the correlation's two.
        correlation: What must hold of the strings, if anything.

    Raises:
        UnknownNameError: If family or operand is not known.
        ConfigError: If an operand needs more letters than every string has, or the correlation is
            out of reach: of 4,096 trial strings fewer than one in 200 have it, or lack it, though
            the probability asks for such rows.

    Cost: 96 rows take about 0.5 ms on one core, with the correlation or without.
    """

    def __init__(
        self,
        task: ProgramTask,
        family: str,
        operand: str,
        correlation: Correlation | None = None,
    ) -> None:
        task.operands(family)  # raises for another family
        self.task, self.family, self.operand = task, family, operand
        self.correlation = correlation
        self._column = task.column(operand)
        if correlation is not None:
            self._pretraining = task.column(correlation.pretraining_operand)
            self._finetuning = task.column(correlation.finetuning_operand)
            self._shares = self._reached(correlation)
        self._labels = {f"{family}({name})": task.column(name) for name in self._labelled()}

    def _labelled(self) -> tuple[str, ...]:
        if self.family == "counter":
            return self.task.strings.operands
        contrast, correlation = self.task.contrast, self.correlation
        names = [self.operand, contrast.pretraining_operand, contrast.finetuning_operand]
        if correlation is not None:
            names += [correlation.pretraining_operand, correlation.finetuning_operand]
        return tuple(sorted(set(names), key=int))

    def _fits(self, codes: Tensor, correlation: Correlation) -> dict[bool, Bool[Tensor, " batch"]]:
        """Which strings do as ones with the correlation (True), and which as ones without (False)."""
        facts = self.task.strings.facts(codes)
        gap = facts[:, self._finetuning] - facts[:, self._pretraining]
        holds = gap == correlation.offset
        return {True: holds, False: ~holds & (gap != 0) if correlation.distinct else ~holds}

    def _reached(self, correlation: Correlation) -> dict[bool, float]:
        """Shares of plain strings that do, from a trial; raises if one asked for is out of reach."""
        trial = self.task.strings.draw(_TRIAL, torch.Generator().manual_seed(0))
        fits = self._fits(trial, correlation)
        shares = {kind: float(found.double().mean()) for kind, found in fits.items()}
        share = shares[True]
        claim = (
            f"r(x, {correlation.finetuning_operand}) − r(x, {correlation.pretraining_operand}) = "
            f"{correlation.offset} holds in {share:.1%} of {_TRIAL} trial strings of the program "
            f"{self.family} with {self.task.config.shortest} to {self.task.config.length} letters"
        )
        require(
            correlation.probability == 0 or share >= _RAREST,
            f"The offset q = {correlation.offset} is out of reach: {claim}. Choose an offset nearer "
            "to what plain strings have.",
        )
        require(
            correlation.probability == 1 or shares[False] >= _RAREST,
            f"Strings without the correlation are out of reach: {claim}. Choose another offset, a "
            "shorter length, or probability 1.",
        )
        return shares

    def _conditioned(
        self, size: int, generator: torch.Generator, correlation: Correlation
    ) -> tuple[Int[Tensor, "batch letter"], Bool[Tensor, " batch"]]:
        """Strings that have the correlation where a coin of its probability says so."""
        wanted = torch.rand(size, generator=generator) < correlation.probability
        codes = torch.empty(size, self.task.config.length, dtype=torch.long)
        shares = self._shares
        rows = {kind: (wanted == kind).nonzero().squeeze(1) for kind in shares}
        fruitless = 0
        while any(len(left) for left in rows.values()):
            # A tenth and 16 candidates above what is expected to do: mostly one round suffices.
            expected = max(len(rows[kind]) / shares[kind] for kind in rows if len(rows[kind]))
            pool = self.task.strings.draw(
                min(math.ceil(1.1 * expected) + 16, _LARGEST_POOL), generator
            )
            fits = self._fits(pool, correlation)
            fruitless += 1
            for kind, left in rows.items():
                found = fits[kind].nonzero().squeeze(1)[: len(left)]
                codes[left[: len(found)]] = pool[found]
                rows[kind] = left[len(found) :]
                fruitless = 0 if len(found) else fruitless
            if fruitless >= _FRUITLESS_ROUNDS:
                missing = sum(len(left) for left in rows.values())
                raise ConfigError(
                    f"No string could be found for {missing} of {size} samples in "
                    f"{_FRUITLESS_ROUNDS} rounds with {correlation}. Choose an offset nearer to "
                    "what plain strings have."
                )
        return codes, wanted

    def sample(self, size: int, generator: torch.Generator) -> TokenBatch:
        """Draw ``size`` samples, using only the randomness of ``generator``."""
        task, wanted = self.task, None
        if self.correlation is None:
            codes = task.strings.draw(size, generator)
        else:
            codes, wanted = self._conditioned(size, generator, self.correlation)
        facts = task.strings.facts(codes)
        labels = {name: facts[:, column] for name, column in self._labels.items()}
        answer = task.answer_id(facts[:, self._column])
        return TokenBatch(task.assemble(codes), task.answer_position, answer, labels, wanted)
