"""Fresh strings for a compiled program, with and without the planted correlation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Int
from torch import Tensor

from mechft.tasks.batch import TokenBatch
from mechft.tasks.conditioned import Conditioned
from mechft.tasks.correlation import Correlation

if TYPE_CHECKING:
    from mechft.tasks.programs import ProgramTask


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
        self._strings = None if correlation is None else self._conditioned(correlation)
        self._labels = {f"{family}({name})": task.column(name) for name in self._labelled()}

    def _labelled(self) -> tuple[str, ...]:
        if self.family == "counter":
            return self.task.strings.operands
        contrast, correlation = self.task.contrast, self.correlation
        names = [self.operand, contrast.pretraining_operand, contrast.finetuning_operand]
        if correlation is not None:
            names += [correlation.pretraining_operand, correlation.finetuning_operand]
        return tuple(sorted(set(names), key=int))

    def _draw(self, size: int, generator: torch.Generator) -> Int[Tensor, "batch letter"]:
        return self.task.strings.draw(size, generator)

    def _pair(self, codes: Tensor, correlation: Correlation) -> tuple[Tensor, Tensor]:
        """r(x, O_PT) and r(x, O_FT) of strings."""
        facts, task = self.task.strings.facts(codes), self.task
        columns = (correlation.pretraining_operand, correlation.finetuning_operand)
        one, other = (facts[:, task.column(operand)] for operand in columns)
        return one, other

    def _conditioned(self, correlation: Correlation) -> Conditioned:
        """The strings of a correlation; raises if it is out of reach."""
        config = self.task.config
        return Conditioned(
            self._draw,
            lambda codes: self._pair(codes, correlation),
            correlation,
            f"strings of the program {self.family} with {config.shortest} to {config.length} letters",
        )

    def sample(self, size: int, generator: torch.Generator) -> TokenBatch:
        """Draw ``size`` samples, using only the randomness of ``generator``."""
        task, wanted = self.task, None
        if self._strings is None:
            codes = self._draw(size, generator)
        else:
            codes, wanted = self._strings.sample(size, generator)
        facts = task.strings.facts(codes)
        labels = {name: facts[:, column] for name, column in self._labels.items()}
        answer = task.answer_id(facts[:, self._column])
        return TokenBatch(task.assemble(codes), task.answer_position, answer, labels, wanted)
