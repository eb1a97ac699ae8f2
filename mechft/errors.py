"""Errors that state the rule, what was received, and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MechftError(Exception):
    """Base class of every error this package raises on purpose."""


class ConfigError(MechftError, ValueError):
    """A setting is outside what is allowed; raised before anything expensive."""


class UnknownNameError(MechftError, KeyError):
    """A name (preset, operand, family, checkpoint, hook point) is not among the known ones."""

    def __str__(self) -> str:  # KeyError would show the repr, with quotes and escapes
        return str(self.args[0])


class CheckpointError(MechftError):
    """A checkpoint file is missing, truncated, foreign or belongs to another run."""


class OutputExistsError(MechftError, FileExistsError):
    """A file or folder to be written holds something already; it is left as it is."""


class TrainingDivergedError(MechftError):
    """The loss, a gradient or what a model answers stopped being finite.

    Attributes:
        step: The step that could not be taken.
    """

    def __init__(self, message: str, step: int) -> None:
        super().__init__(message)
        self.step = step


class PatchingError(MechftError):
    """Patching a model with its own activations changed its output: the patch is not what it claims."""


def require(condition: bool, message: str) -> None:
    """Raise ``ConfigError(message)`` unless ``condition`` holds."""
    if not condition:
        raise ConfigError(message)


def unknown_name(kind: str, name: object, known: Iterable[str]) -> UnknownNameError:
    """The error for a name that is not known: the nearest ones first, then all if they are few.

    Args:
        kind: What the name stands for, as shown to the reader ("preset", "hook point").
        name: What was received.
        known: Every name that would have been accepted.
    """
    names = list(known)
    near = difflib.get_close_matches(str(name), names, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
    shown = ", ".join(names[:40]) + (f", … ({len(names)} in all)" if len(names) > 40 else "")
    return UnknownNameError(f"Unknown {kind} {name!r}.{hint} Known: {shown}.")
