"""Hugging Face Llama folders: what config.json says in our words, and the weights as they lie there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mechft.errors import CheckpointError, ConfigError
from mechft.models.llama_config import LlamaConfig

_NEEDED = {
    "model_type": "llama",
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "partial_rotary_factor": 1.0,
    "quantization_config": None,
}
"""What config.json must say, or not mention."""


def our_config(theirs: Mapping[str, Any], name: str) -> LlamaConfig:
    """Our config from Hugging Face's.

    Args:
        theirs: The values of a config.json.
        name: What errors call the place they come from.

    Raises:
        ConfigError: If the model is no plain Llama; names all that cannot be taken over.
        CheckpointError: If a size is missing.
    """
    wrong = [
        f"{key}={theirs[key]!r}"
        for key, needed in _NEEDED.items()
        if theirs.get(key, needed) not in (needed, None)
    ]
    heads = theirs.get("num_attention_heads")
    groups = theirs.get("num_key_value_heads")
    if groups not in (None, heads):
        wrong.append(f"num_key_value_heads={groups} for {heads} heads (grouped keys and values)")
    if heads and theirs.get("head_dim") not in (None, theirs.get("hidden_size", 0) / heads):
        wrong.append(f"head_dim={theirs['head_dim']}")
    rotary = theirs.get("rope_parameters") or theirs.get("rope_scaling") or {}
    kind = rotary.get("rope_type", rotary.get("type", "default"))
    if kind != "default" or rotary.get("partial_rotary_factor", 1.0) != 1.0:
        wrong.append(f"rotary positions of type {kind!r} ({dict(rotary)})")
    if wrong:
        raise ConfigError(
            f"{name} is not a plain Llama: {', '.join(wrong)}. This package's models have one key head for "
            "each query head, no biases and plain rotary positions; load it through TransformerBridge."
        )
    base = rotary.get("rope_theta", theirs.get("rope_theta", 10_000.0))
    try:
        return LlamaConfig(
            n_layers=theirs["num_hidden_layers"],
            n_heads=theirs["num_attention_heads"],
            d_model=theirs["hidden_size"],
            d_vocab=theirs["vocab_size"],
            n_ctx=theirs["max_position_embeddings"],
            d_mlp=theirs["intermediate_size"],
            initializer_range=theirs.get("initializer_range", LlamaConfig.initializer_range),
            rotary_base=float(base),
            eps=theirs["rms_norm_eps"],
            tied=bool(theirs.get("tie_word_embeddings", False)),
        )
    except KeyError as error:
        raise CheckpointError(
            f"{name}: its config does not say {error.args[0]}. Restore the folder's config.json."
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; CheckpointError if there is none."""
    if not path.is_file():
        raise CheckpointError(
            f"There is no {path.name} in {path.parent}. A Hugging Face folder has config.json and "
            "model.safetensors, as save_pretrained writes them."
        )
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON ({error}). Restore the folder.") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} holds no JSON object. Restore the folder.")
    return values


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder's safetensors, one file or the several that an index names.

    Raises:
        CheckpointError: If a file is missing or not whole.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    index = folder / "model.safetensors.index.json"
    files = ["model.safetensors"]
    if index.is_file():
        files = sorted(set(read_json(index).get("weight_map", {}).values()))
    weights: dict[str, Tensor] = {}
    for file in files:
        path = folder / file
        if not path.is_file():
            raise CheckpointError(
                f"There is no {file} in {folder}. Weights are read from safetensors only; write them so with "
                "save_pretrained."
            )
        try:
            weights |= load_file(path)
        except (SafetensorError, OSError, ValueError) as error:
            raise CheckpointError(
                f"{path} is not a whole safetensors file ({error}). Restore it."
            ) from error
    return weights
