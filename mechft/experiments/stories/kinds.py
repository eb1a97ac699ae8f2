"""The kinds of work of the stories study; free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mechft.experiments.store.job import Kind

_WORK = "mechft.experiments.stories"


def _tokens(settings: Mapping[str, Any]) -> float:
    """Tokens trained on, in thousands: what a step costs grows with them."""
    return float(settings["steps"] * settings["batch_size"] * settings["n_ctx"]) / 1000


def _written(settings: Mapping[str, Any]) -> float:
    return float(2 * settings["generations"] * settings["new_tokens"]) / 1000 / 2


def _read(settings: Mapping[str, Any]) -> float:
    return float(settings["stories"] * settings["n_ctx"]) / 1000 / 3


def _rendered(settings: Mapping[str, Any]) -> float:
    stories = settings["train_stories"] or 2_000_000  # all of a source: about as many as there are
    return float(stories * len(settings["protocols"])) / 1000


DATA = Kind("story-data", 1, f"{_WORK}.data_work:data_work", _rendered)
COPYING = Kind("story-copying", 1, f"{_WORK}.train_work:copying_work", _tokens)
PRETRAIN = Kind("story-pretrain", 1, f"{_WORK}.train_work:pretrain_work", _tokens)
FINETUNE = Kind("story-finetune", 1, f"{_WORK}.train_work:finetune_work", _tokens)
CLASSIFY = Kind("story-classifier", 1, f"{_WORK}.classifier_work:classifier_work", _tokens)
WRITE = Kind("story-writing", 1, f"{_WORK}.writing_work:writing_work", _written)
PROBE = Kind("story-probe", 1, f"{_WORK}.inside_work:probe_work", _read)
DIFF = Kind("story-diff", 3, f"{_WORK}.inside_work:diff_work", _read)

STORY_KINDS = {
    kind.name: kind for kind in (DATA, COPYING, PRETRAIN, FINETUNE, CLASSIFY, WRITE, PROBE, DIFF)
}
