"""A piece of work named by its content: the same settings and the same needs give the same key."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from mechft.errors import ConfigError, MechftError, require

KEY_LENGTH = 20  # hexadecimal digits: two of a million jobs meet with a probability of 1e-12

Work = Callable[[Mapping[str, Any], Mapping[str, Path], Path], None]
"""From settings, the folders of what it needs, and its own folder, which it fills with files."""

WorkTogether = Callable[
    [Sequence[tuple[Mapping[str, Any], Mapping[str, Path], Path]]], list[str | None]
]
"""The same for several jobs at once; returns for each why it could not be done, or None."""


def _one(settings: Mapping[str, Any]) -> float:
    return 1.0


def _nothing(job: Job) -> str:
    return ""


@dataclass(frozen=True)
class Kind:
    """A kind of work.

    Attributes:
        name: Names its folder in the store.
        version: Raise it when what the work computes changes: results of another version are not
            taken for this one's.
        work: Where its function is, "package.module:function": imported where it is done, so that
            listing and planning need no torch. The function must be able to begin again, or go on, in a
            folder in which it was killed.
        cost: What a job of these settings costs, in any unit common to all kinds: for the progress
            bar, and to begin with what the longest chain waits for.
    """

    name: str
    version: int
    work: str
    cost: Callable[[Mapping[str, Any]], float] = _one
    together: str = ""
    group: Callable[[Job], str] = _nothing

    def function(self) -> Work:
        """The function that does the work."""
        found: Work = _imported(self.work)
        return found

    def function_together(self) -> WorkTogether:
        """The function that does several at once."""
        found: WorkTogether = _imported(self.together)
        return found


def _imported(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


@dataclass(frozen=True, eq=False)
class Job:
    """One piece of work; equal to every other of the same content.

    Attributes:
        kind: What is done.
        settings: With which settings: JSON values, all that the result depends on beside the needs.
        needs: Jobs that must be done before, by the name the work knows them by.

    Raises:
        ConfigError: If settings are not plain JSON values.
    """

    kind: Kind
    settings: Mapping[str, Any]
    needs: Mapping[str, Job] = field(default_factory=dict)

    def __post_init__(self) -> None:
        try:
            plain = json.loads(json.dumps(dict(self.settings), allow_nan=False))
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"Settings of a job are finite numbers, strings, lists and dictionaries; got "
                f"{dict(self.settings)!r} ({error})."
            ) from error
        object.__setattr__(self, "settings", plain)

    @cached_property
    def key(self) -> str:
        """Its name: a digest of kind, version, settings and the keys of what it needs."""
        content = json.dumps(
            {
                "kind": self.kind.name,
                "version": self.kind.version,
                "settings": self.settings,
                "needs": {name: job.key for name, job in self.needs.items()},
            },
            sort_keys=True,
            separators=(",", ":"),
        )
        return hashlib.sha256(content.encode()).hexdigest()[:KEY_LENGTH]

    @property
    def cost(self) -> float:
        """What it costs, in the kinds' common unit."""
        return self.kind.cost(self.settings)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Job) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __str__(self) -> str:
        return f"{self.kind.name} {self.key[:8]}"


def in_order(jobs: Iterable[Job]) -> list[Job]:
    """The jobs and all they need, each once, none before what it needs."""
    found: dict[str, Job] = {}

    def visit(job: Job) -> None:
        if job.key not in found:
            for need in job.needs.values():
                visit(need)
            found[job.key] = job

    for job in jobs:
        visit(job)
    return list(found.values())


def check_kinds(kinds: Iterable[Kind]) -> None:
    """Raise ``ConfigError`` if two different kinds share a name: their results would be mixed up."""
    by_name: dict[str, Kind] = {}
    for kind in kinds:
        other = by_name.setdefault(kind.name, kind)
        require(
            (other.version, other.work) == (kind.version, kind.work),
            f"Two kinds of work are called {kind.name!r}: {other.work} and {kind.work}. Rename one.",
        )


class NeedMissingError(MechftError):
    """Something a job needs is not there (any more): it must be done first."""


class WorkFailedError(MechftError):
    """A piece of work was tried and cannot be done with these settings; the reason is kept, too.

    A work function raises it for what is a finding and no accident, such as a training that diverged:
    the same settings are then not tried again.
    """
