"""What tests of mixed weights share: rows a model answers right, and whether its weights are as they were."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mechft.tasks.batch import TokenBatch
from mechft.training.evaluation import answer_logits

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer


def answered_by(model: HookedTransformer, batch: TokenBatch) -> TokenBatch:
    """The same rows with this model's answers as the right ones."""
    return replace(batch, answer=answer_logits(model, batch).argmax(-1))


def bits(model: HookedTransformer) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
