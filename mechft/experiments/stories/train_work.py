"""Training of story models: pretraining, deletion by a protocol, bringing the feature back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from mechft.analysis.text_loss import text_loss
from mechft.errors import TrainingDivergedError
from mechft.experiments.store.job import WorkFailedError
from mechft.experiments.stories.data_work import corpus_of, held_out, tokenizer_of
from mechft.files import replacing
from mechft.models.build import build_model
from mechft.models.checkpoint import load_checkpoint, save_checkpoint
from mechft.models.llama_config import LlamaConfig
from mechft.randomness import derive_seed, generator
from mechft.statistics import Proportion
from mechft.tasks.batch import TokenBatch
from mechft.tasks.stories.packed import PackedSource
from mechft.tasks.stories.protocols import has_feature
from mechft.tasks.stories.repeated import RepeatedTokens
from mechft.tasks.stories.rows import STORY_START, story_rows
from mechft.tasks.stories.tokenizer import END_ID
from mechft.training.callbacks import Callback, SaveModels
from mechft.training.config import TrainConfig, geometric_steps
from mechft.training.loop import train
from mechft.training.stories import story_config
from mechft.training.trained import MODEL_FILE

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

Settings = Mapping[str, Any]
Needs = Mapping[str, Path]

HISTORY_FILE = "history.csv"
COPIES = 500  # rows that copying is measured on


def copying_work(settings: Settings, needs: Needs, folder: Path) -> None:
    """Train a model from nothing to say again what came after before, on random tokens (``RepeatedTokens``).

    Leaves: model.safetensors, history.csv (as ``train``'s: whether a row's last token was said right).
    """
    model = _drawn(settings).to(device(), print_details=False)
    steps, seed = settings["steps"], derive_seed(settings["seed"], "copying")
    config = TrainConfig(
        steps=steps,
        learning_rate=settings["learning_rate"],
        batch_size=settings["batch_size"],
        loss="next_token",
        answer_weight=0.0,
        warmup_fraction=0.1,
        seed=seed,
        evaluate_at=geometric_steps(steps, per_decade=3),
        precision=settings["precision"],
    )
    source = RepeatedTokens(model.cfg.d_vocab, settings["n_ctx"], first_token=END_ID + 1)
    watched = {"repeated": source.sample(COPIES, generator(seed, "evaluation"))}
    history = train_or_fail(model, source, config, evaluations=watched, directory=folder)
    pd.DataFrame(history).to_csv(folder / HISTORY_FILE, index=False)
    save_checkpoint(folder / MODEL_FILE, model, {"settings": dict(settings)})


def pretrain_work(settings: Settings, needs: Needs, folder: Path) -> None:
    """Train a model on one protocol's corpus: "identity", or "F" for the control.

    It starts from nothing, or from what ``copying_work`` left.

    Leaves: model.safetensors, history.csv (step, texts, loss, ci_low, ci_high, n, tokens).
    """
    start = needs.get("start")
    model = load_checkpoint(start / MODEL_FILE).model if start else _drawn(settings)
    _train(model, settings, needs["data"], folder)


def _drawn(settings: Settings) -> HookedTransformer:
    """A model of random weights."""
    shape = LlamaConfig(**settings["model"])
    return build_model(shape, seed=derive_seed(settings["seed"], "weights"))


def finetune_work(settings: Settings, needs: Needs, folder: Path) -> None:
    """Go on from a model with one protocol's corpus: to delete the feature, or ("keep") to bring it back.

    Leaves: model.safetensors, history.csv, and the models at ``settings["moments"]`` (``model_at``).
    """
    _train(load_checkpoint(needs["start"] / MODEL_FILE).model, settings, needs["data"], folder)


def _train(model: HookedTransformer, settings: Settings, data: Path, folder: Path) -> None:
    model.to(device(), print_details=False)
    steps, n_ctx = settings["steps"], settings["n_ctx"]
    moments = tuple(settings["moments"])
    config = story_config(
        steps,
        settings["learning_rate"],
        settings["batch_size"],
        derive_seed(settings["seed"], "stories", settings["corpus"]),
        micro_batches=settings["micro_batches"],
        evaluate_at=tuple(sorted({*geometric_steps(steps, per_decade=3), *moments})),
        precision=settings["precision"],
    )
    rows = loss_rows(data, n_ctx, settings["loss_stories"], settings["feature"])
    watchers: list[Callback] = [LossHistory(folder / HISTORY_FILE, rows)]
    if moments:
        watchers.append(SaveModels(folder, moments=moments))
    source = PackedSource(corpus_of(data, settings["corpus"]), n_ctx, begin="documents")
    train_or_fail(model, source, config, directory=folder, callbacks=watchers)
    save_checkpoint(folder / MODEL_FILE, model, {"settings": dict(settings)})


def train_or_fail(*what: Any, **how: Any) -> list[dict[str, Any]]:
    """``train``; that it diverged is a finding: the same settings would diverge again."""
    try:
        return train(*what, **how)
    except TrainingDivergedError as error:
        raise WorkFailedError(str(error)) from error


def loss_rows(data: Path, length: int, number: int, feature: str) -> dict[str, TokenBatch]:
    """The first stories held out with the feature and without it, each with its instruction.

    Returns:
        Rows by "with" and "without".
    """
    tokenizer = tokenizer_of(data)
    records = held_out(data)
    rows = {}
    for name, wanted in (("with", True), ("without", False)):
        some = [record for record in records if has_feature(record, feature) == wanted][:number]
        rows[name] = story_rows(some, tokenizer, length)
    return rows


class LossHistory(Callback):
    """Measures losses whenever the model is evaluated, and keeps them in a file, across interruptions.

    Args:
        path: A CSV file; what an interrupted run left there is kept up to where it goes on.
        rows: Texts by name.
    """

    def __init__(self, path: Path, rows: Mapping[str, TokenBatch]) -> None:
        self.path, self.rows = path, rows
        self.frames: list[pd.DataFrame] = []

    def began(self, label: str, config: TrainConfig, step: int) -> None:
        """Take up what is there of steps before."""
        if self.path.exists():
            found = pd.read_csv(self.path)
            self.frames = [found[found["step"] <= step]] if step else []

    def evaluated(
        self, step: int, model: HookedTransformer, results: Mapping[str, Proportion]
    ) -> None:
        """Measure, and write everything anew."""
        found = text_loss({"model": model}, self.rows, STORY_START).frame.drop(columns="model")
        found.insert(0, "step", step)
        self.frames.append(found)
        with replacing(self.path) as temporary:
            pd.concat(self.frames, ignore_index=True).to_csv(temporary, index=False)


def device() -> str:
    """Where work is done: a GPU if there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"
