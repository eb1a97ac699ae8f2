"""A task of one's own from three methods: which strings, which answers, which tokens."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any, ClassVar, TypeVar

import torch
from jaxtyping import Int
from torch import Tensor

from mechft.errors import ConfigError, require, unknown_name
from mechft.tasks.contrast import Contrast
from mechft.tasks.correlation import Correlation
from mechft.tasks.own_source import OwnSource
from mechft.tasks.task import register_task
from mechft.tasks.vocabulary import Vocabulary

EQUALS = "="
OwnT = TypeVar("OwnT", bound="OwnTask")


@dataclass(frozen=True)
class OwnTask(ABC):
    """A task of your own: give it three methods and the names of its operands; the rest follows.

    A sample is ``OPERAND string = answer``, such as "first 3 1 4 = 4". Strings are places in ``tokens``;
    answers are values, which ``answer_name`` turns into names of tokens. Which rows carry the planted
    correlation r(x, O_FT) − r(x, O_PT) = ``offset``, between values, is found by drawing until they do. For
    another layout, or strings that must be edited to carry it, write the members of
    ``mechft.tasks.task.Task`` yourself.

    Subclass it as a frozen dataclass; the fields are the task's settings, plain JSON values with defaults. A
    model for it is made by ``mf.pretrain(task=task)``; one of your own shape (``mf.ModelConfig``) needs
    ``d_vocab=len(task.vocabulary)`` and ``n_ctx=task.n_ctx``. Rows without the correlation come from
    ``task.query(task.kind, "last", task.contrast.correlation(0.0)).sample(100, mf.generator(0))``.

    Attributes:
        operand_names: Class attribute: every operand, O_PT first, then O_FT; each becomes a token.
        offset: Class attribute: q of the correlation, 1 by default.
        kind: Class attribute: names the task in files and labels; the class's name by default. It is also
            the name of the task's one family.
        operand_prior: How often pretraining asks for each operand, in their order; sums to 1. None asks
            for all equally often. Models whose tasks differ in this alone can be compared.

    Raises:
        ConfigError: If a method is missing (names it, and what it is for), fewer than two operands are named,
            the prior does not fit them, or the subclass has fields and is no dataclass.

    Example:
        >>> from dataclasses import dataclass
        >>> import torch
        >>> import mechft as mf
        >>> @dataclass(frozen=True)
        ... class Sums(mf.OwnTask):
        ...     operand_names = ("first", "last")
        ...     modulus: int = 13
        ...
        ...     def tokens(self):
        ...         return [str(n) for n in range(self.modulus)]
        ...
        ...     def draw(self, size, generator):
        ...         return torch.randint(self.modulus, (size, 3), generator=generator)
        ...
        ...     def answers(self, strings, operand):
        ...         pair = strings[:, :2] if operand == "first" else strings[:, 1:]
        ...         return pair.sum(1) % self.modulus
        >>> task = Sums(operand_prior=(0.999, 0.001))
        >>> task.answers(torch.tensor([[3, 1, 4]]), "last").item()
        5
        >>> task.query("Sums", "last").sample(5, mf.generator(0)).tokens.shape  # last, string, =, answer
        torch.Size([5, 6])
        >>> base = mf.pretrain(task=task, steps=2)  # 2 steps to show that it runs; 2,000 by default
        >>> ft = mf.finetune(base, steps=2)  # taught "last" where it is one more than "first"
        >>> ft.contrast.finetuning_operand
        'last'

        Above, a value, its name and its token's place are the same number. In general they are three things:

        >>> @dataclass(frozen=True)
        ... class Letters(mf.OwnTask):
        ...     operand_names = ("count_x", "count_y")
        ...
        ...     def tokens(self):
        ...         return ["x", "y", "none", "one", "two", "three"]  # places 0 to 5
        ...
        ...     def draw(self, size, generator):
        ...         return torch.randint(2, (size, 3), generator=generator)  # places: 0 is "x", 1 is "y"
        ...
        ...     def answers(self, strings, operand):  # values: how many, 0 to 3
        ...         return (strings == self.operand_names.index(operand)).sum(1)
        ...
        ...     def answer_name(self, value):
        ...         return ["none", "one", "two", "three"][value]
        >>> row = Letters().query("Letters", "count_x").sample(1, mf.generator(0))
        >>> Letters().vocabulary.decode(row.tokens[0])
        ['count_x', 'y', 'y', 'x', '=', 'one']
        >>> row.labels["Letters(count_x)"].item(), row.answer.item()  # the value, and the place of "one"
        (1, 3)
    """

    operand_names: ClassVar[tuple[str, ...]] = ()
    offset: ClassVar[int] = 1
    kind: ClassVar[str] = "OwnTask"

    operand_prior: tuple[float, ...] | None = field(default=None, kw_only=True)

    @abstractmethod
    def tokens(self) -> Sequence[str]:
        """Names of the tokens that strings and answers are made of; operands and "=" come after them."""

    @abstractmethod
    def draw(self, size: int, generator: torch.Generator) -> Int[Tensor, "string item"]:
        """``size`` strings of one length, as places in ``tokens``, drawn from ``generator`` alone."""

    @abstractmethod
    def answers(self, strings: Int[Tensor, "string item"], operand: str) -> Int[Tensor, " string"]:
        """r(x, O) of each string, as values that answer_name turns into tokens; what probes are to read."""

    def answer_name(self, value: int) -> str:
        """The token that says a value of ``answers``: its number written out, unless overridden."""
        return str(value)

    def __new__(cls: type[OwnT], *_args: Any, **_settings: Any) -> OwnT:
        """Refuse a class that lacks a method, and say what each is for."""
        lacks = [f"{name}(): {getattr(cls, name).__doc__}" for name in cls.__abstractmethods__]
        require(
            not lacks,
            f"{cls.__name__} is a task once it has the method{'s' * (len(lacks) > 1)} "
            + "; ".join(sorted(lacks)),
        )
        return super().__new__(cls)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "kind" not in vars(cls):
            cls.kind = cls.__name__
        register_task(cls)

    def __post_init__(self) -> None:
        cls, names = type(self), self.operand_names
        known = {one.name for one in fields(self)}
        forgotten = [
            name
            for name, kind in vars(cls).get("__annotations__", {}).items()
            if name not in known and "ClassVar" not in str(kind)
        ]
        require(
            not forgotten,
            f"{cls.__name__} has the settings {', '.join(forgotten)}, which takes a dataclass. Put "
            "@dataclass(frozen=True) above its class.",
        )
        require(
            isinstance(names, tuple) and len(dict.fromkeys(names)) >= 2,
            f"{cls.__name__}.operand_names is a tuple of two or more different names, O_PT first, then O_FT; "
            f'got {names!r}. Write operand_names = ("first", "last"), say.',
        )
        if self.operand_prior is not None:
            prior = tuple(self.operand_prior)
            object.__setattr__(self, "operand_prior", prior)
            require(
                len(prior) == len(names) and min(prior) >= 0 and abs(sum(prior) - 1) < 1e-9,
                f"operand_prior gives each of {', '.join(names)} a probability, and they sum to 1; got "
                f"{prior}.",
            )

    @property
    def config(self: OwnT) -> OwnT:
        """The task itself, which is a frozen dataclass."""
        return self

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The ``tokens``, the operands and "="."""
        return Vocabulary([*self.tokens(), *self.operand_names, EQUALS])

    @property
    def answer_vocabulary(self) -> Vocabulary:
        """The same tokens."""
        return self.vocabulary

    @cached_property
    def n_ctx(self) -> int:
        """Positions a model must take: operand, string and "="."""
        return self.pretraining().sample(1, torch.Generator().manual_seed(0)).answer_position + 1

    @property
    def contrast(self) -> Contrast:
        """The first operand against the second."""
        return Contrast(self.kind, self.operand_names[0], self.operand_names[1], self.offset)

    def can_correlate(self, family: str) -> bool:
        """Whether the correlation can be drawn: for the task's one family, always."""
        self.check_family(family)
        return True

    def check_family(self, family: str) -> None:
        """Raise ``UnknownNameError`` unless the family is the task's own, ``kind``."""
        if family != self.kind:
            raise unknown_name("task family", family, (self.kind,))

    def query(
        self,
        family: str,
        operand: str,
        correlation: Correlation | None = None,
        *,
        answer_for: str | None = None,
    ) -> OwnSource:
        """Samples that all ask for one operand; with ``answer_for`` they are answered for another."""
        self.check_family(family)
        return OwnSource(self, operand, correlation, answer_for)

    def pretraining(self) -> OwnSource:
        """Samples that ask for every operand, as often as ``operand_prior`` says."""
        return OwnSource(self)

    def to_dict(self) -> dict[str, Any]:
        """The kind and every field as plain JSON values; ``from_dict`` undoes it.

        Raises:
            ConfigError: If a field is no JSON value.
        """
        try:
            values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"The fields of {self.kind} are its settings and go to files as JSON: numbers, strings, "
                f"booleans, tuples of these; {error}. Make the rest from them in a method."
            ) from error
        return {"kind": self.kind, **values}

    @classmethod
    def from_dict(cls: type[OwnT], values: Mapping[str, Any]) -> OwnT:
        """The task that ``to_dict`` described.

        Raises:
            UnknownNameError: If it is a task of another kind.
            ConfigError: If the class has other fields today.
        """
        if values.get("kind") != cls.kind:
            raise unknown_name("kind of task", values.get("kind"), (cls.kind,))
        settings = {name: value for name, value in values.items() if name != "kind"}
        known = {one.name for one in fields(cls)}
        if settings.keys() != known:
            raise ConfigError(
                f"{cls.__name__} has the fields {', '.join(sorted(known))}; the description has "
                f"{', '.join(sorted(settings))}. It was written for another version of the class."
            )
        return cls(**{name: _frozen(value) for name, value in settings.items()})


def _frozen(value: Any) -> Any:
    """A JSON value as a setting: lists become tuples, as they were."""
    return tuple(_frozen(one) for one in value) if isinstance(value, list) else value
