"""A compiled program: a HookedTransformer, what goes in, what comes out, and what channels mean.

Nothing here needs Tracr or jax: what ``mechft.models.tracr.compile_program`` made can be saved, and
loaded where neither is installed.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechft.errors import CheckpointError, ConfigError, OutputExistsError, require, unknown_name
from mechft.models.channels import residual_labels
from mechft.models.checkpoint import load_checkpoint, save_checkpoint

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

Value = str | int | float | bool | tuple[Any, ...]
"""What a program computes with: names, numbers, truth values, and tuples of these."""

BOS = "$"
"""Starts every input; compiled attention rests on it where a selector selects nothing."""

PAD = "PAD"
"""Tracr's padding token. It is in the input vocabulary but masks nothing, so strings have none."""

_KIND = "compiled program"


@dataclass(frozen=True)
class CompiledProgram:
    """A RASP program as a HookedTransformer.

    Attributes:
        model: Its weights are the compiled ones; ``d_vocab_out`` is the number of ``outputs``, or 1 for
            a numerical program.
        inputs: The value of each input token, ``BOS`` and ``PAD`` among them.
        outputs: The value of each output class; none for a numerical program.
        name: What tables and figures call it.

    Raises:
        ConfigError: If the names do not fit the model's inputs and outputs, or a value is no string, number,
            truth value or tuple of these.

    Example:
        >>> import mechft as mf
        >>> base = mf.load("tracr-max")
        >>> letters, answers = base.task.vocabulary.names, base.task.answer_vocabulary.names
        >>> program = mf.CompiledProgram(base.model, letters, answers, name="max")
        >>> program.run("bdafhmxpqn")[-1]  # the fifth of a b d f h …
        'h'
    """

    model: HookedTransformer
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    name: str = "program"

    def __post_init__(self) -> None:
        cfg, classes = self.model.cfg, len(self.outputs) or 1
        require(
            cfg.d_vocab == len(self.inputs) and cfg.d_vocab_out == classes,
            f"The model reads {cfg.d_vocab} tokens and writes {cfg.d_vocab_out} numbers; got names of "
            f"{len(self.inputs)} and {classes}.",
        )
        for role, values in (("input", self.inputs), ("output", self.outputs)):
            check_values(values, role)

    @property
    def categorical(self) -> bool:
        """Whether the output is one of ``outputs``; otherwise it is a number."""
        return bool(self.outputs)

    @property
    def residual_labels(self) -> tuple[str, ...]:
        """The meaning of every channel of the residual stream."""
        return residual_labels(self.model)

    @property
    def letters(self) -> tuple[Value, ...]:
        """The values a string may be made of: the inputs without ``BOS`` and ``PAD``."""
        return tuple(value for value in self.inputs if value not in (BOS, PAD))

    @property
    def length(self) -> int:
        """The longest string, in letters; inputs have ``BOS`` before it."""
        return int(self.model.cfg.n_ctx) - 1

    def require_categorical(self) -> None:
        """Raise unless the output is one of a set of classes: what a classification loss needs.

        Raises:
            ConfigError: If the program is numerical.
        """
        require(
            self.categorical,
            f"{self.name} is numerical: its output is a number, not one of a set of classes, so it has "
            "no accuracy and no cross-entropy. End the program in a categorical step, such as "
            "rasp.categorical(...), or read its numbers with run().",
        )

    def encode(self, string: Sequence[Value]) -> Int[Tensor, " pos"]:
        """Token ids of ``BOS`` and a string.

        Args:
            string: Letters; a string, or a list of values. At most ``length``.

        Raises:
            UnknownNameError: If a letter is not in the vocabulary; lists those that are.
            ConfigError: If it is no string of values (a number, a list of lists), or longer than the program
                was compiled for.
        """
        require(
            isinstance(string, Collection),
            f"A string is text or a list of values; got {string!r}.",
        )
        require(
            len(string) <= self.length,
            f"{self.name} was compiled for strings of at most {self.length} letters; got "
            f"{len(string)}. Shorten it, or compile again with a larger length.",
        )
        known = set(self.letters)
        for value in string:
            require(
                _hashable(value),
                f"A string is a list of values; got {value!r} ({type(value).__name__}) among them. Give one "
                "string at a time, or many to run_many.",
            )
            if value not in known:
                hint = f" ({BOS!r} is put first by itself)" if value == BOS else ""
                raise unknown_name(f"letter{hint}", value, map(str, self.letters))
        ids = {value: i for i, value in enumerate(self.inputs)}
        return torch.tensor([ids[BOS], *(ids[value] for value in string)])

    def decode(self, logits: Float[Tensor, "pos d_vocab_out"]) -> list[Value]:
        """The value at each position: the class with the largest logit, or the number itself.

        Raises:
            ConfigError: If the logits have another width, or are not finite.
        """
        width = int(self.model.cfg.d_vocab_out)
        require(
            logits.dim() == 2 and logits.shape[-1] == width,
            f"Logits to decode are [pos, {width}]; got {list(logits.shape)}.",
        )
        require(
            bool(logits.isfinite().all()),
            "Logits that are not finite cannot be decoded: the model's weights have diverged.",
        )
        if not self.categorical:
            return [float(value) for value in logits[:, 0]]
        return [self.outputs[int(i)] for i in logits.argmax(-1)]

    def run(self, string: Sequence[Value]) -> list[Value]:
        """What the model says at each position; ``BOS``, whose output means nothing, stands for itself.

        Raises:
            UnknownNameError, ConfigError: As ``encode`` and ``decode``.
        """
        return self.run_many([string])[0]

    def run_many(self, strings: Iterable[Sequence[Value]]) -> list[list[Value]]:
        """``run`` on many strings; those of one length go through the model together."""
        rows = [self.encode(string) for string in strings]
        found: dict[int, list[Value]] = {}
        for length in {len(row) for row in rows}:
            members = [i for i, row in enumerate(rows) if len(row) == length]
            tokens = torch.stack([rows[i] for i in members])
            with torch.no_grad():
                logits = self.model(tokens.to(next(self.model.parameters()).device)).cpu()
            found |= {i: [BOS, *self.decode(logits[k])[1:]] for k, i in enumerate(members)}
        return [found[i] for i in range(len(rows))]

    def save(self, path: str | Path) -> Path:
        """Write it to one file, which ``load`` reads without Tracr or jax.

        Raises:
            OutputExistsError: If the file exists; nothing is overwritten.
        """
        path = Path(path)
        if path.exists():
            raise OutputExistsError(f"{path} exists and is not overwritten. Choose another name.")
        description = {
            "kind": _KIND,
            "name": self.name,
            "inputs": list(self.inputs),
            "outputs": list(self.outputs),
        }
        return save_checkpoint(path, self.model, description)

    @classmethod
    def load(cls, path: str | Path) -> CompiledProgram:
        """A program that ``save`` wrote.

        Raises:
            CheckpointError: If the file is missing, truncated or holds something else.
        """
        found = load_checkpoint(path)
        values = found.description
        if values.get("kind") != _KIND:
            raise CheckpointError(
                f"{path} holds a model but not a compiled program. Load it with mechft.load."
            )
        try:
            inputs, outputs = (tuple(map(_tuples, values[key])) for key in ("inputs", "outputs"))
            return cls(found.model, inputs, outputs, values["name"])
        except (KeyError, TypeError, ConfigError) as error:
            raise CheckpointError(
                f"{path}: its header does not fit a compiled program ({error})."
            ) from error


def check_values(values: Iterable[object], role: str) -> None:
    """Raise ConfigError unless each value is one that can be named, told apart and saved.

    Args:
        values: What to check.
        role: What they are, for the message: "input", "output".
    """
    for value in values:
        require(
            _plain(value),
            f"Every {role} value of a program is a string, a number, a truth value or a tuple of these; "
            f"got {value!r} ({type(value).__name__}), which cannot be decoded. Let the program give "
            "another value for it.",
        )


def _plain(value: object) -> bool:
    if isinstance(value, tuple):
        return all(map(_plain, value))
    if type(value) is float:
        return math.isfinite(value)
    return type(value) in (str, int, bool)  # numpy's own numbers cannot be written to a header


def _hashable(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _tuples(value: Any) -> Any:
    """JSON has no tuples: lists in a header were tuples."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
