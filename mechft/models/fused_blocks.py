"""The mathematics of the fused forward: one block, its attention, the unembedding.

Functions of a HookedTransformer's parts and of tensors, without hooks and without checks:
``mechft.models.fused`` says what is covered, checks it, and puts the blocks together. A block with a
``rotation`` is Llama-style, and ``mechft.models.fused_llama`` has what differs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from mechft.models.fused_llama import (
    gated_hidden,
    product,
    project_rotated,
    project_values,
    rms_normalized,
)

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

# Up to this length the CPU writes the pattern out instead of calling the flash kernel, whose blocks do
# not pay for themselves: at 40 tokens attention alone was 2× faster, a whole step the same within noise;
# at 104 tokens attention alone was slower.
EXPLICIT_LENGTH = 64

Edit = Callable[[Tensor, "Tensor | None"], Tensor]
"""(value, positions) → new value. Positions are where the value's second axis is, None for everywhere."""

EDITABLE = (
    "hook_resid_pre",
    "attn.hook_z",
    "hook_attn_out",
    "hook_resid_mid",
    "mlp.hook_post",
    "hook_mlp_out",
    "hook_resid_post",
)
"""The points of a block that ``fused_resume`` can change, by the end of their hook point's name."""

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "relu": F.relu}


def unembed(
    model: HookedTransformer, x: Float[Tensor, "batch pos d_model"]
) -> Float[Tensor, "batch pos d_vocab_out"]:
    """Logits from the end of the residual stream."""
    if model.cfg.normalization_type == "RMS":
        norm: Any = model.ln_final
        return product(rms_normalized(x, norm.eps) * norm.w, model.unembed.W_U)
    if model.cfg.normalization_type is not None:
        x = layer_norm(model.ln_final, x)
    return linear(x, model.unembed.W_U, model.unembed.b_U)


