"""The fast forward: a HookedTransformer's own parameters, none of its hooks.

Training and evaluation ask for logits at a few positions and for no activations. This forward gives
them with one QKV product a block, `scaled_dot_product_attention`, and, in the last block, work at
the asked positions only. It holds no weights: gradients land on the HookedTransformer's parameters.
The hooked forward is the reference it is tested against, logits and gradients.

It covers GPT-style models, Llama-style ones, and compiled programs (no LayerNorm, ReLU, attention in both
directions), of which it knows two shortcuts more: without a LayerNorm the first block's queries, keys and
values are sums of what token and position give, so they are computed once a token and once a position
instead of everywhere; and where attention sees everything, the last block needs keys and values nowhere. The
mathematics is in `fused_blocks` and `fused_llama`.

`fused_resume` starts it in the middle and lets a function change what passes at seven points of a block:
what sweeps over interventions need, without the price of hooks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import torch.nn.functional as F
from jaxtyping import Complex, Float, Int
from torch import Tensor

from mechft.errors import ConfigError
from mechft.models.fused_blocks import ACTIVATIONS, block_forward, pick, project_embedding, unembed
from mechft.models.fused_blocks import EDITABLE as EDITABLE
from mechft.models.fused_blocks import Edit as Edit
from mechft.models.fused_llama import rotations
from mechft.models.hook_points import has_hooks
from mechft.models.llama_parts import has_biases
from mechft.models.weights import is_hooked_transformer

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

_COMMON: dict[str, tuple[Any, ...]] = {
    "attn_only": (False,),
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
_GPT: dict[str, tuple[Any, ...]] = {
    "normalization_type": ("LN", None),
    "act_fn": tuple(ACTIVATIONS),
    "attention_dir": ("causal", "bidirectional"),
    "positional_embedding_type": ("standard",),
    **_COMMON,
}
_LLAMA: dict[str, tuple[Any, ...]] = {
    "normalization_type": ("RMS",),
    "act_fn": ("silu",),
    "attention_dir": ("causal",),
    "positional_embedding_type": ("rotary",),
    "rotary_adjacent_pairs": (False,),
    "rotary_scaling_factor": (1.0,),
    "use_NTK_by_parts_rope": (False,),
    "use_dynamic_ntk_rope": (False,),
    "use_yarn_rope": (False,),
    **_COMMON,
}


def unsupported_features(model: HookedTransformer) -> list[str]:
    """What about a model the fused forward cannot compute, as "feature=value"; empty if nothing.

    A model with gated MLPs is held against Llama's style, any other against GPT's: the two are covered,
    and tested, as wholes.
    """
    if not is_hooked_transformer(model):
        return [f"class={type(model).__name__}"]
    cfg: Any = model.cfg
    gated = getattr(cfg, "gated_mlp", False)
    features = [
        f"{name}={getattr(cfg, name, 'missing')!r}"
        for name, covered in (_LLAMA if gated else _GPT).items()
        if getattr(cfg, name, "missing") not in covered
    ]
    if gated and cfg.rotary_dim != cfg.d_head:
        features.append(f"rotary_dim={cfg.rotary_dim!r}")
    if gated and has_biases(model):
        features.append("biases=True")
    return features


def fused_logits(
    model: HookedTransformer,
    tokens: Int[Tensor, "batch pos"],
    positions: Int[Tensor, " asked"] | Int[Tensor, "batch asked"] | None = None,
) -> Float[Tensor, "batch asked d_vocab_out"]:
    """Logits of a HookedTransformer at the asked positions, equal to the hooked forward's.

    Args:
        model: A HookedTransformer, GPT-style, Llama-style or a compiled program, with no hook attached.
        tokens: Token ids, at most ``n_ctx`` a row.
        positions: Where logits are wanted: the same places in every row (one dimension), places
            of each row's own (two), or everywhere (None). A causal model's later tokens are not read.

    Raises:
        ConfigError: If the model has a feature this forward lacks, has hooks attached (they would
            be skipped in silence), or a position is outside the tokens.

    Cost: a training step on every position takes about three quarters of the hooked forward's time at
    tiny, and a third at paper size (``python -m tests.benchmarks.training``, 2 cores).
    Llama-style models spend more of it in matrix products that both have: three quarters at ``tiny``, four
    fifths at ``small`` (256 tokens, one core, ``python -m tests.benchmarks.stories``).

    Example:
        >>> import torch
        >>> import mechft as mf
        >>> base = mf.load("pcfg-tiny-low")
        >>> rows = base.task.query("C", "a").sample(4, mf.generator(0))
        >>> last = torch.tensor([rows.answer_position])
        >>> with torch.no_grad():
        ...     logits = mf.fused_logits(base.model, rows.prompt, last)
        ...     hooked = base.model(rows.prompt)[:, last]
        >>> logits.shape
        torch.Size([4, 1, 56])
        >>> torch.allclose(logits, hooked, atol=1e-3)
        True
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
        qkv = project_embedding(model, tokens)
    rotation = token_rotations(model, length)
    for i, block in enumerate(blocks):
        asked = positions if i == len(blocks) - 1 else None
        x = block_forward(block, x, asked, qkv=qkv if i == 0 else None, rotation=rotation)
    return unembed(model, x)


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
        x = pick(x, positions)
    rotation = token_rotations(model, resid.shape[1])
    for i in range(block, len(blocks)):
        asked = positions if i == len(blocks) - 1 else None
        here = {k.split(".", 2)[2]: edit for k, edit in edits.items() if k.split(".")[1] == str(i)}
        at = stage if i == block else "pre"
        x = block_forward(blocks[i], x, asked, here, at, rotation=rotation)
    return unembed(model, x)


