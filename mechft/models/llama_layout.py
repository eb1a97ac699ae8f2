"""Where Hugging Face's Llama keeps each of our weights, and in which layout.

A ``torch.nn.Linear`` keeps its matrix transposed, and all heads in one: W_Q of a head is a band of rows of
q_proj, W_O of a head a band of columns of o_proj. Both directions only move numbers, so that there and back
again is the same bits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from mechft.errors import CheckpointError, ConfigError
from mechft.models.llama_config import LlamaConfig

_OUTSIDE = {
    "embed.W_E": "model.embed_tokens.weight",
    "ln_final.w": "model.norm.weight",
    "unembed.W_U": "lm_head.weight",
}
_IN_BLOCK = {
    "ln1.w": "input_layernorm.weight",
    "attn.W_Q": "self_attn.q_proj.weight",
    "attn.W_K": "self_attn.k_proj.weight",
    "attn.W_V": "self_attn.v_proj.weight",
    "attn.W_O": "self_attn.o_proj.weight",
    "ln2.w": "post_attention_layernorm.weight",
    "mlp.W_gate": "mlp.gate_proj.weight",
    "mlp.W_in": "mlp.up_proj.weight",
    "mlp.W_out": "mlp.down_proj.weight",
}
_DERIVED = re.compile(r"rotary_emb\.inv_freq$")  # old files keep it; it follows from the config


def to_hugging_face_layout(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A Llama-style model's parameters under Hugging Face's names, in their layout; contiguous copies."""
    return {
        _their_name(name): _transposed(name, value.detach()).clone(
            memory_format=torch.contiguous_format
        )
        for name, value in parameters.items()
    }


def from_hugging_face_layout(
    weights: Mapping[str, Tensor], config: LlamaConfig, source: str
) -> dict[str, Tensor]:
    """The parameters of a model with this config, from Hugging Face's.

    Args:
        weights: By Hugging Face's names.
        config: Of the model they are for.
        source: What errors call the place they come from.

    Raises:
        CheckpointError: If one is missing or has another shape than the config says.
        ConfigError: If there is one that such a model does not have, such as a bias.
    """
    left = {name: value for name, value in weights.items() if not _DERIVED.search(name)}
    if config.tied and "lm_head.weight" in left:
        own = left.pop("lm_head.weight")
        embedding = left.get("model.embed_tokens.weight")
        if embedding is not None and not torch.equal(own, embedding):
            raise ConfigError(
                f"{source} says that its embeddings are tied, and holds an lm_head.weight that differs from "
                "the embedding. Set tie_word_embeddings to what is true, or remove the tensor."
            )
    found: dict[str, Tensor] = {}
    for name, shape in _shapes(config).items():
        theirs = _their_name(name)
        if theirs not in left:
            raise CheckpointError(f"{source} has no {theirs}: its weights do not fit its config.")
        value = left.pop(theirs)
        wanted = tuple(_transposed(name, torch.empty(shape, device="meta")).shape)
        if tuple(value.shape) != wanted:
            raise CheckpointError(
                f"{source}: {theirs} has shape {tuple(value.shape)}, and its config says {wanted}."
            )
        found[name] = _restored(name, value, shape)
    if left:
        raise ConfigError(
            f"{source} has {len(left)} weights that this package's Llama lacks, such as {min(left)}: "
            "without them it would be another model. Load it through TransformerBridge."
        )
    return found


def _shapes(config: LlamaConfig) -> dict[str, tuple[int, ...]]:
    """Every parameter's shape in our layout."""
    d, heads, width = config.d_model, config.n_heads, config.d_head
    block: dict[str, tuple[int, ...]] = {
        "ln1.w": (d,),
        "ln2.w": (d,),
        "attn.W_O": (heads, width, d),
        "mlp.W_gate": (d, config.d_mlp),
        "mlp.W_in": (d, config.d_mlp),
        "mlp.W_out": (config.d_mlp, d),
    }
    block |= {f"attn.{kind}": (heads, d, width) for kind in ("W_Q", "W_K", "W_V")}
    shapes: dict[str, tuple[int, ...]] = {"embed.W_E": (config.d_vocab, d), "ln_final.w": (d,)}
    if not config.tied:
        shapes["unembed.W_U"] = (d, config.d_vocab)
    for i in range(config.n_layers):
        shapes |= {f"blocks.{i}.{name}": shape for name, shape in block.items()}
    return shapes


def _their_name(name: str) -> str:
    if name in _OUTSIDE:
        return _OUTSIDE[name]
    _, block, part = name.split(".", 2)
    return f"model.layers.{block}.{_IN_BLOCK[part]}"


def _transposed(name: str, value: Tensor) -> Tensor:
    """Our layout to theirs."""
    kind = name.split(".")[-1]
    if kind in ("W_Q", "W_K", "W_V"):  # [head, d_model, d_head] → [head * d_head, d_model]
        return value.transpose(1, 2).flatten(0, 1)
    if kind == "W_O":  # [head, d_head, d_model] → [d_model, head * d_head]
        return value.flatten(0, 1).T
    return value.T if kind in ("W_gate", "W_in", "W_out", "W_U") else value


def _restored(name: str, value: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Their layout to ours."""
    kind = name.split(".")[-1]
    if kind in ("W_Q", "W_K", "W_V"):
        heads, d_model, d_head = shape
        return value.view(heads, d_head, d_model).transpose(1, 2)
    if kind == "W_O":
        return value.T.reshape(shape)
    return value.T if kind in ("W_gate", "W_in", "W_out", "W_U") else value
