"""The PCFG setup of Jain et al. (2024, Sec. 4 and App. B): texts, questions about them, samples.

A sample is ``SOS T O O' SOT text EOT ART answer EOS``: the task family, its operand and its
argument come first, ART requests the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from mechft.errors import ConfigError, require, unknown_name
from mechft.tasks.batch import TokenBatch
from mechft.tasks.contrast import Contrast
from mechft.tasks.correlation import Correlation, plant_count, plant_index
from mechft.tasks.families import FAMILIES, count_in_window, index_of_occurrence, matches
from mechft.tasks.pcfg_config import GRAMMAR, LETTERS, PAIRS, PCFGConfig
from mechft.tasks.vocabulary import Vocabulary

_SPECIAL = ("SOS", "SOT", "EOT", "ART", "EOS", "NULL")


class PCFGTask:
    """Samples of the PCFG setup and the questions that can be asked about a text.

    Attributes:
        vocabulary: Tokens; the text's letters a, b, c are 0, 1, 2 and double as operands.
        answer_vocabulary: What answers' ids are of: the same tokens.
        answer_position: Position of ART, whose next token is the answer.
        contrast: What the paper sets against what: counts of a and b, q = 1.
    """

    kind = "pcfg"

    def __init__(self, config: PCFGConfig) -> None:
        self.config = config
        self.grammar = GRAMMAR
        numbers = [str(n) for n in range(config.text_length + 1)]
        self.vocabulary = Vocabulary([*LETTERS, *PAIRS, *_SPECIAL, *FAMILIES, *numbers])
        self.answer_vocabulary = self.vocabulary
        self.contrast = Contrast()
        self._zero = self.vocabulary.id("0")
        self._text_start = 5
        self.answer_position = self._text_start + config.text_length + 1

    @property
    def sample_length(self) -> int:
        """Tokens in a sample: the text and nine others."""
        return self.config.text_length + 9

    @property
    def n_ctx(self) -> int:
        """Positions a model must take: a sample without its last token, after which nothing comes."""
        return self.sample_length - 1

    def to_dict(self) -> dict[str, Any]:
        """The config as plain JSON values; ``from_dict`` undoes it."""
        return {"kind": self.kind, **asdict(self.config)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PCFGTask:
        """The task that ``to_dict`` described.

        Raises:
            UnknownNameError: If it is a task of another kind.
        """
        if values.get("kind") != cls.kind:
            raise unknown_name("kind of task", values.get("kind"), (cls.kind,))
        return cls(PCFGConfig(**{k: v for k, v in values.items() if k != "kind"}))

    def argument(self, family: str) -> int:
        """O' of a family: its window, occurrence or position."""
        return {
            "C": self.config.counting_window,
            "CC": self.config.counting_window,
            "I": self.config.occurrence,
            "IC": self.config.pair_occurrence,
            "T": self.config.lookback,
        }[family]

    def can_correlate(self, family: str) -> bool:
        """Whether a correlation can be planted in texts for this family: C and I.

        Raises:
            UnknownNameError: If the family is not known.
        """
        if family not in FAMILIES:
            raise unknown_name("task family", family, FAMILIES)
        return FAMILIES[family].can_correlate

    def operands(self, family: str) -> tuple[str, ...]:
        """Every operand a family can be asked about."""
        if family not in FAMILIES:
            raise unknown_name("task family", family, FAMILIES)
        return (("NULL",), LETTERS, PAIRS)[FAMILIES[family].operand_length]

    def answers(
        self, text: Int[Tensor, "batch text"], family: str, operand: str
    ) -> Int[Tensor, " batch"]:
        """r(x, O): counts and positions as numbers, letters as token ids.

        Raises:
            UnknownNameError: If the family or the operand is not known.
        """
        if operand not in (known := self.operands(family)):
            raise unknown_name(f"operand of family {family}", operand, known)
        codes = [LETTERS.index(letter) for letter in operand] if operand != "NULL" else [0]
        first = torch.full((len(text),), codes[0])
        second = torch.full((len(text),), codes[1] if len(codes) == 2 else -1)
        return self._answers(text, family, first, second)

    def _answers(self, text: Tensor, family: str, first: Tensor, second: Tensor) -> Tensor:
        kind = FAMILIES[family].kind
        if kind == "token":
            return text[:, -self.config.lookback]
        hits = matches(text, first, second)
        if kind == "index":
            return index_of_occurrence(hits, self.argument(family))
        # The second letter of a counted pair is inside the window: it reaches to the text's end.
        return count_in_window(hits, self.argument(family))

    def assemble(
        self,
        text: Int[Tensor, "batch text"],
        family: Int[Tensor, " batch"],
        operand: Int[Tensor, " batch"],
        argument: Int[Tensor, " batch"],
        answer: Int[Tensor, " batch"],
    ) -> Int[Tensor, "batch pos"]:
        """Whole samples from their parts, all given as token ids."""
        id_of, start = self.vocabulary.id, self._text_start
        tokens = torch.empty(len(text), self.sample_length, dtype=torch.long)
        tokens[:, 0], tokens[:, start - 1] = id_of("SOS"), id_of("SOT")
        tokens[:, 1], tokens[:, 2], tokens[:, 3] = family, operand, argument
        tokens[:, start:-4] = text
        tokens[:, -4], tokens[:, -3] = id_of("EOT"), id_of("ART")
        tokens[:, -2], tokens[:, -1] = answer, id_of("EOS")
        return tokens

    def text(self, tokens: Int[Tensor, "batch pos"]) -> Int[Tensor, "batch text"]:
        """The letters inside samples."""
        return tokens[:, self._text_start : self._text_start + self.config.text_length]

    def pretraining(self) -> PretrainingSource:
        """The mixture of all families and operands that models are pretrained on."""
        return PretrainingSource(self)

    def query(
        self, family: str, operand: str, correlation: Correlation | None = None
    ) -> QuerySource:
        """Samples that all ask one question, on grammar strings or on correlated ones."""
        return QuerySource(self, family, operand, correlation)


