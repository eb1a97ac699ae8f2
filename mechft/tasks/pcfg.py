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

from mechft.errors import unknown_name
from mechft.tasks.contrast import Contrast
from mechft.tasks.correlation import Correlation
from mechft.tasks.families import (
    FAMILIES,
    Family,
    count_in_window,
    index_of_occurrence,
    jailbreak_family,
    matches,
)
from mechft.tasks.pcfg_config import GRAMMAR, LETTERS, PAIRS, PCFGConfig, token_names
from mechft.tasks.pcfg_source import PretrainingSource, QuerySource
from mechft.tasks.vocabulary import Vocabulary


class PCFGTask:
    """Samples of the PCFG setup and the questions that can be asked about a text.

    Attributes:
        config: Lengths, priors and families.
        vocabulary: Tokens; the text's letters a, b, c are 0, 1, 2 and double as operands.
        answer_vocabulary: What answers' ids are of: the same tokens.
        answer_position: Position of ART, whose next token is the answer.
        contrast: What the paper sets against what: counts of a and b, q = 1.

    Source: Jain et al. (2024), Sec. 4 and App. B.

    Example:
        >>> import mechft as mf
        >>> task = mf.PCFGTask(mf.PCFGConfig(text_length=12, counting_window=6, lookback=6))
        >>> text = task.vocabulary.encode("cacabbacacab")[None]
        >>> task.answers(text, "C", "a").tolist()  # how many a among the last six letters, "acacab"
        [3]
        >>> rows = task.query("C", "a").sample(5, mf.generator(0))
        >>> rows.tokens.shape  # SOS C a 6 SOT, the text, EOT ART, the answer, EOS
        torch.Size([5, 21])
        >>> task.vocabulary.decode(rows.prompt[0, :5])
        ['SOS', 'C', 'a', '6', 'SOT']
    """

    kind = "pcfg"

    def __init__(self, config: PCFGConfig) -> None:
        self.config = config
        self.grammar = GRAMMAR
        self.vocabulary = Vocabulary(token_names(config))
        self.answer_vocabulary = self.vocabulary
        self.contrast = Contrast()
        self._families = dict(FAMILIES)
        self._families |= {code: jailbreak_family(code) for code in config.jailbreak_families}
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
        """The config as plain JSON values; ``from_dict`` undoes it.

        Without jailbreak families it does not speak of them: files from before there were any, and the
        runs they are compared with, stay the same.
        """
        values = asdict(self.config)
        if not self.config.jailbreak_families:
            del values["jailbreak_families"]
        return {"kind": self.kind, **values}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PCFGTask:
        """The task that ``to_dict`` described.

        Raises:
            UnknownNameError: If it is a task of another kind.
        """
        if values.get("kind") != cls.kind:
            raise unknown_name("kind of task", values.get("kind"), (cls.kind,))
        return cls(PCFGConfig(**{k: v for k, v in values.items() if k != "kind"}))

    def family(self, code: str) -> Family:
        """What a family's token asks for; jailbreak families ask what C asks.

        Raises:
            UnknownNameError: If the family is not known.
        """
        if code not in self._families:
            raise unknown_name("task family", code, self._families)
        return self._families[code]

    def argument(self, family: str) -> int:
        """O' of a family: its window, occurrence or position.

        Raises:
            UnknownNameError: If the family is not known.
        """
        if self.family(family).kind == "count":
            return self.config.counting_window
        return {
            "I": self.config.occurrence,
            "IC": self.config.pair_occurrence,
            "T": self.config.lookback,
        }[family]

    def can_correlate(self, family: str) -> bool:
        """Whether a correlation can be planted in texts for this family: C, I and jailbreak families.

        Raises:
            UnknownNameError: If the family is not known.
        """
        return self.family(family).can_correlate

    def operands(self, family: str) -> tuple[str, ...]:
        """Every operand a family can be asked about.

        Raises:
            UnknownNameError: If the family is not known.
        """
        return (("NULL",), LETTERS, PAIRS)[self.family(family).operand_length]

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
        return self.answers_of(text, family, first, second)

    def answers_of(
        self,
        text: Int[Tensor, "batch text"],
        family: str,
        first: Int[Tensor, " batch"],
        second: Int[Tensor, " batch"],
    ) -> Int[Tensor, " batch"]:
        """``answers`` where each row asks for letters of its own; ``second`` is -1 for a single one."""
        kind = self.family(family).kind
        if kind == "token":
            return text[:, -self.config.lookback]
        hits = matches(text, first, second)
        if kind == "index":
            return index_of_occurrence(hits, self.argument(family))
        # The second letter of a counted pair is inside the window: it reaches to the text's end.
        return count_in_window(hits, self.argument(family))

    def answer_id(self, values: Int[Tensor, " batch"], family: str) -> Int[Tensor, " batch"]:
        """Ids in ``answer_vocabulary`` of a family's answers, as ``answers`` gave them."""
        return values if self.family(family).kind == "token" else values + self._zero

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
        self,
        family: str,
        operand: str,
        correlation: Correlation | None = None,
        *,
        answer_for: str | None = None,
    ) -> QuerySource:
        """Samples that all ask one question, on grammar strings or on correlated ones.

        With ``answer_for`` they give the answer to another question: r(x, answer_for). Raises as
        ``QuerySource``.
        """
        return QuerySource(self, family, operand, correlation, answer_for)
