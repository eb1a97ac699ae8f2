"""What the stories study measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mechft.experiments.stories.config import StoriesConfig, StoriesScale
from mechft.experiments.sweep.result import SweepResult, read_saved


@dataclass(frozen=True)
class StoriesResult(SweepResult[StoriesConfig, StoriesScale]):
    """Tables of a stories study.

    pretraining, deletion and reversal (losses over steps); writing, losses, samples, probes; weights,
    activations, outputs, decisions, pruning, patching (deleted beside base); reversal_writing,
    reversal_samples; classifier, counts. Labels are model ("base"; "never": pretrained without the feature;
    "deleted"), protocol, rate, seed; and step where a model was looked at while the feature was brought back.
    """


def read_stories_result(folder: str | Path) -> StoriesResult:
    """The result that was saved to a folder, for its report and figures; raises as ``read_saved``."""

    def config(name: str, **told: Any) -> StoriesConfig:
        return {StoriesConfig.name: StoriesConfig}[name](**told)

    return read_saved(folder, StoriesResult, config, StoriesScale, "a stories study")