class PretrainingSource:
    """Fresh samples of every family, operands drawn from the prior (PAPER.md, Setup 2).

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
        which = torch.randint(len(task.config.families), (size,), generator=generator)
        family, operand, argument, answer = (torch.empty_like(which) for _ in range(4))
        for i, code in enumerate(task.config.families):
            rows = (which == i).nonzero().squeeze(1)
            length = FAMILIES[code].operand_length
            one, two = first[rows], second[rows]
            value = task._answers(text[rows], code, one, two if length == 2 else two * 0 - 1)
            family[rows] = vocabulary.id(code)
            argument[rows] = vocabulary.id(str(task.argument(code)))
            answer[rows] = value if FAMILIES[code].kind == "token" else value + task._zero
            if length == 2:
                operand[rows] = vocabulary.id(PAIRS[0]) + 3 * one + two
            else:
                operand[rows] = one if length == 1 else vocabulary.id("NULL")
        tokens = task.assemble(text, family, operand, argument, answer)
        return TokenBatch(tokens, task.answer_position, answer)


class QuerySource:
    """Fresh samples that all ask for r(x, operand), with labels of what is in the text.

    With a correlation, a row carries it with its probability and otherwise is an unedited grammar
    string for which it does not hold; without one, texts are plain grammar strings.

    Args:
        task: The task.
        family: Task family asked for.
        operand: Operand asked for; need not be one of the correlation's two.
        correlation: What is planted in the text, if anything.

    Raises:
        UnknownNameError: If family or operand is not known.
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
    ) -> None:
        if operand not in (known := task.operands(family)):
            raise unknown_name(f"operand of family {family}", operand, known)
        self.task, self.family, self.operand = task, family, operand
        self.correlation = correlation
        if correlation is not None:
            self._check_correlation(correlation)

    def _check_correlation(self, correlation: Correlation) -> None:
        able = [code for code, family in FAMILIES.items() if family.can_correlate]
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
        plant = plant_count if FAMILIES[self.family].kind == "count" else plant_index
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
        found = (one > 0) & (other > 0) if FAMILIES[self.family].kind == "index" else True
        return (one - other == correlation.offset) & found

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
            text[missing[good]] = fresh[good]
            missing = missing[~good]
            if len(missing) == 0:
                return text, wanted
        raise ConfigError(
            f"No text could be found for {len(missing)} of {size} samples in {self._MAX_ROUNDS} "
            f"rounds with {self.correlation}. Choose an offset nearer to 0."
        )

    def sample(self, size: int, generator: torch.Generator) -> TokenBatch:
        """Draw ``size`` samples; labels hold r(x, O) of this family for every operand, "C(a)" …"""
        task, vocabulary = self.task, self.task.vocabulary
        text, wanted = self._text(size, generator)
        labels = {
            f"{self.family}({operand})": task.answers(text, self.family, operand)
            for operand in (LETTERS if self.family in ("C", "I") else (self.operand,))
        }
        value = labels[f"{self.family}({self.operand})"]
        answer = value if FAMILIES[self.family].kind == "token" else value + task._zero
        same = torch.ones(size, dtype=torch.long)
        tokens = task.assemble(
            text,
            same * vocabulary.id(self.family),
            same * vocabulary.id(self.operand),
            same * vocabulary.id(str(task.argument(self.family))),
            answer,
        )
        return TokenBatch(tokens, task.answer_position, answer, labels, wanted)
