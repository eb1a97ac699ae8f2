"""Running a study: the jobs it needs that no other study has done, and the tables of what came of them."""

from __future__ import annotations

from dataclasses import replace

from mechft.experiments.pcfg.claims import study_checks
from mechft.experiments.pcfg.config import StudyConfig, scale_of
from mechft.experiments.pcfg.parts import pieces_of
from mechft.experiments.pcfg.result import StudyResult
from mechft.experiments.run_folder import claim_folder
from mechft.experiments.sweep.pieces import do_pieces
from mechft.experiments.sweep.pools import Pool
from mechft.training.trained import package_versions


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
    pieces = pieces_of(config.parts, scale, config.seed_list)
    found = do_pieces(pieces, config, pool, config.ensemble)
    result = StudyResult(config, scale, found.tables, (), found.left_out, package_versions())
    result = replace(result, checks=study_checks(result))
    result.save()
    return result
