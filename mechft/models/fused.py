"""The fast forward: a HookedTransformer's own parameters, none of its hooks.

Training and evaluation ask for logits at a few positions and for no activations. This forward gives
them with one QKV product a block, `scaled_dot_product_attention`, and, in the last block, work at
the asked positions only. It holds no weights: gradients land on the HookedTransformer's parameters.
The hooked forward is the reference it is tested against, logits and gradients.

It covers GPT-style models and compiled programs (no LayerNorm, ReLU, attention in both directions), of which
it knows two shortcuts more: without a LayerNorm the first block's queries, keys and values are sums of
what token and position give, so they are computed once a token and once a position instead of everywhere;
and where attention sees everything, the last block needs keys and values nowhere (`_attention_from`).

`fused_resume` starts it in the middle and lets a function change what passes at seven points of a block:
what sweeps over interventions need, without the price of hooks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from mechft.errors import ConfigError
from mechft.models.hook_points import has_hooks
from mechft.models.weights import is_hooked_transformer

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

# Up to this length the CPU writes the pattern out instead of calling the flash kernel, whose blocks do
# not pay for themselves: at 40 tokens attention alone was 2× faster, a whole step the same within noise;
# at 104 tokens attention alone was slower.
_EXPLICIT_LENGTH = 64

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

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "relu": F.relu}

_SUPPORTED: dict[str, tuple[Any, ...]] = {
    "normalization_type": ("LN", None),
    "act_fn": tuple(_ACTIVATIONS),
    "attention_dir": ("causal", "bidirectional"),
    "positional_embedding_type": ("standard",),
    "attn_only": (False,),
    "gated_mlp": (False,),
    "parallel_attn_mlp": (False,),
    "use_attn_scale": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "use_local_attn": (False,),
    "n_key_value_heads": (None,),
    "use_qk_norm": (False,),
    "post_embedding_ln": (False,),
    "use_normalization_before_and_after": (False,),
    "attn_scores_soft_cap": (-1.0,),
    "output_logits_soft_cap": (-1.0,),
    "clip_qkv": (None,),
    "use_attention_sinks": (False,),
    "use_logn_attn": (False,),
    "num_experts": (None,),
}


def unsupported_features(model: HookedTransformer) -> list[str]:
    """What about a model the fused forward cannot compute, as "feature=value"; empty if nothing."""
    if not is_hooked_transformer(model):
        return [f"class={type(model).__name__}"]
    return [
        f"{name}={getattr(model.cfg, name, 'missing')!r}"
        for name, covered in _SUPPORTED.items()
        if getattr(model.cfg, name, "missing") not in covered
    ]


def fused_logits(
    model: HookedTransformer,
    tokens: Int[Tensor, "batch pos"],
    positions: Int[Tensor, " asked"] | Int[Tensor, "batch asked"] | None = None,
) -> Float[Tensor, "batch asked d_vocab_out"]:
    """Logits of a HookedTransformer at the asked positions, equal to the hooked forward's.

    Args:
        model: A HookedTransformer, GPT-style or a compiled program, with no hook attached.
        tokens: Token ids, at most ``n_ctx`` a row.
        positions: Where logits are wanted: the same places in every row (one dimension), places
            of each row's own (two), or everywhere (None). A causal model's later tokens are not read.

    Raises:
        ConfigError: If the model has a feature this forward lacks, has hooks attached (they would
            be skipped in silence), or a position is outside the tokens.

    Cost: a training step on every position takes about three quarters of the hooked forward's time at
    tiny, and a third at paper size (``python -m tests.benchmarks.training``, 2 cores).
    """
    _check(model, tokens, positions)
    if positions is not None:
        positions = positions.to(tokens.device)
        if model.cfg.attention_dir == "causal":
            tokens = tokens[:, : int(positions.max()) + 1]  # nothing later matters
    length = tokens.shape[1]
    if length > model.cfg.n_ctx:
        raise ConfigError(f"Inputs hold at most n_ctx = {model.cfg.n_ctx} tokens; got {length}.")
    x = fused_embedding(model, tokens)
    blocks: list[Any] = list(model.blocks)
    qkv = None
    if model.cfg.normalization_type is None and (len(blocks) > 1 or positions is None):
        qkv = _project_embedding(model, tokens)
    for i, block in enumerate(blocks):
        asked = positions if i == len(blocks) - 1 else None
        x = _block(block, x, asked, qkv=qkv if i == 0 else None)
    return _unembed(model, x)


def fused_resume(
    model: HookedTransformer,
    resid: Float[Tensor, "batch pos d_model"],
    positions: Int[Tensor, " asked"] | None = None,
    *,
    block: int = 0,
    stage: Literal["pre", "mid"] = "pre",
    edits: Mapping[str, Edit] | None = None,
) -> Float[Tensor, "batch asked d_vocab_out"]:
    """Logits from a residual stream in the middle of the model, with some values changed on the way.

    Args:
        model: As in ``fused_logits``.
        resid: The residual stream at ``block``: before it ("pre"), or after its attention ("mid");
            ``block = n_layers`` is the end of the last one.
        positions: Where logits are wanted; everywhere by default.
        block, stage: Where ``resid`` is.
        edits: Changes by full name of the hook point ("blocks.1.attn.hook_z"), of ``EDITABLE`` points.
            In the last block values after the keys are at the asked positions only.

    Raises:
        ConfigError: As ``fused_logits``, or for an edit that the rest of the forward does not pass.
    """
    _check(model, resid, positions)
    edits = dict(edits or {})
    blocks: list[Any] = list(model.blocks)
    if not 0 <= block <= len(blocks) or stage not in ("pre", "mid"):
        raise ConfigError(
            f'A forward starts at "pre" or "mid" of block 0..{len(blocks)}; got {stage!r} of {block}.'
        )
    passed = [
        f"blocks.{i}.{point}"
        for i in range(block, len(blocks))
        for point in (EDITABLE[3:] if i == block and stage == "mid" else EDITABLE)
    ]
    for name in edits:
        if name not in passed:
            raise ConfigError(
                f"From block {block} ({stage}) the fused forward does not pass {name}; it can change "
                f"{', '.join(EDITABLE)} of the blocks it runs. Use the model's own hooks."
            )
    x = resid
    if positions is not None and (
        block == len(blocks) or (block, stage) == (len(blocks) - 1, "mid")
    ):
        x = _pick(x, positions)
    for i in range(block, len(blocks)):
        asked = positions if i == len(blocks) - 1 else None
        here = {k.split(".", 2)[2]: edit for k, edit in edits.items() if k.split(".")[1] == str(i)}
        x = _block(blocks[i], x, asked, here, stage if i == block else "pre")
    return _unembed(model, x)


def fused_embedding(
    model: HookedTransformer, tokens: Int[Tensor, "batch pos"]
) -> Float[Tensor, "batch pos d_model"]:
    """The residual stream before block 0: what ``fused_resume`` starts from."""
    return F.embedding(tokens, model.embed.W_E) + model.pos_embed.W_pos[: tokens.shape[1]]


def _check(model: HookedTransformer, tokens: Tensor, positions: Tensor | None) -> None:
    features = unsupported_features(model)
    if features:
        raise ConfigError(
            "The fused forward covers models with LayerNorm or none, GELU or ReLU, and learned positions; "
            f"this one has {', '.join(features)}. Call the model itself."
        )
    if has_hooks(model):
        raise ConfigError(
            "The fused forward runs no hooks, and this model has some attached. Call the model "
            "itself, or reset_hooks() first."
        )
    if positions is not None:
        fits = positions.numel() > 0 and 0 <= int(positions.min()) <= int(positions.max())
        if not fits or int(positions.max()) >= tokens.shape[1]:
            raise ConfigError(
                f"positions lie in 0..{tokens.shape[1] - 1}, and there is at least one; got "
                f"{positions.tolist()}."
            )
        if positions.dim() == 2 and positions.shape[0] != tokens.shape[0]:
            raise ConfigError(
                f"positions with two dimensions have a row for each of the {tokens.shape[0]} "
                f"samples; got {positions.shape[0]} rows."
            )


def _unembed(model: HookedTransformer, x: Tensor) -> Tensor:
    if model.cfg.normalization_type is not None:
        x = _layer_norm(model.ln_final, x)
    return _linear(x, model.unembed.W_U, model.unembed.b_U)


def _layer_norm(norm: Any, x: Tensor) -> Tensor:
    if isinstance(norm, torch.nn.Identity):  # a model without LayerNorm
        return x
    return F.layer_norm(x, (x.shape[-1],), norm.w, norm.b, norm.eps)


def _linear(x: Tensor, weight: Float[Tensor, "i o"], bias: Float[Tensor, " o"]) -> Tensor:
    """Affine map x @ weight + bias; F.linear's gradient would come transposed, and be copied."""
    return torch.addmm(bias, x.reshape(-1, x.shape[-1]), weight).view(*x.shape[:-1], -1)


