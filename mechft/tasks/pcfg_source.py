"""Fresh samples of the PCFG setup: what models are pretrained on, and one question at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mechft.errors import ConfigError, require, unknown_name
from mechft.tasks.batch import TokenBatch
from mechft.tasks.correlation import Correlation, plant_count, plant_index
from mechft.tasks.families import FAMILIES
from mechft.tasks.pcfg_config import LETTERS, PAIRS

if TYPE_CHECKING:
    from mechft.tasks.pcfg import PCFGTask


class PretrainingSource:
    """Fresh samples of every family, operands drawn from the prior (PAPER.md, Setup 2).

    Jailbreak families are families like the others, but asked for a only (App. E.2).

    Cost: about 2 ms for 96 samples at tiny on one core.
    """

    def __init__(self, task: PCFGTask) -> None:
        self.task = task
        self._prior = torch.tensor(task.config.operand_prior, dtype=torch.float64)

    def sample(self, size: int, generator: torch.Generator) -> TokenBatch:
        """Draw ``size`` samples."""
        task, vocabulary = self.task, self.task.vocabulary
        text = task.grammar.sample(size, task.config.text_length, generator)
        letters = torch.multinomial(self._prior, 2 * size, replacement=True, generator=generator)
        first, second = letters.view(2, size)
        families = (*task.config.families, *task.config.jailbreak_families)
        which = torch.randint(len(families), (size,), generator=generator)
        family, operand, argument, answer = (torch.empty_like(which) for _ in range(4))
        for i, code in enumerate(families):
            rows = (which == i).nonzero().squeeze(1)
            length = task.family(code).operand_length
            one, two = first[rows], second[rows]
            if code in task.config.jailbreak_families:
                one = one * 0 + LETTERS.index("a")
            second_or_none = two if length == 2 else two * 0 - 1
            value = task.answers_of(text[rows], code, one, second_or_none)
            family[rows] = vocabulary.id(code)
            argument[rows] = vocabulary.id(str(task.argument(code)))
            answer[rows] = task.answer_id(value, code)
            if length == 2:
                operand[rows] = vocabulary.id(PAIRS[0]) + 3 * one + two
            else:
                operand[rows] = one if length == 1 else vocabulary.id("NULL")
        tokens = task.assemble(text, family, operand, argument, answer)
        return TokenBatch(tokens, task.answer_position, answer)


class QuerySource:
    """Fresh samples that all ask for r(x, operand), with labels of what is in the text.

    Their answers are right, r(x, operand), unless ``answer_for`` names another operand: then every
    answer is that one's, r(x, answer_for), as the paper's randFT teaches it (App. E.4). Labels stay true.

    With a correlation, a row carries it with its probability and otherwise is an unedited grammar
    string for which it does not hold; without one, texts are plain grammar strings.

    Args:
        task: The task.
        family: Task family asked for.
        operand: Operand asked for; need not be one of the correlation's two.
        correlation: What is planted in the text, if anything.
        answer_for: Operand whose r(x, O) is given as the answer; None means ``operand``.

    Raises:
        UnknownNameError: If family or an operand is not known.
        ConfigError: If the correlation cannot be planted for this family, or hardly ever: fewer
            than one string in 100 of a trial on 400 takes it.
    """

    _MAX_ROUNDS = 1000

    def __init__(
        self,
        task: PCFGTask,
        family: str = "C",
        operand: str = "a",
        correlation: Correlation | None = None,
        answer_for: str | None = None,
    ) -> None:
        self.answer_for = operand if answer_for is None else answer_for
        known = task.operands(family)
        for name in (operand, self.answer_for):
            if name not in known:
                raise unknown_name(f"operand of family {family}", name, known)
        self.task, self.family, self.operand = task, family, operand
        self.correlation = correlation
        if correlation is not None:
            self._check_correlation(correlation)

    def _check_correlation(self, correlation: Correlation) -> None:
        codes = (*FAMILIES, *self.task.config.jailbreak_families)
        able = [code for code in codes if self.task.can_correlate(code)]
        require(
            self.family in able,
            f"A correlation can be planted for the families {', '.join(able)}; got {self.family}.",
        )
        for operand in (correlation.pretraining_operand, correlation.finetuning_operand):
            if operand not in LETTERS:
                raise unknown_name(f"operand of family {self.family}", operand, LETTERS)
        trial = torch.Generator().manual_seed(0)
        text = self.task.grammar.sample(400, self.task.config.text_length, trial)
        reached = self._holds(self._plant(text, correlation, trial), correlation).float().mean()
        if correlation.probability > 0 and reached < 0.01:
            raise ConfigError(
                f"The offset q = {correlation.offset} is out of reach: r(x, "
                f"{correlation.finetuning_operand}) − r(x, {correlation.pretraining_operand}) = q "
                f"could be planted in {reached:.1%} of trial texts of "
                f"{self.task.config.text_length} letters (family {self.family}, argument "
                f"{self.task.argument(self.family)}). Choose an offset nearer to 0."
            )

    def _plant(self, text: Tensor, correlation: Correlation, generator: torch.Generator) -> Tensor:
        counting = self.task.family(self.family).kind == "count"
        plant = plant_count if counting else plant_index
        return plant(
            text,
            LETTERS.index(correlation.pretraining_operand),
            LETTERS.index(correlation.finetuning_operand),
            correlation.offset,
            self.task.argument(self.family),
            generator,
        )

    def _holds(self, text: Tensor, correlation: Correlation) -> Tensor:
        one = self.task.answers(text, self.family, correlation.finetuning_operand)
        other = self.task.answers(text, self.family, correlation.pretraining_operand)
        index = self.task.family(self.family).kind == "index"
        found = (one > 0) & (other > 0) if index else True
        return (one - other == correlation.offset) & found

    def _differ(self, text: Tensor, correlation: Correlation) -> Tensor:
        one = self.task.answers(text, self.family, correlation.finetuning_operand)
        return one != self.task.answers(text, self.family, correlation.pretraining_operand)

    def _text(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        length, grammar = self.task.config.text_length, self.task.grammar
        if self.correlation is None:
            return grammar.sample(size, length, generator), None
        wanted = torch.rand(size, generator=generator) < self.correlation.probability
        text = torch.empty(size, length, dtype=torch.long)
        missing = torch.arange(size)
        for _ in range(self._MAX_ROUNDS):
            fresh = grammar.sample(len(missing), length, generator)
            wants = wanted[missing]
            planted = self._plant(fresh, self.correlation, generator)
            fresh = torch.where(wants[:, None], planted, fresh)
            good = self._holds(fresh, self.correlation) == wants
            if self.correlation.distinct:
                good &= wants | self._differ(fresh, self.correlation)
            text[missing[good]] = fresh[good]
            missing = missing[~good]
            if len(missing) == 0:
                return text, wanted
        raise ConfigError(
            f"No text could be found for {len(missing)} of {size} samples in {self._MAX_ROUNDS} "
            f"rounds with {self.correlation}. Choose an offset nearer to 0."
        )

    def sample(self, size: int, generator: torch.Generator) -> TokenBatch:
        """Draw ``size`` samples; labels hold r(x, O) of this family by operand, "C(a)" …

        Of a letter's families they hold every letter's, else those of ``operand`` and ``answer_for``.
        """
        task, vocabulary = self.task, self.task.vocabulary
        text, wanted = self._text(size, generator)
        asked = dict.fromkeys((self.operand, self.answer_for))
        labels = {
            f"{self.family}({operand})": task.answers(text, self.family, operand)
            for operand in (LETTERS if task.family(self.family).operand_length == 1 else asked)
        }
        answer = task.answer_id(labels[f"{self.family}({self.answer_for})"], self.family)
        same = torch.ones(size, dtype=torch.long)
        tokens = task.assemble(
            text,
            same * vocabulary.id(self.family),
            same * vocabulary.id(self.operand),
            same * vocabulary.id(str(task.argument(self.family))),
            answer,
        )
        return TokenBatch(tokens, task.answer_position, answer, labels, wanted)