def layer_norm(norm: Any, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
    """What a block's norm does to each vector; nothing where the model has none."""
    if isinstance(norm, torch.nn.Identity):  # a model without LayerNorm
        return x
    return F.layer_norm(x, (x.shape[-1],), norm.w, norm.b, norm.eps)


def linear(
    x: Float[Tensor, "*batch i"], weight: Float[Tensor, "i o"], bias: Float[Tensor, " o"]
) -> Float[Tensor, "*batch o"]:
    """Affine map x @ weight + bias; F.linear's gradient would come transposed, and be copied."""
    return torch.addmm(bias, x.reshape(-1, x.shape[-1]), weight).view(*x.shape[:-1], -1)


def block_forward(
    block: Any,
    x: Tensor,
    positions: Tensor | None,
    edits: Mapping[str, Edit] = MappingProxyType({}),
    stage: str = "pre",
    qkv: tuple[Tensor, ...] | None = None,
    rotation: Tensor | None = None,
) -> Tensor:
    """One transformer block, or what is left of it; with ``positions``, its output at those only.

    Args:
        block: A block of a HookedTransformer.
        x: The residual stream before it, or after its attention if ``stage`` is "mid"; in that case
            already at ``positions``. Float["batch pos d_model"]
        positions: Where the output is wanted, as in ``pick``; everywhere if None.
        edits: Changes by the point's name, of ``EDITABLE`` points.
        stage: "pre" or "mid": where ``x`` is.
        qkv: Its queries, keys and values where they are known already.
        rotation: Of every position of ``x``, for a Llama-style block. Complex["pos pair"]
    """

    def edited(point: str, value: Tensor, at: Tensor | None = positions) -> Tensor:
        return edits[point](value, at) if point in edits else value

    if stage == "pre":
        x = edited("hook_resid_pre", x, None)
        if positions is None:
            z = attention(block.attn, *(qkv or queries_keys_values(block, x, rotation)))
        else:
            # Picked first: the order in which gradients are added up is part of the bundled models' bits.
            before, x = x, pick(x, positions)
            z = _gathered(block, before, positions, rotation)
        x = x + edited("hook_attn_out", write(block.attn, edited("attn.hook_z", z)))
    x = edited("hook_resid_mid", x)
    mlp = block.mlp
    if mlp.cfg.gated_mlp:
        hidden = gated_hidden(mlp, block.ln2.w, rms_normalized(x, block.ln2.eps))
        out = product(edited("mlp.hook_post", hidden), mlp.W_out)
    else:
        activation = ACTIVATIONS[mlp.cfg.act_fn]
        hidden = activation(linear(layer_norm(block.ln2, x), mlp.W_in, mlp.b_in))
        out = linear(edited("mlp.hook_post", hidden), mlp.W_out, mlp.b_out)
    x = x + edited("hook_mlp_out", out)
    return edited("hook_resid_post", x)


def queries_keys_values(
    block: Any, x: Float[Tensor, "batch pos d_model"], rotation: Tensor | None
) -> tuple[Float[Tensor, "batch head pos d_head"], ...]:
    """A block's queries, keys and values everywhere, from the residual stream before it."""
    if rotation is None:
        return _project_all(block.attn, layer_norm(block.ln1, x))
    attn, weight = block.attn, block.ln1.w
    normed = rms_normalized(x, block.ln1.eps)
    q, k = (project_rotated(matrix, weight, normed, rotation) for matrix in (attn.W_Q, attn.W_K))
    return q, k, project_values(attn.W_V, weight, normed)


def _gathered(
    block: Any, x: Float[Tensor, "batch pos d_model"], positions: Tensor, rotation: Tensor | None
) -> Float[Tensor, "batch asked head d_head"]:
    """Z at the asked positions, from the residual stream before a block."""
    attn = block.attn
    if rotation is None:
        normed = layer_norm(block.ln1, x)
        causal = attn.cfg.attention_dir == "causal"
        return (_attention_at if causal else _attention_from)(attn, normed, positions)
    weight, normed = block.ln1.w, rms_normalized(x, block.ln1.eps)
    q = project_rotated(attn.W_Q, weight, pick(normed, positions), rotation[positions])
    k = project_rotated(attn.W_K, weight, normed, rotation)
    return _attend_at(attn, q, k, project_values(attn.W_V, weight, normed), positions)


def pick(
    x: Float[Tensor, "batch pos d"],
    positions: Int[Tensor, " asked"] | Int[Tensor, "batch asked"],
) -> Float[Tensor, "batch asked d"]:
    """The vectors at some positions: the same in every row, or each row's own."""
    if positions.dim() == 1:
        return x[:, positions]
    return x.gather(1, positions[:, :, None].expand(-1, -1, x.shape[-1]))


def _project(
    x: Tensor, weights: list[Tensor], biases: list[Tensor]
) -> tuple[Float[Tensor, "batch head pos d_head"], ...]:
    """Queries, keys or values of all heads in one product, one tensor each."""
    weight = torch.cat(weights)  # [kinds * head, d_model, d_head]
    n_heads, d_model, d_head = weights[0].shape
    flat = weight.transpose(0, 1).reshape(d_model, -1)
    out = linear(x, flat, torch.cat(biases).reshape(-1))
    kinds = out.view(*x.shape[:2], len(weights), n_heads, d_head).unbind(2)
    return tuple(kind.transpose(1, 2) for kind in kinds)


def write(attn: Any, z: Float[Tensor, "batch pos head d_head"]) -> Float[Tensor, "batch pos d"]:
    """What attention adds to the residual stream."""
    return linear(z.flatten(2), attn.W_O.flatten(0, 1), attn.b_O)


def _project_all(attn: Any, x: Tensor) -> tuple[Float[Tensor, "batch head pos d_head"], ...]:
    return _project(x, [attn.W_Q, attn.W_K, attn.W_V], [attn.b_Q, attn.b_K, attn.b_V])


def project_embedding(
    model: HookedTransformer, tokens: Int[Tensor, "batch pos"]
) -> tuple[Float[Tensor, "batch head pos d_head"], ...]:
    """Block 0's queries, keys and values of a model without LayerNorm: token's part plus position's."""
    attn: Any = model.blocks[0].attn
    weights = [attn.W_Q, attn.W_K, attn.W_V]
    silent = [torch.zeros_like(bias) for bias in (attn.b_Q, attn.b_K, attn.b_V)]
    by_token = _project(model.embed.W_E[None], weights, silent)
    by_position = _project_all(attn, model.pos_embed.W_pos[None, : tokens.shape[1]])
    token, position = (torch.cat(part, -1)[0].transpose(0, 1) for part in (by_token, by_position))
    both = F.embedding(tokens, token.flatten(1)) + position.flatten(
        1
    )  # [batch, pos, head * 3 d_head]
    both = both.view(*tokens.shape, *token.shape[1:]).transpose(1, 2)
    return both.chunk(3, -1)


def attention(
    attn: Any,
    q: Float[Tensor, "batch head pos d_head"],
    k: Float[Tensor, "batch head pos d_head"],
    v: Float[Tensor, "batch head pos d_head"],
) -> Float[Tensor, "batch pos head d_head"]:
    """What each head gathers (z), before W_O."""
    scale = 1 / float(attn.attn_scale)
    length, causal = q.shape[2], attn.cfg.attention_dir == "causal"
    if length <= EXPLICIT_LENGTH and q.device.type == "cpu":
        scores = (q * scale) @ k.transpose(-1, -2)
        if causal:
            scores = scores + q.new_full((length, length), float("-inf")).triu(1)
        z = torch.softmax(scores, -1) @ v
    else:
        z = F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale)
    return z.transpose(1, 2)


