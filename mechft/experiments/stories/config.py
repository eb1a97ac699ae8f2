"""Settings of ``mechft reproduce tinystories``; free of torch, so that the command line starts fast."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from mechft.errors import unknown_name
from mechft.experiments.sweep.config import SweepConfig
from mechft.tasks.stories.record import FEATURES

StoryPreset = Literal["tiny", "small", "paper"]

DELETIONS = ("F", "F+MM", "F+RR", "refusal")
"""The protocols that delete a feature, as ``mechft.tasks.stories.protocols`` calls them."""


@dataclass(frozen=True)
class StoriesConfig(SweepConfig):
    """Fig. 11, Figs. 31-38 and Table 1: a feature deleted from a story model, and brought back.

    Example: mechft reproduce tinystories --out stories

    Attributes:
        source: Where stories come from: "procedural" (made here, what is true of them is known), "hub"
            (roneneldan/TinyStoriesInstruct), or the path of a text file, of JSON shards or of their archive.
        preset: Size of data and models: tiny for a laptop, small for a night, paper for GPUs.
        feature: The feature that is deleted: by default Twist, the paper's, but at preset tiny Conflict, as
            such models write twists when asked no more often than when not.

    Raises:
        UnknownNameError: If the preset or the feature is not known.
    """

    out: Path = Path("stories")
    seeds: int = 1
    source: str = "procedural"
    preset: StoryPreset = "tiny"
    feature: str = ""

    name = "tinystories"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.preset not in STORY_SCALES:
            raise unknown_name("preset", self.preset, STORY_SCALES)
        if not self.feature:
            object.__setattr__(self, "feature", STORY_SCALES[self.preset].feature)
        if self.feature not in FEATURES:
            raise unknown_name("story feature", self.feature, FEATURES)

    @property
    def source_name(self) -> str:
        """The source without where it lies, which says something of a machine and nothing of the stories."""
        return self.source if self.source in ("procedural", "hub") else Path(self.source).name

    @property
    def results(self) -> Path:
        """Where report and tables go."""
        source = Path(self.source_name).stem
        return self.out / f"{self.name}-{source}-{self.preset}-{self.size_words}"

    @property
    def told(self) -> dict[str, Any]:
        """What results say of the settings."""
        own = {"preset": self.preset, "source": self.source_name, "feature": self.feature}
        return {**super().told, **own}


@dataclass(frozen=True)
class StoriesScale:
    """What is trained, on how much, for how long, and on how many texts everything is measured.

    Attributes:
        preset: Shape of the model (``llama_preset``) and size of its vocabulary.
        feature: The feature that is deleted unless another is asked for.
        train_stories: Stories that models are trained on; None for all of a source that ends.
        test_stories: Stories held out, that models are measured on.
        labelled_stories: Stories of those trained on that the classifier and probes learn from.
        n_ctx: Longest input in tokens.
        batch_size: Windows a step.
        micro_batches: Parts a batch is computed in.
        copying_steps, copying_length: Of training base models, before they see a story, on random tokens that
            repeat (``RepeatedTokens``), in rows of that length and as many tokens a step; 0 for none.
        pretraining_steps, learning_rate: Of base models.
        deletion_steps: Steps of every protocol.
        rates: Their learning rates, by the paper's names.
        reverse_steps, reverse_rate: Of bringing the feature back.
        moments: Steps of it after which models are looked at.
        generations: Stories written by each model that is looked at, of either kind: asked for the feature,
            and not.
        new_tokens: Longest of them.
        temperature: Of writing them.
        loss_stories: Stories that losses are of, of either kind; during fine-tuning a quarter as many.
        classifier_steps, classifier_rate: Training of the classifier.
        probe_stories: Labelled stories that probes are trained on; they are scored on a quarter as many of
            those held out.
        comparison_stories: Stories held out, of either kind, that deleted models and their base are compared
            on.
        precision: Of training steps.
    """

    preset: StoryPreset = "paper"
    feature: str = "Twist"
    train_stories: int | None = None
    test_stories: int = 10_000
    labelled_stories: int = 100_000
    n_ctx: int = 1024
    batch_size: int = 128
    micro_batches: int = 8
    copying_steps: int = 0
    copying_length: int = 64
    pretraining_steps: int = 30_000
    learning_rate: float = 1e-3
    deletion_steps: int = 4000
    rates: tuple[tuple[str, float], ...] = (("M", 1e-4), ("S", 1e-5))
    reverse_steps: int = 3000
    reverse_rate: float = 1e-4
    moments: tuple[int, ...] = (0, 30, 300, 3000)
    generations: int = 256
    new_tokens: int = 400
    temperature: float = 0.8
    loss_stories: int = 512
    classifier_steps: int = 4000
    classifier_rate: float = 1e-4
    probe_stories: int = 4000
    comparison_stories: int = 1000
    precision: str = "float32"


STORY_SCALES: dict[str, StoriesScale] = {
    "tiny": StoriesScale(
        preset="tiny",
        feature="Conflict",
        train_stories=60_000,
        test_stories=3000,
        labelled_stories=20_000,
        n_ctx=256,
        batch_size=8,
        micro_batches=1,
        copying_steps=600,
        pretraining_steps=2500,
        learning_rate=3e-3,
        deletion_steps=300,
        rates=(("M", 1e-3), ("S", 1e-4)),
        reverse_steps=300,
        reverse_rate=1e-3,
        moments=(0, 3, 30, 300),
        new_tokens=150,
        classifier_steps=600,
        classifier_rate=1e-3,
        probe_stories=2000,
        comparison_stories=96,
    ),
    "small": StoriesScale(
        preset="small",
        train_stories=500_000,
        n_ctx=512,
        batch_size=64,
        micro_batches=4,
        pretraining_steps=10_000,
        deletion_steps=1500,
        reverse_steps=1000,
        moments=(0, 30, 300, 1000),
        new_tokens=250,
        classifier_steps=2000,
    ),
    "paper": StoriesScale(),
}
"""Sizes by preset. The paper's own: PAPER.md, Setup 3; rates of bringing back it does not give. Tiny's
copying, batch and rate of pretraining were chosen by the loss on stories held out; small's sizes, and tiny's
of deletion and bringing back, are a first guess, not chosen by measurement."""


def story_scale_of(config: StoriesConfig) -> StoriesScale:
    """The sizes a study has."""
    scale = replace(STORY_SCALES[config.preset], precision=config.precision)
    if not config.quick:
        return scale
    return replace(
        scale,
        train_stories=400,
        test_stories=200,
        labelled_stories=200,
        n_ctx=128,
        batch_size=8,
        copying_steps=min(scale.copying_steps, 4),
        pretraining_steps=20,
        deletion_steps=6,
        rates=scale.rates[:1],
        reverse_steps=6,
        moments=(0, 6),
        generations=8,
        new_tokens=20,
        loss_stories=16,
        classifier_steps=10,
        probe_stories=60,
        comparison_stories=15,
    )
