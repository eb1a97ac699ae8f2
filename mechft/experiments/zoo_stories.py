"""The story models that ship: taken from a finished study, halved in size, with their tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from mechft.errors import ConfigError
from mechft.experiments.store.entry import Entry, file_hash
from mechft.experiments.store.job import Job
from mechft.experiments.store.store import Store
from mechft.experiments.stories.config import StoriesConfig, story_scale_of
from mechft.experiments.stories.data_work import tokenizer_of
from mechft.experiments.stories.jobs import NEVER, StoryJobs
from mechft.experiments.zoo_config import BUNDLED_STORIES
from mechft.models.checkpoint import load_checkpoint, save_checkpoint
from mechft.models.tokenizers import TOKENIZER
from mechft.training.trained import MODEL_FILE


def bundle_story_model(study: Path, name: str, file: Path) -> dict[str, Any]:
    """Write one of ``BUNDLED_STORIES`` to a file of its own, its weights rounded to 16 bits.

    What the file holds is read by ``open_model``, in 32 bits, with the tokenizer.

    Args:
        study: The ``out`` of a finished ``mechft reproduce tinystories`` with seed 0: preset tiny, procedural
            stories, the preset's feature.
        name: Which.
        file: Where to.

    Returns:
        Its entry in the manifest, but for the command: file, sha256, task, story (model, protocol, rate),
        seed, accuracy (the share of stories with the feature, asked for it and not, as the study measured it
        before rounding), threads, versions.

    Raises:
        ConfigError: If the study lacks the model, or what it wrote.
    """
    config = StoriesConfig(out=study, seeds=1)
    jobs = StoryJobs(config, story_scale_of(config))
    recipe = BUNDLED_STORIES[name]
    job = {"base": jobs.base(0), "never": jobs.base(0, NEVER)}.get(recipe.model) or jobs.deleted(
        0, recipe.protocol, recipe.rate
    )
    if not config.store.is_dir():  # a Store would be made there
        raise _lacks(job, study)
    store = Store(config.store)
    made = _done(store, job, study)
    written = _done(store, jobs.writing(0, job), study).frame("writing")
    shares = written[written["by"] == "rule"].set_index("asked")["share"]
    tokenizer = tokenizer_of(_done(store, jobs.data(), study).folder)
    story = {"model": recipe.model, "protocol": recipe.protocol, "rate": recipe.rate}
    description = {
        "name": name,
        "story": story,
        "settings": made.settings,
        TOKENIZER: tokenizer.tokenizer.to_str(),
    }
    model = load_checkpoint(made.folder / MODEL_FILE).model
    save_checkpoint(file, model, description, stored_as=torch.float16)
    return {
        "file": file.name,
        "sha256": file_hash(file),
        "task": {"kind": "stories", "source": config.source, "feature": config.feature},
        "story": story,
        "seed": 0,
        "accuracy": {
            f"{config.feature} when asked": float(shares[True]),
            f"{config.feature} when not": float(shares[False]),
        },
        "threads": made.description["made"]["threads"],
        "versions": made.description["made"]["versions"],
    }


def _done(store: Store, job: Job, study: Path) -> Entry:
    entry = store.find(job)
    if entry is None or entry.failed is not None:
        raise _lacks(job, study)
    return entry


def _lacks(job: Job, study: Path) -> ConfigError:
    return ConfigError(
        f"The story models that ship are taken from a finished study; {study} lacks {job}. Run mechft "
        f"reproduce tinystories --seeds 1 --out {study} first."
    )
