"""Running the stories study: the jobs that are not done yet, and the tables of what came of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mechft.errors import require
from mechft.experiments.run_folder import claim_folder
from mechft.experiments.stories.claims import story_checks
from mechft.experiments.stories.config import StoriesConfig, story_scale_of
from mechft.experiments.stories.jobs import StoryJobs
from mechft.experiments.stories.result import StoriesResult
from mechft.experiments.sweep.pieces import do_pieces
from mechft.experiments.sweep.pools import Pool
from mechft.tasks.stories.sources import HUB, sniff
from mechft.training.trained import package_versions


def run_stories(config: StoriesConfig, pool: Pool | None = None) -> StoriesResult:
    """Run the reproduction of the TinyStories setup, or what is left of it, and write its tables.

    Args:
        config: What is run, and how.
        pool: Where to do its runs; by default what the config says.

    Returns:
        What was measured; saved to ``config.results``, without the report.

    Raises:
        ConfigError: If the source is neither known nor a file of stories, before anything is trained; if
            dask is asked for and not installed.
        SweepError: If runs failed; the others are kept.
        OutputExistsError: If ``config.out`` holds something else.
    """
    _check_source(config.source)
    scale = story_scale_of(config)
    claim_folder(
        config.results,
        {
            "reproduce": config.name,
            "preset": config.preset,
            "source": config.source,
            "feature": config.feature,
            "quick": config.quick,
            "seeds": len(config.seed_list),
        },
    )
    found = do_pieces(list(StoryJobs(config, scale).pieces()), config, pool)
    result = StoriesResult(config, scale, found.tables, (), found.left_out, package_versions())
    result = replace(result, checks=story_checks(result))
    result.save()
    return result


def _check_source(source: str) -> None:
    if source in ("procedural", HUB):
        return
    path = Path(source)
    require(
        path.exists(),
        f'Stories come from "procedural", "{HUB}", or a file or folder; there is no {path}.',
    )
    if path.is_file():
        sniff(path)  # raises for a file in no known format