def _attention_at(
    attn: Any, x: Float[Tensor, "batch pos d"], positions: Tensor
) -> Float[Tensor, "batch asked head d_head"]:
    """Z where the queries are the asked positions; keys and values are everywhere."""
    (q,) = _project(pick(x, positions), [attn.W_Q], [attn.b_Q])
    k, v = _project(x, [attn.W_K, attn.W_V], [attn.b_K, attn.b_V])
    return _attend_at(attn, q, k, v, positions)


def _attend_at(
    attn: Any, q: Tensor, k: Tensor, v: Tensor, positions: Tensor
) -> Float[Tensor, "batch asked head d_head"]:
    """What the asked positions' queries gather from the keys and values of all."""
    mask = torch.arange(k.shape[2], device=k.device) <= positions[..., None]
    mask = mask[:, None] if positions.dim() == 2 else mask  # a head axis for rows of their own
    z = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=1 / float(attn.attn_scale))
    return z.transpose(1, 2)


def _attention_from(
    attn: Any, x: Float[Tensor, "batch pos d"], positions: Tensor
) -> Float[Tensor, "batch asked head d_head"]:
    """Z at the asked positions of a head that sees everything, without a key or a value anywhere.

    q (x W_K)ᵀ = (q W_Kᵀ) xᵀ and P (x W_V) = (P x) W_V: for the few asked positions the right-hand sides cost
    d products a position instead of d × d_head. A causal model keeps ``_attention_at``, whose bits the
    bundled models' figures were made with.
    """
    (q,) = _project(pick(x, positions), [attn.W_Q], [attn.b_Q])  # [batch, head, asked, d_head]
    q = q / float(attn.attn_scale)
    scores = (q @ attn.W_K.transpose(-1, -2)) @ x[:, None].transpose(-1, -2)
    scores = scores + q @ attn.b_K[:, :, None]
    gathered = torch.softmax(scores, -1) @ x[:, None]  # [batch, head, asked, d]
    z: Tensor = gathered @ attn.W_V + attn.b_V[:, None]
    return z.transpose(1, 2)
