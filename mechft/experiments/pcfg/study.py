"""Running a study: the jobs it needs that no other study has done, and the tables of what came of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from mechft.experiments.pcfg.claims import study_checks
from mechft.experiments.pcfg.config import StudyConfig, scale_of
from mechft.experiments.pcfg.parts import Piece, pieces_of
from mechft.experiments.pcfg.result import StudyResult
from mechft.experiments.run_folder import claim_folder
from mechft.experiments.store.entry import Entry
from mechft.experiments.store.job import Job, in_order
from mechft.experiments.store.store import Store
from mechft.experiments.sweep.pools import Pool, make_pool
from mechft.experiments.sweep.sweep import run_sweep
from mechft.training.trained import package_versions

if TYPE_CHECKING:
    import pandas as pd


def run_study(config: StudyConfig, pool: Pool | None = None) -> StudyResult:
    """Run a reproduction of the PCFG setup, or what is left of it, and write its tables.

    Args:
        config: Which one, and how: an instance of one of ``STUDIES``.
        pool: Where to do its runs; by default what the config says.

    Returns:
        What was measured; saved to ``config.results``, without the report.

    Raises:
        SweepError: If runs failed; the others are kept.
        OutputExistsError: If ``config.out`` holds something else.
        ConfigError: If dask is asked for and not installed.
    """
    scale = scale_of(config)
    settings = {"reproduce": config.name, "preset": config.preset, "quick": config.quick}
    claim_folder(config.results, {**settings, "seeds": len(config.seed_list)})
    store = Store(config.store)
    pieces = pieces_of(config.parts, scale, config.seed_list)
    ordered = in_order(piece.job for piece in pieces)
    done = {job: entry for job in ordered if (entry := store.find(job)) is not None}
    print(f"{config.name}: {len(ordered)} runs, {len(done)} of them done already.")
    if len(done) < len(ordered):
        made = pool or make_pool(
            config.executor, config.jobs, config.threads, config.scheduler, config.ensemble
        )
        try:
            done = run_sweep(ordered, store, made, label=config.name)
        finally:
            if pool is None:
                made.close()
    left_out = _left_out(ordered, done)
    result = StudyResult(config, scale, tables_of(pieces, done), (), left_out, package_versions())
    result = replace(result, checks=study_checks(result))
    result.save()
    return result


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
