"""The training loop: batches that are a function of the step, a loss, AdamW, evaluations, checkpoints."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mechft.errors import (
    CheckpointError,
    OutputExistsError,
    TrainingDivergedError,
    unknown_name,
)
from mechft.models.checkpoint import load_checkpoint, save_checkpoint
from mechft.models.fused import fused_logits
from mechft.randomness import generator
from mechft.tasks.batch import Source, TokenBatch
from mechft.training.config import TrainConfig
from mechft.training.evaluation import accuracy
from mechft.training.progress import Progress
from mechft.training.schedule import warmup_cosine

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

HISTORY_COLUMNS = (
    "step",
    "learning_rate",
    "train_loss",
    "evaluation",
    "accuracy",
    "ci_low",
    "ci_high",
    "n",
)
CHECKPOINT_FILE = "checkpoint.safetensors"
_BATCHES_PER_DRAW = 8  # drawing several batches at once costs a third of drawing each


def train(
    model: HookedTransformer,
    source: Source,
    config: TrainConfig,
    *,
    evaluations: Mapping[str, TokenBatch] | None = None,
    directory: str | Path | None = None,
    label: str = "training",
    identity: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Train ``model`` in place and return its history.

    Args:
        model: A HookedTransformer that the fused forward covers.
        source: Where batches come from; the batch of a step depends on seed and step alone.
        config: How to train.
        evaluations: Batches to measure accuracy on, by name, at ``config.evaluate_at``.
        directory: Where to keep checkpoints. A run found there with the same config and identity is
            resumed, and gives the same bits as one that never stopped; another run is refused.
        label: What the progress bar says.
        identity: JSON values that say what this run is (start model, data); compared on resuming.

    Returns:
        One record per evaluation and moment: step, learning_rate, train_loss (of the step before;
        NaN at 0), evaluation, accuracy, ci_low, ci_high, n.

    Raises:
        OutputExistsError: If ``directory`` holds another run.
        TrainingDivergedError: If the loss is not finite; names the step and the last checkpoint.
        KeyboardInterrupt: Passed on, after a checkpoint has been written.
    """
    evaluations = evaluations or {}
    if config.stop_at is not None and config.stop_at[0] not in evaluations:
        raise unknown_name("evaluation to stop at", config.stop_at[0], evaluations)
    run = _Run(model, config, evaluations, directory, dict(identity or {}))
    run.resume()
    bar = Progress(label, config.steps, run.step)
    try:
        if run.step == 0:
            bar.evaluated(run.evaluate(math.nan))
        for batch in () if run.finished else _batches(source, config, run.step):
            loss = run.advance(batch)
            bar.step(loss)
            if run.step in config.evaluate_at:
                bar.evaluated(run.evaluate(loss))
            if run.step % config.checkpoint_every == 0:
                run.save()
            if run.finished:
                break
        run.save()
    except KeyboardInterrupt:
        run.save()
        raise
    finally:
        bar.close()
    return run.history


