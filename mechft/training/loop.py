"""The training loop: batches that are a function of the step, a loss, evaluations, checkpoints."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mechft.errors import require, unknown_name
from mechft.models.build import fingerprint
from mechft.models.fused import fused_logits
from mechft.models.hook_points import device_of
from mechft.randomness import generator
from mechft.tasks.batch import Source, TokenBatch
from mechft.training.callbacks import Callback
from mechft.training.config import TrainConfig
from mechft.training.interrupt import deferred_interrupt
from mechft.training.precision import computing_in
from mechft.training.prefetch import prefetched
from mechft.training.progress import Progress
from mechft.training.run import Run

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

_BATCHES_PER_DRAW = 8  # several batches at once cost half of drawing each, or less


def train(
    model: HookedTransformer,
    source: Source,
    config: TrainConfig,
    *,
    evaluations: Mapping[str, TokenBatch] | None = None,
    directory: str | Path | None = None,
    label: str = "training",
    identity: Mapping[str, Any] | None = None,
    callbacks: Sequence[Callback] = (),
) -> list[dict[str, Any]]:
    """Train ``model`` in place and return its history.

    Args:
        model: A HookedTransformer that the fused forward covers.
        source: Where batches come from; the batch of a step depends on seed and step alone.
        config: How to train.
        evaluations: Batches to measure accuracy on, by name, at ``config.evaluate_at``.
        directory: Where to keep checkpoints. A run found there with the same config and identity is
            resumed, and gives the same bits as one that never stopped; another run is refused: one
            with other settings, start weights, data, evaluations or ``identity``.
        label: What the progress bar says.
        identity: Further JSON values that say what this run is; compared on resuming.
        callbacks: Told what happens; see ``Callback``.

    Returns:
        One record per evaluation and moment: step, learning_rate, train_loss (of the step before;
        NaN at 0), evaluation, accuracy, ci_low, ci_high, n.

    Raises:
        OutputExistsError: If ``directory`` holds another run.
        TrainingDivergedError: If loss, gradient or an evaluation's logits are not finite; names
            the step and the last checkpoint.
        KeyboardInterrupt: On Ctrl-C, after the step under way has been finished and saved.
    """
    evaluations = evaluations or {}
    if config.stop_at is not None and config.stop_at[0] not in evaluations:
        raise unknown_name("evaluation to stop at", config.stop_at[0], evaluations)
    run = Run(
        model, config, evaluations, directory, _identity(model, source, config, identity or {})
    )
    run.resume()
    watchers: list[Callback] = [Progress(), *callbacks]

    def evaluate(loss: float) -> None:
        results = run.evaluate(loss)
        for watcher in watchers:
            watcher.evaluated(run.step, model, results)

    with deferred_interrupt() as interrupted, _watched(watchers, label, config, run):
        if not run.history:
            evaluate(math.nan)
        for batch in () if run.finished else _batches_for(model, source, config, run.step):
            loss = run.advance(_part_losses(model, batch, config))
            for watcher in watchers:
                watcher.stepped(run.step, loss)
            if run.step in config.evaluate_at:
                evaluate(loss)
            if run.finished or interrupted() or run.step % config.checkpoint_every == 0:
                run.save()
            if run.finished or interrupted():
                break
    if interrupted():
        raise KeyboardInterrupt
    return run.history


@contextmanager
def _watched(
    watchers: Sequence[Callback], label: str, config: TrainConfig, run: Run
) -> Iterator[None]:
    """Tells of the beginning and, whatever happens, to those that were told of it, of the end."""

    def end(watcher: Callback) -> None:
        watcher.ended(run.step)

    with ExitStack() as told:
        for watcher in watchers:
            watcher.began(label, config, run.step)
            told.callback(end, watcher)
        yield


def _identity(
    model: HookedTransformer, source: Source, config: TrainConfig, further: Mapping[str, Any]
) -> dict[str, Any]:
    """What makes a run this one: start weights, a sample of the data, and what the caller adds."""
    sample = source.sample(4, generator(config.seed, "identity"))
    return {"start": fingerprint(model), "data": sample.digest(), **further}


def _batches(source: Source, config: TrainConfig, first: int) -> Iterator[TokenBatch]:
    """Batches of steps ``first``, ``first + 1``, …; each a function of (seed, step)."""
    size = config.batch_size
    for draw in range(first // _BATCHES_PER_DRAW, -(-config.steps // _BATCHES_PER_DRAW)):
        many = source.sample(size * _BATCHES_PER_DRAW, generator(config.seed, "train", draw))
        tokens, answers = many.tokens.split(size), many.answer.split(size)
        skip = max(0, first - draw * _BATCHES_PER_DRAW)
        for rows, answer in list(zip(tokens, answers, strict=True))[skip:]:
            yield TokenBatch(rows, many.answer_position, answer)


def _batches_for(
    model: HookedTransformer, source: Source, config: TrainConfig, first: int
) -> Iterator[TokenBatch]:
    """The batches on the model's device; an accelerator gets them drawn ahead."""
    device, batches = device_of(model), _batches(source, config, first)
    return batches if device.type == "cpu" else prefetched(batches, device)


def _part_losses(
    model: HookedTransformer, batch: TokenBatch, config: TrainConfig
) -> Iterator[Tensor]:
    """The batch's loss in parts that add up to it: each part's mean by its share of the rows."""
    rows = torch.arange(len(batch)).tensor_split(config.micro_batches)
    for part in [batch] if config.micro_batches == 1 else map(batch.rows, rows):
        with computing_in(config.precision, device_of(model)):
            loss = batch_loss(model, part, config)
        yield loss * (len(part) / len(batch))


def batch_loss(model: HookedTransformer, batch: TokenBatch, config: TrainConfig) -> Tensor:
    """The loss a step descends, through the fused forward, on the model's device."""
    batch = batch.to(device_of(model))
    if config.loss == "answer":
        asked = torch.tensor([batch.answer_position])
        # The prompt and no more: with bidirectional attention what comes after it would be read.
        return F.cross_entropy(fused_logits(model, batch.prompt, asked)[:, 0], batch.answer)
    require(
        model.cfg.attention_dir == "causal" and model.cfg.d_vocab == model.cfg.d_vocab_out,
        'loss="next_token" takes a causal model that predicts its own tokens; this one sees the token it is '
        'to predict, or answers in another vocabulary. Train it with loss="answer".',
    )
    logits = fused_logits(model, batch.tokens[:, :-1])
    loss = F.cross_entropy(logits.flatten(0, 1), batch.tokens[:, 1:].flatten())
    if config.answer_weight:
        answer = F.cross_entropy(logits[:, batch.answer_position], batch.answer)
        loss = loss + config.answer_weight * answer
    return loss
