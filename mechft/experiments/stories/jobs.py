"""The jobs of the stories study: each training and analysis by its settings."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from mechft.experiments.store.entry import file_hash
from mechft.experiments.store.job import Job
from mechft.experiments.stories.config import DELETIONS, StoriesConfig, StoriesScale
from mechft.experiments.stories.kinds import (
    CLASSIFY,
    COPYING,
    DATA,
    DIFF,
    FINETUNE,
    PRETRAIN,
    PROBE,
    WRITE,
)
from mechft.experiments.sweep.pieces import Piece
from mechft.models.llama_config import llama_preset
from mechft.tasks.stories.layout import render
from mechft.tasks.stories.procedural import ProceduralStories
from mechft.tasks.stories.procedural.forks import FORKS
from mechft.tasks.stories.sources import HUB

FINAL = "model.safetensors"
BRINGING_BACK = "keep"
NEVER = "F"
"""The corpus without the feature: what F fine-tunes on, and what the control is pretrained on."""


@dataclass(frozen=True)
class StoryJobs:
    """The jobs of one study.

    Attributes:
        config, scale: What is run.
    """

    config: StoriesConfig
    scale: StoriesScale

    @property
    def _common(self) -> dict[str, Any]:
        return {
            "source": _source_name(self.config.source),
            "feature": self.config.feature,
            "n_ctx": self.scale.n_ctx,
        }

    def data(self) -> Job:
        """Tokenizer, corpora and stories held out; the same for every seed."""
        scale = self.scale
        settings = {
            "source": self.config.source,
            "feature": self.config.feature,
            "content": content_digest(self.config.source),
            "train_stories": scale.train_stories,
            "test_stories": scale.test_stories,
            "labelled_stories": scale.labelled_stories,
            "vocab_size": llama_preset(scale.preset).d_vocab,
            "protocols": ["identity", *DELETIONS, BRINGING_BACK],
            "seed": 0,
        }
        return Job(DATA, settings)

    def _training(self, corpus: str, seed: int, **settings: Any) -> dict[str, Any]:
        scale = self.scale
        return {
            **self._common,
            "corpus": corpus,
            "batch_size": scale.batch_size,
            "micro_batches": scale.micro_batches,
            "loss_stories": scale.loss_stories,
            "precision": scale.precision,
            "seed": seed,
            **settings,
        }

    @property
    def _shape(self) -> dict[str, Any]:
        return asdict(llama_preset(self.scale.preset, n_ctx=self.scale.n_ctx))

    def copying(self, seed: int) -> Job:
        """The start of the base and of the model that never saw the feature: taught to say again."""
        scale = self.scale
        settings = {
            "model": self._shape,
            "steps": scale.copying_steps,
            "learning_rate": scale.learning_rate,
            "batch_size": scale.batch_size * scale.n_ctx // scale.copying_length,
            "n_ctx": scale.copying_length,
            "precision": scale.precision,
            "seed": seed,
        }
        return Job(COPYING, settings)

    def base(self, seed: int, corpus: str = "identity") -> Job:
        """A model pretrained on all stories, or (corpus ``NEVER``) on those without the feature."""
        scale = self.scale
        settings = self._training(
            corpus,
            seed,
            model=self._shape,
            steps=scale.pretraining_steps,
            learning_rate=scale.learning_rate,
            moments=[],
        )
        start = {"start": self.copying(seed)} if scale.copying_steps else {}
        return Job(PRETRAIN, settings, {"data": self.data(), **start})

    @property
    def _watched(self) -> int:
        """Stories that losses are of while a fine-tuning goes on: more would cost as much as its steps."""
        return max(2, self.scale.loss_stories // 4)

    def deleted(self, seed: int, protocol: str, rate: str) -> Job:
        """A base model after a protocol of deletion."""
        settings = self._training(
            protocol,
            seed,
            loss_stories=self._watched,
            steps=self.scale.deletion_steps,
            learning_rate=dict(self.scale.rates)[rate],
            moments=[],
        )
        return Job(FINETUNE, settings, {"data": self.data(), "start": self.base(seed)})

    def brought_back(self, seed: int, start: Job) -> Job:
        """A model trained on stories with the feature only; kept at all moments."""
        settings = self._training(
            BRINGING_BACK,
            seed,
            loss_stories=self._watched,
            steps=self.scale.reverse_steps,
            learning_rate=self.scale.reverse_rate,
            moments=list(self.scale.moments),
        )
        return Job(FINETUNE, settings, {"data": self.data(), "start": start})

    def classifier(self) -> Job:
        """The judge of what models write; one for the study."""
        scale = self.scale
        settings = {
            **self._common,
            "steps": scale.classifier_steps,
            "learning_rate": scale.classifier_rate,
            "batch_size": scale.batch_size,
            "seed": 0,
        }
        return Job(CLASSIFY, settings, {"data": self.data(), "base": self.base(0)})

    def writing(self, seed: int, model: Job, file: str = FINAL) -> Job:
        """What a model writes, and what texts cost it."""
        scale = self.scale
        settings = {
            **self._common,
            "file": file,
            "generations": scale.generations,
            "new_tokens": scale.new_tokens,
            "temperature": scale.temperature,
            "loss_stories": scale.loss_stories,
            "seed": seed,
        }
        needs = {"data": self.data(), "model": model, "classifier": self.classifier()}
        return Job(WRITE, settings, needs)

    def probes(self, seed: int, model: Job) -> Job:
        """Probes for every feature in a model."""
        settings = {**self._common, "file": FINAL, "stories": self.scale.probe_stories}
        return Job(PROBE, {**settings, "seed": seed}, {"data": self.data(), "model": model})

    def comparison(self, seed: int, model: Job) -> Job:
        """A base model and one made from it."""
        settings = {**self._common, "file": FINAL, "stories": self.scale.comparison_stories}
        needs = {"data": self.data(), "base": self.base(seed), "model": model}
        return Job(DIFF, {**settings, "seed": seed}, needs)

    def pieces(self) -> Iterator[Piece]:
        """Everything the study measures."""
        yield Piece("counts", "counts", self.data(), {})
        yield Piece("classifier", "accuracy", self.classifier(), {})
        for seed in self.config.seed_list:
            yield from self._of_seed(seed)

    def _of_seed(self, seed: int) -> Iterator[Piece]:
        base, never = self.base(seed), self.base(seed, NEVER)
        starts: list[tuple[dict[str, Any], Job]] = []
        for name, job in (("base", base), ("never", never)):
            labels = {"model": name, "protocol": "", "rate": "", "seed": seed}
            starts.append((labels, job))
            yield Piece("pretraining", "history", job, labels)
        for protocol in DELETIONS:
            for rate, _ in self.scale.rates:
                job = self.deleted(seed, protocol, rate)
                labels = {"model": "deleted", "protocol": protocol, "rate": rate, "seed": seed}
                starts.append((labels, job))
                yield Piece("deletion", "history", job, labels)
        for labels, job in starts:
            for table in ("writing", "losses", "samples"):
                yield Piece(table, table, self.writing(seed, job), labels)
            yield Piece("probes", "probes", self.probes(seed, job), labels)
            if labels["model"] == "deleted":
                for table in ("weights", "activations", "outputs", *self._of_decisions):
                    yield Piece(table, table, self.comparison(seed, job), labels)
            if labels["model"] == "base":
                continue
            back = self.brought_back(seed, job)
            yield Piece("reversal", "history", back, labels)
            for moment in self.scale.moments:
                told = (
                    self.writing(seed, back, f"model-{moment:06d}.safetensors")
                    if moment
                    else self.writing(seed, job)  # the model it starts from
                )
                here = {**labels, "step": moment}
                yield Piece("reversal_writing", "writing", told, here)
                if moment == self.scale.moments[-1]:
                    yield Piece("reversal_samples", "samples", told, here)

    @property
    def _of_decisions(self) -> tuple[str, ...]:
        known = self.config.source == "procedural" and self.config.feature in FORKS
        return ("decisions", "pruning", "patching") if known else ()


def _source_name(source: str) -> str:
    """What analyses need to know of a source: whether what is true of its stories is known."""
    return source if source == "procedural" else "told"


@cache
def content_digest(source: str) -> str:
    """What a source holds, as a word: other stories give other keys.

    Of procedural stories a few, of a file all bytes, of a folder all files'; of the hub its name, as what is
    there cannot be known without the network.
    """
    if source == "procedural":
        rng = random.Random(0)
        some = [render(record, rng).text for record in ProceduralStories().stories(20, 0)]
        return sha256("".join(some).encode()).hexdigest()[:12]
    path = Path(source)
    if source == HUB or not path.exists():
        return source
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    return sha256("".join(map(file_hash, files)).encode()).hexdigest()[:12]