def _batches(source: Source, config: TrainConfig, first: int) -> Iterator[TokenBatch]:
    """Batches of steps ``first``, ``first + 1``, …; each a function of (seed, step)."""
    size = config.batch_size
    for draw in range(first // _BATCHES_PER_DRAW, -(-config.steps // _BATCHES_PER_DRAW)):
        many = source.sample(size * _BATCHES_PER_DRAW, generator(config.seed, "train", draw))
        tokens, answers = many.tokens.split(size), many.answer.split(size)
        skip = max(0, first - draw * _BATCHES_PER_DRAW)
        for rows, answer in list(zip(tokens, answers, strict=True))[skip:]:
            yield TokenBatch(rows, many.answer_position, answer)


def batch_loss(model: HookedTransformer, batch: TokenBatch, config: TrainConfig) -> Tensor:
    """The loss a step descends, through the fused forward."""
    if config.loss == "answer":
        asked = torch.tensor([batch.answer_position])
        return F.cross_entropy(fused_logits(model, batch.tokens, asked)[:, 0], batch.answer)
    logits = fused_logits(model, batch.tokens[:, :-1])
    loss = F.cross_entropy(logits.flatten(0, 1), batch.tokens[:, 1:].flatten())
    if config.answer_weight:
        answer = F.cross_entropy(logits[:, batch.answer_position], batch.answer)
        loss = loss + config.answer_weight * answer
    return loss


class _Run:
    """A run in progress: everything a checkpoint has to hold."""

    def __init__(
        self,
        model: HookedTransformer,
        config: TrainConfig,
        evaluations: Mapping[str, TokenBatch],
        directory: str | Path | None,
        identity: dict[str, Any],
    ) -> None:
        self.model, self.config, self.evaluations = model, config, evaluations
        self.path = None if directory is None else Path(directory) / CHECKPOINT_FILE
        self.identity = _as_json({"config": asdict(config), **identity})
        self.step = 0
        self.stopped = False
        self.history: list[dict[str, Any]] = []
        self.names = [name for name, _ in model.named_parameters()]
        self.parameters = list(model.parameters())
        matrices = [p for p in self.parameters if p.dim() > 1]
        others = [p for p in self.parameters if p.dim() <= 1]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": config.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=config.learning_rate,
            betas=config.betas,
            fused=True,
        )

    @property
    def finished(self) -> bool:
        return self.stopped or self.step >= self.config.steps

    def advance(self, batch: TokenBatch) -> float:
        """Take one step; returns its loss."""
        rate = self._rate(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = batch_loss(self.model, batch, self.config)
        value = float(loss.detach())
        if not math.isfinite(value):
            kept = "none was written" if self.path is None else f"the last good one is {self.path}"
            raise TrainingDivergedError(
                f"The loss became {value} at step {self.step + 1} of {self.config.steps} (learning "
                f"rate {rate:.2g}). Checkpoint: {kept}. Lower the learning rate."
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.parameters, self.config.gradient_clip)
        self.optimizer.step()
        self.step += 1
        return value

    def _rate(self, step: int) -> float:
        c = self.config
        return warmup_cosine(step, c.steps, c.learning_rate, c.warmup_fraction, c.final_fraction)

    def evaluate(self, loss: float) -> dict[str, Any]:
        """Measure every evaluation and add it to the history."""
        results = {name: accuracy(self.model, batch) for name, batch in self.evaluations.items()}
        self.history += [
            {
                "step": self.step,
                "learning_rate": self._rate(max(0, self.step - 1)),
                "train_loss": None if math.isnan(loss) else loss,
                "evaluation": name,
                "accuracy": result.value,
                "ci_low": result.low,
                "ci_high": result.high,
                "n": result.n,
            }
            for name, result in results.items()
        ]
        if self.config.stop_at is not None:
            name, threshold = self.config.stop_at
            self.stopped = results[name].value >= threshold
        return results

    def save(self) -> None:
        if self.path is None:
            return
        extra = {
            f"{name}.{key}": value
            for name, parameter in zip(self.names, self.parameters, strict=True)
            for key, value in self.optimizer.state[parameter].items()
        }
        description = {
            "identity": self.identity,
            "step": self.step,
            "stopped": self.stopped,
            "history": self.history,
        }
        save_checkpoint(self.path, self.model, description, extra)

    def resume(self) -> None:
        """Continue from the checkpoint in the folder, if there is one of this very run."""
        if self.path is None or not self.path.exists():
            return
        found = load_checkpoint(self.path)
        if "identity" not in found.description:
            raise CheckpointError(f"{self.path} is a finished model, not a run that can go on.")
        theirs = found.description["identity"]
        if theirs != self.identity:
            different = sorted(_differences(theirs, self.identity))
            raise OutputExistsError(
                f"{self.path.parent} holds another run: {'; '.join(different[:4])}. It was left as "
                "it is. Choose another folder, or remove this one."
            )
        self.step = found.description["step"]
        self.stopped = found.description["stopped"]
        self.history = found.description["history"]
        with torch.no_grad():
            for name, parameter in found.model.named_parameters():
                self.model.get_parameter(name).copy_(parameter)
        for name, parameter in zip(self.names, self.parameters, strict=True):
            prefix = f"{name}."
            state = {
                key.removeprefix(prefix): value
                for key, value in found.extra.items()
                if key.startswith(prefix) and "." not in key.removeprefix(prefix)
            }
            if state:
                self.optimizer.state[parameter] = state


def _as_json(value: Any) -> Any:
    """The value as it reads back from JSON (tuples become lists), so that runs can be compared."""
    import json

    return json.loads(json.dumps(value))


def _differences(theirs: Any, ours: Any, path: str = "") -> Iterator[str]:
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in theirs.keys() | ours.keys():
            yield from _differences(theirs.get(key), ours.get(key), f"{path}.{key}".lstrip("."))
    elif theirs != ours:
        yield f"{path} is {theirs!r} there and {ours!r} here"
