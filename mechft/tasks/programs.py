"""The tasks of the programs compiled by Tracr (Jain et al. 2024, Sec. 4 and App. C: Setup 1).

A sample is ``$ letters``. Attention is bidirectional, and the answer is read at the last position:
nothing follows it, and answers have a vocabulary of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from mechft.errors import ConfigError, require, unknown_name
from mechft.tasks.contrast import Contrast
from mechft.tasks.correlation import Correlation
from mechft.tasks.program_config import ProgramConfig
from mechft.tasks.program_source import ProgramSource
from mechft.tasks.program_strings import BOS, FILLER, strings_of
from mechft.tasks.vocabulary import Vocabulary

_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


class ProgramTask:
    """Strings for a compiled program, and the questions that can be asked about one.

    The family is the program's name. For "counter", r(x, O) is the number of occurrences of the
    letter O; for "max" it is the O-th largest letter, O written "1", "2", …, as a place in the
    alphabet (a = 0, the largest), so that r(x, "6") − r(x, "5") is counted in places.

    Attributes:
        config: Program and lengths.
        strings: The program's letters, sampling rule and table of answers.
        vocabulary: Input tokens, in the order of Tracr's input encoding.
        answer_vocabulary: Answers, in the order of Tracr's output encoding; answer ids are its.
        answer_position: The last position, where the answer is read.
        contrast: What the paper sets against what: counts of a and b; the fifth and the sixth largest
            letter (the last two where strings can be shorter than six); q = 1.

    Source: Jain et al. (2024), Sec. 4 and App. C.

    Example:
        >>> import mechft as mf
        >>> task = mf.ProgramTask(mf.ProgramConfig("max"))
        >>> tokens = task.encode("bdafhmxpqn")[None]
        >>> tokens.shape  # "$" and ten letters
        torch.Size([1, 11])
        >>> task.answers(tokens, "5").item()  # the fifth of a b d f h m n p q x is h, place 7 from a = 0
        7
    """

    kind = "program"

    def __init__(self, config: ProgramConfig | None = None) -> None:
        self.config = config or ProgramConfig()
        self.strings = strings_of(self.config)
        self.vocabulary = Vocabulary(self.strings.inputs)
        self.answer_vocabulary = Vocabulary(self.strings.outputs)
        self.answer_position = self.config.length
        if self.config.program == "counter":
            self.contrast = Contrast("counter", "a", "b", 1)
        else:
            second = min(6, self.config.shortest)
            self.contrast = Contrast("max", str(second - 1), str(second), 1)
        names = [*self.strings.letters, *((FILLER,) if FILLER in self.vocabulary else ())]
        self._ids = self.vocabulary.encode(names)
        self._codes = torch.full((len(self.vocabulary),), len(self.strings.letters))
        self._codes[self._ids] = torch.arange(len(names))

    @property
    def n_ctx(self) -> int:
        """Positions a model must take: "$" and the letters."""
        return self.config.length + 1

    def to_dict(self) -> dict[str, Any]:
        """The config as plain JSON values; ``from_dict`` undoes it."""
        return {"kind": self.kind, **asdict(self.config)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ProgramTask:
        """The task that ``to_dict`` described.

        Raises:
            UnknownNameError: If it is a task of another kind.
        """
        if values.get("kind") != cls.kind:
            raise unknown_name("kind of task", values.get("kind"), (cls.kind,))
        return cls(ProgramConfig(**{k: v for k, v in values.items() if k != "kind"}))

    def can_correlate(self, family: str) -> bool:
        """Whether strings with the correlation can be drawn; true of both programs.

        Raises:
            UnknownNameError: If the family is not this program's.
        """
        return bool(self.operands(family))

    def operands(self, family: str) -> tuple[str, ...]:
        """Every operand the family can be asked about: the letters; the places every string has.

        Raises:
            UnknownNameError: If the family is not this program's.
        """
        if family != self.config.program:
            raise unknown_name("task family", family, (self.config.program,))
        return self.strings.operands

    def column(self, operand: str) -> int:
        """Which column of ``strings.facts`` answers for an operand.

        Raises:
            ConfigError: If some string of the task has too few letters for it.
            UnknownNameError: If it is no operand at all.
        """
        known = self.strings.operands
        if operand in known:
            return known.index(operand)
        places = [str(n + 1) for n in range(len(self.strings.letters))]
        if self.config.program == "max" and operand in places:
            raise ConfigError(
                f"Operand {operand} of max asks for the {operand}. largest letter, so every string "
                f"needs {operand} letters; strings of this task have {self.config.shortest} to "
                f"{self.config.length}. Raise shortest (and length), or ask for a smaller operand."
            )
        raise unknown_name(f"operand of family {self.config.program}", operand, known)

    def answers(self, tokens: Int[Tensor, "batch pos"], operand: str) -> Int[Tensor, " batch"]:
        """r(x, O) of token ids, as values: counts, or places in the alphabet (a = 0).

        Args:
            tokens: Whole inputs or their letters alone, of an integer type; "$", "#" and "PAD" are not
                letters.
            operand: One of ``operands``.

        Raises:
            ConfigError: If the tokens are not rows of integers, an id is outside the vocabulary, or a row has
                too few letters for the operand.
            UnknownNameError: If the operand is not known.
        """
        column = self.column(operand)
        given = (
            f"{list(tokens.shape)} {tokens.dtype}" if isinstance(tokens, Tensor) else repr(tokens)
        )
        require(
            isinstance(tokens, Tensor) and tokens.dim() == 2 and tokens.dtype in _INTEGERS,
            f"Token ids are a tensor of integers, [batch, pos]; got {given}. Encode strings with "
            "task.encode, and give one of them as tokens[None].",
        )
        tokens = tokens.long()  # bytes would be taken for a mask
        outside = tokens[(tokens < 0) | (tokens >= len(self.vocabulary))]
        require(
            len(outside) == 0,
            f"Token ids lie in 0..{len(self.vocabulary) - 1}; got {outside[:5].tolist()}. Encode "
            "strings with task.encode.",
        )
        facts = self.strings.facts(self._codes.to(tokens.device)[tokens])
        enough = facts.shape[1] > column
        if enough and self.config.program == "max":
            enough = bool((facts[:, column] < len(self.strings.letters)).all())
        require(
            enough,
            f"The {operand}. largest letter exists only in strings of at least {operand} letters; "
            "some row has fewer.",
        )
        return facts[:, column]

    def answer_id(self, values: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
        """Ids in ``answer_vocabulary`` of values that ``answers`` gave."""
        return values + self.strings.first_output

    def encode(self, text: str) -> Int[Tensor, " pos"]:
        """The whole input of one string of letters: "$" before it and, for max, "#" after it.

        Args:
            text: Letters; for max with any "#" that fill it up at its end, as ``display`` shows it.

        Raises:
            ConfigError: If it is no string, is longer than the task's strings, holds a "$", or has a
                letter after a "#".
            UnknownNameError: If it holds something that is no token.
        """
        require(
            isinstance(text, str),
            f"The letters to encode are one string, such as {self.strings.letters[:3]!r}; got {text!r}.",
        )
        require(
            len(text) <= self.config.length,
            f"A string has at most {self.config.length} letters here; got {len(text)}: {text!r}.",
        )
        require(
            BOS not in text,
            f"{BOS!r} begins every input and is put first by itself; got it within {text!r}. Leave it out.",
        )
        if FILLER in self.vocabulary:
            require(
                FILLER not in text.rstrip(FILLER),
                f"{FILLER!r} only fills a string up at its end; got {text!r}, with a letter after one. Leave "
                "it out: a short string is filled up by itself.",
            )
            text = text.ljust(self.config.length, FILLER)
        return self.vocabulary.encode([BOS, *text])

    def display(self, tokens: Int[Tensor, "batch pos"]) -> list[str]:
        """Rows as text: letters and "#", without the "$" they begin with."""
        return ["".join(self.vocabulary.decode(row)).removeprefix(BOS) for row in tokens.tolist()]

    def assemble(self, codes: Int[Tensor, "batch letter"]) -> Int[Tensor, "batch pos"]:
        """Whole inputs of drawn strings."""
        begin = torch.full((len(codes), 1), self.vocabulary.id(BOS))
        return torch.cat([begin, self._ids[codes]], 1)

    def query(
        self, family: str, operand: str, correlation: Correlation | None = None
    ) -> ProgramSource:
        """Samples that all ask one question, on plain strings or on correlated ones."""
        return ProgramSource(self, family, operand, correlation)