def fused_activations(
    model: HookedTransformer, tokens: Int[Tensor, "batch pos"], hook_names: Iterable[str]
) -> dict[str, Tensor]:
    """Activations at all positions by hook name, of ``EDITABLE`` points, without logits and without hooks.

    Args:
        model: As in ``fused_logits``.
        tokens: What it sees.
        hook_names: Such as "blocks.1.hook_resid_post"; blocks after the last one named are not computed.

    Raises:
        ConfigError: As ``fused_logits``, or for a point that the fused forward does not pass.
    """
    _check(model, tokens, None)
    blocks: list[Any] = list(model.blocks)
    points: dict[int, list[str]] = {}
    for name in hook_names:
        _, number, point = (*name.split(".", 2), "", "")[:3]
        if point not in EDITABLE or not 0 <= int(number) < len(blocks):
            raise ConfigError(
                f"The fused forward passes {', '.join(EDITABLE)} of blocks 0 to {len(blocks) - 1}; got "
                f"{name}. Use run_with_cache."
            )
        points.setdefault(int(number), []).append(point)
    found: dict[str, Tensor] = {}

    def keeping(name: str) -> Edit:
        def keep(value: Tensor, _: Tensor | None) -> Tensor:
            found[name] = value
            return value

        return keep

    x = fused_embedding(model, tokens)
    rotation = token_rotations(model, tokens.shape[1])
    for i in range(max(points, default=-1) + 1):
        here = {point: keeping(f"blocks.{i}.{point}") for point in points.get(i, ())}
        x = block_forward(blocks[i], x, None, here, rotation=rotation)
    return found


def fused_embedding(
    model: HookedTransformer, tokens: Int[Tensor, "batch pos"]
) -> Float[Tensor, "batch pos d_model"]:
    """The residual stream before block 0: what ``fused_resume`` starts from."""
    embedded = F.embedding(tokens, model.embed.W_E)
    if model.cfg.positional_embedding_type == "rotary":
        return embedded
    return embedded + model.pos_embed.W_pos[: tokens.shape[1]]


def token_rotations(model: HookedTransformer, length: int) -> Complex[Tensor, "pos pair"] | None:
    """What turns a Llama-style model's queries and keys at the first positions; None for other models."""
    rotary = model.cfg.positional_embedding_type == "rotary"
    return rotations(model)[:length] if rotary else None


def _check(model: HookedTransformer, tokens: Tensor, positions: Tensor | None) -> None:
    features = unsupported_features(model)
    if features:
        raise ConfigError(
            "The fused forward covers models with LayerNorm or none, GELU or ReLU, and learned positions, "
            "and Llama's (RMSNorm, SwiGLU, rotary positions, no biases); this one has "
            f"{', '.join(features)}. Call the model itself."
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
