"""Settings of ``mechft runs``; free of torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tyro.conf import Positional

from mechft.errors import require

_STORE = Path("study/store")


@dataclass(frozen=True)
class RunsList:
    """List the runs a study keeps: key, kind, when, how long, settings; the unfinished ones too.

    Example: mechft runs list --store study/store --kind finetune

    Attributes:
        store: The study's store.
        kind: Only runs of this kind: pretrain, finetune, reverse, prune, probe, ask.
        json: Print the runs with all they say as JSON.
    """

    store: Path = _STORE
    kind: str | None = None
    json: bool = False


@dataclass(frozen=True)
class RunsShow:
    """Show a run as JSON: its settings, what it needed, its files, and whether they are whole.

    Example: mechft runs show 3f2a --store study/store

    Attributes:
        key: The run's key, or the beginning of it.
        store: The study's store.
    """

    key: Positional[str]
    store: Path = _STORE


@dataclass(frozen=True)
class RunsRemove:
    """Remove runs; a study that needs one does it again.

    Example: mechft runs rm 3f2a 9bc1 --store study/store

    Attributes:
        keys: Keys, or their beginnings.
        unfinished: Also remove what interrupted runs left to go on from.
        quarantine: Also remove damaged runs that were put aside.
        store: The study's store.
    """

    keys: Positional[tuple[str, ...]] = field(default_factory=tuple)
    unfinished: bool = False
    quarantine: bool = False
    store: Path = _STORE

    def __post_init__(self) -> None:
        require(
            bool(self.keys) or self.unfinished or self.quarantine,
            "Say what to remove: keys (mechft runs list shows them), --unfinished or --quarantine.",
        )


@dataclass(frozen=True)
class RunsExport:
    """Copy runs out of a store: their files, and runs.csv with every setting as a column.

    Example: mechft runs export 3f2a --store study/store --out exported

    Attributes:
        keys: Keys, or their beginnings; all runs if none is given.
        kind: Only runs of this kind.
        models: Copy models too, not the tables alone.
        out: A new folder.
        store: The study's store.
    """

    keys: Positional[tuple[str, ...]] = field(default_factory=tuple)
    kind: str | None = None
    models: bool = False
    out: Path = Path("exported")
    store: Path = _STORE
