"""Gradients of the answer loss with respect to the block matrices of any model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from mechft.analysis.batches import Data, each_batch
from mechft.errors import require
from mechft.models.hook_points import device_of
from mechft.models.weights import block_matrices
from mechft.tasks.batch import TokenBatch
from mechft.training.evaluation import among_candidates, last_logits

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

_CHUNK = 128  # rows a backward pass; bounds its memory


def loss_gradients(model: HookedTransformer, data: Data) -> tuple[float, dict[str, Tensor]]:
    """The mean answer loss on some rows, and its gradients in the layout of ``block_matrices``.

    Gradients are summed in float32 at least. Parameters' ``grad`` is left alone; hooks in force count.

    Raises:
        ConfigError: If the batch is empty, a parameter takes no gradient, or a gradient is not finite.
    """
    total: dict[str, Tensor] = {}
    loss, rows = 0.0, 0
    # Each pass is scaled by its own size and not the batch's, or half precision would lose small gradients.
    for batch in each_batch(data):
        rows += len(batch)
        for gradients, part in _passes(model, batch, _CHUNK, share=1 / _CHUNK):
            loss += part
            for name, gradient in gradients.items():
                total[name] = total[name] + gradient if name in total else gradient
    scale = _CHUNK / rows
    return loss * scale, {name: gradient * scale for name, gradient in total.items()}


def row_gradients(model: HookedTransformer, data: Data) -> Iterator[dict[str, Tensor]]:
    """The gradients of each row's answer loss, one row after the other; as ``loss_gradients``.

    Cost: a forward and backward a row; memory for one gradient.
    """
    return (g for batch in each_batch(data) for g, _ in _passes(model, batch, 1))


def _passes(
    model: HookedTransformer, batch: TokenBatch, size: int, share: float = 1.0
) -> Iterator[tuple[dict[str, Tensor], float]]:
    """Gradients of ``share`` × the summed answer loss of each chunk of rows, with that loss."""
    batch = batch.to(device_of(model))
    weights = block_matrices(model)
    for name, weight in weights.items():
        require(
            weight.parameter.requires_grad,
            f"{name} takes no gradient, so it cannot be scored by one. Call model.requires_grad_(True).",
        )
    parameters = list({id(w.parameter): w.parameter for w in weights.values()}.values())
    for start in range(0, len(batch), size):
        rows = batch.rows(slice(start, start + size))
        with torch.enable_grad():
            chosen, right = among_candidates(exact(last_logits(model, rows.prompt)), rows)
            loss = share * F.cross_entropy(chosen, right, reduction="sum")
            found = torch.autograd.grad(loss, parameters)
        by_parameter = {id(p): exact(g) for p, g in zip(parameters, found, strict=True)}
        gradients = {n: w.gradient(by_parameter[id(w.parameter)]) for n, w in weights.items()}
        for name, gradient in gradients.items():
            require(
                bool(gradient.isfinite().all()),
                f"The gradient of {name} is not finite; the model has diverged or overflowed.",
            )
        yield gradients, float(loss.detach())


def exact(value: Tensor) -> Tensor:
    """In float32 at least: sums of half precision mean nothing."""
    return value if value.dtype in (torch.float32, torch.float64) else value.float()
