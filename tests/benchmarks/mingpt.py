"""A minGPT-style model, written for comparison: one module a concept, one QKV product, no hooks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mechft.models.build import ModelConfig


class Attention(nn.Module):
    """Causal self-attention, with the pattern written out or through the fused kernel."""

    def __init__(self, config: ModelConfig, explicit: bool) -> None:
        super().__init__()
        self.n_heads, self.explicit = config.n_heads, explicit
        self.qkv = nn.Linear(config.d_model, 3 * config.d_model)
        self.out = nn.Linear(config.d_model, config.d_model)
        mask = torch.ones(config.n_ctx, config.n_ctx, dtype=torch.bool).tril()
        self.register_buffer("mask", mask)
        self.mask: Tensor

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = (
            part.view(batch, length, self.n_heads, -1).transpose(1, 2)
            for part in self.qkv(x).split(width, dim=2)
        )
        if self.explicit:
            scores = (q @ k.transpose(-2, -1)) * k.shape[-1] ** -0.5
            scores = scores.masked_fill(~self.mask[:length, :length], float("-inf"))
            z = F.softmax(scores, dim=-1) @ v
        else:
            z = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        out: Tensor = self.out(z.transpose(1, 2).reshape(batch, length, width))
        return out


class Block(nn.Module):
    """A pre-LayerNorm transformer block."""

    def __init__(self, config: ModelConfig, explicit: bool) -> None:
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(config.d_model), nn.LayerNorm(config.d_model)
        self.attention = Attention(config, explicit)
        self.mlp = nn.Sequential(
            nn.Linear(config.d_model, config.d_mlp),
            nn.GELU(),
            nn.Linear(config.d_mlp, config.d_model),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.ln1(x))
        out: Tensor = x + self.mlp(self.ln2(x))
        return out


class MinGPT(nn.Module):
    """The whole model: token and position embeddings, blocks, unembedding."""

    def __init__(self, config: ModelConfig, explicit: bool) -> None:
        super().__init__()
        self.tokens = nn.Embedding(config.d_vocab, config.d_model)
        self.positions = nn.Embedding(config.n_ctx, config.d_model)
        self.blocks = nn.Sequential(*(Block(config, explicit) for _ in range(config.n_layers)))
        self.ln, self.unembed = (
            nn.LayerNorm(config.d_model),
            nn.Linear(config.d_model, config.d_vocab),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1]))
        out: Tensor = self.unembed(self.ln(self.blocks(x)))
        return out
