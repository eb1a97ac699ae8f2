"""Fresh samples of a task of one's own: what models are pretrained on, and one question at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Int
from torch import Tensor

from mechft.errors import ConfigError, require, unknown_name
from mechft.tasks.batch import TokenBatch
from mechft.tasks.conditioned import Conditioned
from mechft.tasks.correlation import Correlation

if TYPE_CHECKING:
    from mechft.tasks.own import OwnTask


class OwnSource:
    """Fresh samples ``OPERAND string = answer``, with the answers for every operand as labels.

    Labels "KIND(OPERAND)" hold r(x, O) of every operand, as numbers. With a correlation a row has it
    with its probability and otherwise does not; either is exactly the task's rule conditioned on that
    (``mechft.tasks.conditioned``). Without one strings are plain.

    Args:
        task: The task.
        operand: Operand asked for; None asks for each as often as the task's prior says, in plain strings.
        correlation: What must hold of the strings, if anything.
        answer_for: Operand whose answer is given instead, as randomised fine-tuning does.

    Raises:
        UnknownNameError: If an operand is not known.
        ConfigError: If the correlation is out of reach of the task's strings.

    Cost: the task's own ``draw`` and ``answers``; rows with a correlation that one string in 13 has take 13
    draws each.
    """

    def __init__(
        self,
        task: OwnTask,
        operand: str | None = None,
        correlation: Correlation | None = None,
        answer_for: str | None = None,
    ) -> None:
        for name in (operand, answer_for):
            if name not in (None, *task.operand_names):
                raise unknown_name(f"operand of family {task.kind}", str(name), task.operand_names)
        if correlation is not None:
            related = (correlation.pretraining_operand, correlation.finetuning_operand)
            require(
                set(related) <= set(task.operand_names),
                "A correlation is between two operands of the task, here of "
                f"{', '.join(task.operand_names)}; got one between {' and '.join(related)}. Take "
                "task.contrast.correlation(0.0), or name them in mf.Correlation(…, pretraining_operand=…, "
                "finetuning_operand=…).",
            )
        self.task, self.operand, self.correlation = task, operand, correlation
        self.answer_for = operand if answer_for is None else answer_for
        self._conditioned = None if correlation is None else self._strings_with(correlation)

    def _strings_with(self, correlation: Correlation) -> Conditioned:
        operands = (correlation.pretraining_operand, correlation.finetuning_operand)

        def values(strings: Tensor) -> tuple[Tensor, Tensor]:
            one, other = (self._values(strings, operand) for operand in operands)
            return one, other

        return Conditioned(self._draw, values, correlation, f"strings of {self.task!r}")

    def _draw(self, size: int, generator: torch.Generator) -> Int[Tensor, "row item"]:
        strings, highest = self.task.draw(size, generator), len(self.task.tokens()) - 1
        rows = isinstance(strings, Tensor) and strings.dim() == 2 and len(strings) == size
        require(
            rows and not strings.is_floating_point(),
            f"{self.task.kind}.draw(size, generator) returns whole numbers, a row a string: "
            f"[{size}, length]; got {_form(strings)}.",
        )
        for row, item in ((strings < 0) | (strings > highest)).nonzero()[:1].tolist():
            raise ConfigError(
                f"{self.task.kind}.draw gives places in tokens(), 0..{highest}; got "
                f"{int(strings[row, item])} in row {row}, {strings[row].tolist()}. Draw fewer, or name more "
                "tokens."
            )
        return strings.long()

    def _values(self, strings: Tensor, operand: str) -> Int[Tensor, " row"]:
        values = self.task.answers(strings, operand)
        rows = isinstance(values, Tensor) and values.shape == strings.shape[:1]
        require(
            rows and not values.is_floating_point(),
            f"{self.task.kind}.answers(strings, operand) returns a whole number a string: "
            f"[{len(strings)}]; got {_form(values)} for operand {operand!r}.",
        )
        return values.long()

    def _ids(
        self,
        values: Int[Tensor, " row"],
        strings: Int[Tensor, "row item"],
        answered: Int[Tensor, " row"],
    ) -> Int[Tensor, " row"]:
        """Tokens of answers; strings, and each row's operand as a place, tell an error where it was."""
        different, place = values.unique(return_inverse=True)
        names = []
        for value in different.tolist():
            name: object = None
            try:
                name = self.task.answer_name(value)
                why = f"is {name!r}, which is none of tokens()"
            except LookupError as error:  # a list of names that ends before
                why = f"raises {type(error).__name__}: {error}"
            if name not in self.task.vocabulary:
                row = int((values == value).nonzero()[0])
                operand = self.task.operand_names[int(answered[row])]
                raise ConfigError(self._nameless(value, why, row, strings[row].tolist(), operand))
            names.append(str(name))
        return self.task.vocabulary.encode(names)[place] if names else values

    def _nameless(self, value: int, why: str, row: int, string: list[int], operand: str) -> str:
        """What to say of a value that no token says."""
        kind, tokens = self.task.kind, self.task.tokens()
        told = (
            f"{kind}.answers gives values that answer_name turns into tokens; in row {row}, "
            f"{string} asked for {operand!r}, it gives {value}, and answer_name({value}) {why}. Name the "
            "value in tokens(), override answer_name(value), or give other values."
        )
        if 0 <= value < len(tokens):
            told += (
                f" If {value} is meant as a place in tokens(), which is {tokens[value]!r} there, let "
                "answer_name return self.tokens()[value]."
            )
        return told

    def _asked(self, size: int, generator: torch.Generator) -> Int[Tensor, " row"]:
        """Each row's operand, as a place in ``operand_names``."""
        names = self.task.operand_names
        if self.operand is not None:
            return torch.full((size,), names.index(self.operand))
        prior = self.task.operand_prior or [1 / len(names)] * len(names)
        weights = torch.tensor(prior, dtype=torch.float64)
        return torch.multinomial(weights, size, replacement=True, generator=generator)

    def sample(self, size: int, generator: torch.Generator) -> TokenBatch:
        """Draw ``size`` samples.

        Raises:
            ConfigError: If the task's ``draw`` or ``answers`` return something else than they should, or an
                answer's name is no token.
        """
        task, wanted = self.task, None
        if self._conditioned is None:
            strings = self._draw(size, generator)
        else:
            strings, wanted = self._conditioned.sample(size, generator)
        asked = self._asked(size, generator)
        values = [self._values(strings, operand) for operand in task.operand_names]
        labels = {
            f"{task.kind}({name})": v for name, v in zip(task.operand_names, values, strict=True)
        }
        answered = (
            asked
            if self.answer_for is None
            else torch.full_like(asked, task.operand_names.index(self.answer_for))
        )
        given = torch.stack(values, 1).gather(1, answered[:, None])[:, 0]
        answer = self._ids(given, strings, answered)
        first, last = len(task.tokens()), len(task.vocabulary) - 1
        begin, equals = (first + asked)[:, None], torch.full((size, 1), last)
        tokens = torch.cat([begin, strings, equals, answer[:, None]], 1)
        return TokenBatch(tokens, tokens.shape[1] - 2, answer, labels, wanted)


def _form(value: object) -> str:
    if isinstance(value, Tensor):
        return f"{list(value.shape)} {value.dtype}"
    return f"{value!r}"