def _block(
    block: Any,
    x: Tensor,
    positions: Tensor | None,
    edits: Mapping[str, Edit] = MappingProxyType({}),
    stage: str = "pre",
    qkv: tuple[Tensor, ...] | None = None,
) -> Tensor:
    """One transformer block, or what is left of it; with ``positions``, its output at those only.

    ``qkv`` are its queries, keys and values where they are known already.
    """

    def edited(point: str, value: Tensor, at: Tensor | None = positions) -> Tensor:
        return edits[point](value, at) if point in edits else value

    if stage == "pre":
        x = edited("hook_resid_pre", x, None)
        normed = _layer_norm(block.ln1, x)
        if positions is None:
            z = _attention(block.attn, *(qkv or _project_all(block.attn, normed)))
        else:
            x = _pick(x, positions)
            causal = block.attn.cfg.attention_dir == "causal"
            z = (_attention_at if causal else _attention_from)(block.attn, normed, positions)
        x = x + edited("hook_attn_out", _write(block.attn, edited("attn.hook_z", z)))
    x = edited("hook_resid_mid", x)
    mlp = block.mlp
    activation = _ACTIVATIONS[mlp.cfg.act_fn]
    hidden = activation(_linear(_layer_norm(block.ln2, x), mlp.W_in, mlp.b_in))
    hidden = edited("mlp.hook_post", hidden)
    x = x + edited("hook_mlp_out", _linear(hidden, mlp.W_out, mlp.b_out))
    return edited("hook_resid_post", x)


