"""A study as pieces: which table of which job's is part of which table of the study's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mechft.experiments.store.entry import Entry
from mechft.experiments.store.job import Job, in_order
from mechft.experiments.store.store import Store
from mechft.experiments.sweep.config import SweepConfig
from mechft.experiments.sweep.pools import Pool, make_pool
from mechft.experiments.sweep.sweep import run_sweep

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Piece:
    """One file of one job, as rows of a table of the study.

    Attributes:
        table: Name of the study's table.
        file: The job's table, by the name of its CSV file.
        job: The job.
        labels: Columns that say which run it is.
    """

    table: str
    file: str
    job: Job
    labels: dict[str, Any]


@dataclass(frozen=True)
class Pieces:
    """What came of the pieces of a study.

    Attributes:
        tables: By name: the jobs' own under each other, with the pieces' labels as first columns.
        left_out: Runs that could not be done, and those that needed them, in words.
    """

    tables: dict[str, pd.DataFrame]
    left_out: tuple[str, ...]


def do_pieces(
    pieces: Sequence[Piece], config: SweepConfig, pool: Pool | None = None, ensemble: int = 0
) -> Pieces:
    """Do the jobs of a study's pieces that no other study has done, and put their tables together.

    Args:
        pieces: What is wanted.
        config: Where runs are kept, and how they are done.
        pool: Where to do them; by default what the config says.
        ensemble: As in ``make_pool``.

    Raises:
        SweepError: If runs failed; the others are kept.
        OutputExistsError: If ``config.store`` holds something else.
        ConfigError: If dask is asked for and not installed.
    """
    store = Store(config.store)
    ordered = in_order(piece.job for piece in pieces)
    done = {job: entry for job in ordered if (entry := store.find(job)) is not None}
    print(f"{config.name}: {len(ordered)} runs, {len(done)} of them done already.")
    if len(done) < len(ordered):
        made = pool or make_pool(
            config.executor, config.jobs, config.threads, config.scheduler, ensemble
        )
        try:
            done = run_sweep(ordered, store, made, label=config.name)
        finally:
            if pool is None:
                made.close()
    return Pieces(tables_of(pieces, done), _left_out(ordered, done))


def tables_of(pieces: Iterable[Piece], done: Mapping[Job, Entry]) -> dict[str, pd.DataFrame]:
    """The study's tables: the jobs' own, under each other, with the pieces' labels as first columns."""
    import pandas as pd

    parts: dict[str, list[pd.DataFrame]] = {}
    for piece in pieces:
        if piece.job not in done or done[piece.job].failed is not None:
            continue
        frame = done[piece.job].frame(piece.file)
        for place, (name, value) in enumerate(piece.labels.items()):
            frame.insert(place, name, value)
        parts.setdefault(piece.table, []).append(frame)
    return {name: pd.concat(frames, ignore_index=True) for name, frames in parts.items()}


def _left_out(ordered: list[Job], done: Mapping[Job, Entry]) -> tuple[str, ...]:
    failed = [f"{job}: {entry.failed}" for job, entry in done.items() if entry.failed is not None]
    waiting = [f"{job}: needs one of these" for job in ordered if job not in done]
    return (*failed, *waiting)
