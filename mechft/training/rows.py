"""Fine-tuning any model on rows of one's own: prompts with an answer each, and nothing else asked of them.

The recipes train models of a task, on fresh rows at every step, with the fused forward. Here the rows are
given, and the model may be any that TransformerLens opens; this is what "does it come back?" is asked by of
a pair of one's own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool
from torch import Tensor

from mechft.errors import TrainingDivergedError, require
from mechft.models.build import clone
from mechft.models.hook_points import ModelLike, as_model, device_of
from mechft.randomness import generator
from mechft.statistics import proportion
from mechft.tasks.batch import TokenBatch
from mechft.training.evaluation import NoAnswerError, answered_right, last_logits

if TYPE_CHECKING:
    import pandas as pd
    from transformer_lens import HookedTransformer

MOMENTS = (0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 987)
"""Steps after which it is measured, besides the last."""
_CLIP = 1.0  # the gradient's largest norm


@dataclass(frozen=True)
class RowTraining:
    """A model fine-tuned on rows, and how it went.

    Attributes:
        model: The trained copy.
        history: Columns step, train_loss (nats, of the step before; NaN at 0), evaluation, accuracy, ci_low,
            ci_high (95% Wilson, over rows), n, batch_size.
        hits: Which rows of a test were answered right, for each (step, test). Bool["row"].
    """

    model: HookedTransformer
    history: pd.DataFrame
    hits: Mapping[tuple[int, str], Bool[Tensor, " row"]] = field(repr=False)


def finetune_rows(
    model: ModelLike,
    rows: TokenBatch | Sequence[TokenBatch],
    tests: Mapping[str, TokenBatch | Sequence[TokenBatch]],
    *,
    steps: int,
    learning_rate: float,
    batch_size: int = 16,
    stop_at: tuple[str, float] | None = None,
    seed: int = 0,
) -> RowTraining:
    """A copy of a model, trained to give the answers of some rows (AdamW on all weights, constant rate).

    With the base's answers as the right ones this is reverse fine-tuning of any pair; ``mf.revival`` takes
    the histories. A step's rows are of one length, so nothing is padded.

    Args:
        model: A HookedTransformer, a TransformerBridge or ``Trained``; unchanged.
        rows: What it is trained on; batches may differ in length.
        tests: What is measured after 0, 1, 2, 3, 5, 8, … steps, by name: rows that are not trained on.
        steps: Optimiser steps at most.
        learning_rate: Its rate, after a warm-up of a tenth of the steps: about how far a weight moves in one.
        batch_size: Rows a step at most.
        stop_at: A test and an accuracy at which to stop: ("test", 0.97).
        seed: Seed of the rows' order.

    Raises:
        ConfigError: If there are no rows, or a number is out of range.
        TrainingDivergedError: If the loss, or what a test is answered with, is not finite; names the step.

    Source: Jain et al. (2024), reFT, on rows that are given.

    Cost: a forward and a backward of ``batch_size`` rows a step. Memory: four times the model, in float32 at
    least (a model in half precision is trained, and given back, in float32).

    Example:
        >>> import mechft as mf
        >>> base, ft = mf.load("pcfg-tiny-low"), mf.load("pcfg-tiny-low-to-b")
        >>> rows = base.task.query("C", "a", mf.Correlation(0.0)).sample(400, mf.generator(0))
        >>> train, test = rows.rows(slice(0, 300)), rows.rows(slice(300, 400))
        >>> back = mf.finetune_rows(ft, train, {"test": test}, steps=21, learning_rate=3e-4)
        >>> first, *_, last = back.history["accuracy"]
        >>> last > first + 0.2
        True
    """
    parts = _batches(rows)
    asked = {name: _batches(batches) for name, batches in tests.items()}
    require(
        steps >= 1 and batch_size >= 1, f"It takes a step of a row; got {steps} and {batch_size}."
    )
    require(
        math.isfinite(learning_rate) and learning_rate > 0,
        f"A learning rate is above 0; got {learning_rate:g}.",
    )
    require(
        stop_at is None or stop_at[0] in asked,
        f"stop_at names a test of {list(asked)}; got {stop_at}.",
    )
    twin = _trainable(as_model(model))
    optimizer = torch.optim.AdamW(twin.parameters(), lr=learning_rate, weight_decay=0.0)
    records: list[dict[str, Any]] = []
    hits: dict[tuple[int, str], Tensor] = {}

    def stop(step: int, loss: float) -> bool:
        """Measure, and say whether it is good enough."""
        values = {}
        for name, batches in asked.items():
            try:
                right = hits[step, name] = torch.cat([answered_right(twin, b) for b in batches])
            except NoAnswerError as error:
                if step == 0:
                    raise
                raise TrainingDivergedError(
                    _diverged(f"After step {step}: {error}"), step + 1
                ) from error
            share = proportion(int(right.sum()), len(right))
            values[name] = share.value
            records.append(
                {"step": step, "train_loss": loss, "evaluation": name, "accuracy": share.value}
                | {"ci_low": share.low, "ci_high": share.high, "n": share.n}
                | {"batch_size": batch_size}
            )
        return stop_at is not None and values[stop_at[0]] >= stop_at[1]

    if not stop(0, math.nan):
        for step, batch in zip(
            range(1, steps + 1), _endless(parts, batch_size, seed), strict=False
        ):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * min(1.0, step / max(1.0, steps / 10))
            loss = _descend(twin, batch, optimizer, step)
            if (step in MOMENTS or step == steps) and stop(step, loss):
                break
    import pandas as pd

    twin.zero_grad(set_to_none=True)
    return RowTraining(twin, pd.DataFrame(records), hits)


def _batches(rows: TokenBatch | Sequence[TokenBatch]) -> list[TokenBatch]:
    found = [rows] if isinstance(rows, TokenBatch) else list(rows)
    require(
        bool(found) and all(len(batch) for batch in found),
        "Training on rows, and measuring, takes a row at least in every batch; got none.",
    )
    return found


def _trainable(model: HookedTransformer) -> HookedTransformer:
    """A copy whose weights all take gradients, in float32 at least."""
    twin = clone(model).eval()
    if next(twin.parameters()).dtype in (torch.float16, torch.bfloat16):
        twin.float()  # steps as small as fine-tuning's would be rounded away
        twin.cfg.dtype = torch.float32
    return twin.requires_grad_(True)


def _endless(parts: Sequence[TokenBatch], size: int, seed: int) -> Iterator[TokenBatch]:
    """Batches of one length each, all rows once before any comes again, in another order each time."""
    epoch = 0
    while True:
        draws = generator(seed, "rows", epoch)
        chunks = [
            part.rows(chosen)
            for part in parts
            for chosen in torch.randperm(len(part), generator=draws).tensor_split(
                -(-len(part) // size)
            )
        ]
        for place in torch.randperm(len(chunks), generator=draws).tolist():
            yield chunks[place]
        epoch += 1


def _descend(
    model: HookedTransformer, batch: TokenBatch, optimizer: torch.optim.Optimizer, step: int
) -> float:
    """One step; the loss before it."""
    batch = batch.to(device_of(model))
    with torch.enable_grad():
        loss = F.cross_entropy(last_logits(model, batch.prompt), batch.answer)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingDivergedError(_diverged(f"The loss at step {step} is {value}."), step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), _CLIP)
    optimizer.step()
    return value


def _diverged(what: str) -> str:
    return f"{what} Training diverged; take a smaller learning_rate."