def _pick(x: Float[Tensor, "batch pos d"], positions: Tensor) -> Float[Tensor, "batch asked d"]:
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
    out = _linear(x, flat, torch.cat(biases).reshape(-1))
    kinds = out.view(*x.shape[:2], len(weights), n_heads, d_head).unbind(2)
    return tuple(kind.transpose(1, 2) for kind in kinds)


def _write(attn: Any, z: Float[Tensor, "batch pos head d_head"]) -> Float[Tensor, "batch pos d"]:
    return _linear(z.flatten(2), attn.W_O.flatten(0, 1), attn.b_O)


def _project_all(attn: Any, x: Tensor) -> tuple[Float[Tensor, "batch head pos d_head"], ...]:
    return _project(x, [attn.W_Q, attn.W_K, attn.W_V], [attn.b_Q, attn.b_K, attn.b_V])


def _project_embedding(
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


def _attention(
    attn: Any,
    q: Float[Tensor, "batch head pos d_head"],
    k: Float[Tensor, "batch head pos d_head"],
    v: Float[Tensor, "batch head pos d_head"],
) -> Float[Tensor, "batch pos head d_head"]:
    """What each head gathers (z), before W_O."""
    scale = 1 / float(attn.attn_scale)
    length, causal = q.shape[2], attn.cfg.attention_dir == "causal"
    if length <= _EXPLICIT_LENGTH and q.device.type == "cpu":
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
    (q,) = _project(_pick(x, positions), [attn.W_Q], [attn.b_Q])
    k, v = _project(x, [attn.W_K, attn.W_V], [attn.b_K, attn.b_V])
    mask = torch.arange(x.shape[1], device=x.device) <= positions[..., None]
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
    (q,) = _project(_pick(x, positions), [attn.W_Q], [attn.b_Q])  # [batch, head, asked, d_head]
    q = q / float(attn.attn_scale)
    scores = (q @ attn.W_K.transpose(-1, -2)) @ x[:, None].transpose(-1, -2)
    scores = scores + q @ attn.b_K[:, :, None]
    gathered = torch.softmax(scores, -1) @ x[:, None]  # [batch, head, asked, d]
    z: Tensor = gathered @ attn.W_V + attn.b_V[:, None]
    return z.transpose(1, 2)
