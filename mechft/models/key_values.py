"""The fused forward with a cache of keys and values: rows of different lengths, one new token at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from mechft.models.fused import token_rotations
from mechft.models.fused_blocks import (
    attention,
    block_forward,
    pick,
    queries_keys_values,
    unembed,
    write,
)

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer


class KeyValues:
    """Keys and values of a batch whose rows may have different lengths.

    Row i's token p is at place p of its keys, whatever the other rows' lengths: prompts are padded on the
    right, and what the padding left behind lies after the row's last token, where no query of its looks until
    a new token is written over it. So positions, learned or rotary, are those of each row alone.

    Args:
        model: A causal model that the fused forward covers (``unsupported_features``); not checked here.
        room: Tokens a row can have, at most ``n_ctx``.

    Cost: 2 × n_layers × d_model × room numbers a row.
    """

    def __init__(self, model: HookedTransformer, room: int) -> None:
        self.model, self.room = model, room
        self.blocks: list[Any] = list(model.blocks)
        self.lengths: Tensor = torch.zeros(0, dtype=torch.long)
        self.longest = 0
        self.keys: list[Float[Tensor, "row head room d_head"]] = []
        self.values: list[Float[Tensor, "row head room d_head"]] = []
        self.rotations = token_rotations(model, room)

    @torch.no_grad()
    def start(
        self, tokens: Int[Tensor, "row pos"], lengths: Int[Tensor, " row"]
    ) -> Float[Tensor, "row d_vocab"]:
        """Read prompts, padded on the right with any token; logits after each row's last.

        Args:
            tokens: The prompts.
            lengths: How many tokens of each row are its own; at least 1.
        """
        count, longest = tokens.shape
        rotation = None if self.rotations is None else self.rotations[:longest]
        x = self._embedded(tokens, torch.arange(longest, device=tokens.device)[None])
        self.keys, self.values = [], []
        for block in self.blocks:
            q, k, v = queries_keys_values(block, x, rotation)
            for kept, new in ((self.keys, k), (self.values, v)):
                kept.append(new.new_zeros(count, new.shape[1], self.room, new.shape[3]))
                kept[-1][:, :, :longest] = new
            x = self._after(block, x, attention(block.attn, q, k, v))
        self.lengths, self.longest = lengths, longest
        return unembed(self.model, pick(x, lengths[:, None] - 1))[:, 0]

    @torch.no_grad()
    def step(self, tokens: Int[Tensor, " row"]) -> Float[Tensor, "row d_vocab"]:
        """Read one more token of every row; logits after it."""
        positions, rows = self.lengths, torch.arange(len(tokens), device=tokens.device)
        self.longest += 1  # at least the longest row's length: rows all grow by one
        rotation = None if self.rotations is None else self.rotations[positions[:, None]]
        seen = torch.arange(self.longest, device=tokens.device) <= positions[:, None]
        mask = seen[:, None, None]  # [row, head, query, key]
        x = self._embedded(tokens[:, None], positions[:, None])
        for block, keys, values in zip(self.blocks, self.keys, self.values, strict=True):
            q, k, v = queries_keys_values(block, x, rotation)
            keys[rows, :, positions], values[rows, :, positions] = k[:, :, 0], v[:, :, 0]
            z = F.scaled_dot_product_attention(
                q,
                keys[:, :, : self.longest],
                values[:, :, : self.longest],
                attn_mask=mask,
                scale=1 / float(block.attn.attn_scale),
            )
            x = self._after(block, x, z.transpose(1, 2))
        self.lengths = self.lengths + 1
        return unembed(self.model, x)[:, 0]

    def keep(self, rows: Int[Tensor, " kept"]) -> None:
        """Go on with some rows only, in this order; the others' memory is given back."""
        self.lengths = self.lengths[rows]
        self.longest = int(self.lengths.max())
        self.keys = [keys[rows] for keys in self.keys]
        self.values = [values[rows] for values in self.values]

    def _embedded(self, tokens: Tensor, positions: Tensor) -> Float[Tensor, "row pos d_model"]:
        x = F.embedding(tokens, self.model.embed.W_E)
        if self.rotations is None:
            x = x + F.embedding(positions, self.model.pos_embed.W_pos)
        return x

    def _after(self, block: Any, x: Tensor, z: Tensor) -> Float[Tensor, "row pos d_model"]:
        """The residual stream after a block whose heads gathered ``z``."""
        return block_forward(block, x + write(block.attn, z), None, stage="mid")
