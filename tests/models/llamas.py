"""A Llama-style model small enough for tests, with no weight at its starting value."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from mechft.models.build import build_model
from mechft.models.llama_config import LlamaConfig

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

SHAPE = LlamaConfig(3, 2, 12, d_vocab=9, n_ctx=20, d_mlp=14)


def make_llama(
    dtype: torch.dtype = torch.float64,
    shape: LlamaConfig = SHAPE,
    seed: int = 0,
    scale: float = 0.4,
) -> HookedTransformer:
    """Norms' weights are random too, so that none hides behind a one."""
    model = build_model(shape, seed, dtype)
    draws = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=draws, dtype=torch.float64)
            parameter.add_(scale * noise.to(dtype))
    return model
