"""Llama-style models to and from Hugging Face's format, with the same weights and the same logits.

What is written is a folder that transformers, vLLM and ``TransformerBridge.boot_transformers`` read:
config.json and safetensors, and the tokenizer's files if one is given. What is read is such a folder, or a
``LlamaForCausalLM``; never a pickle.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mechft.errors import CheckpointError, ConfigError, OutputExistsError, require
from mechft.models.build import _empty_model, model_config
from mechft.models.fused import unsupported_features
from mechft.models.llama_config import LlamaConfig
from mechft.models.llama_files import our_config, read_json, read_weights
from mechft.models.llama_layout import from_hugging_face_layout, to_hugging_face_layout
from mechft.randomness import preserved_random_state

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer
    from transformers import LlamaForCausalLM


def to_hugging_face(model: HookedTransformer, end_token: int | None = None) -> LlamaForCausalLM:
    """The same model as transformers' ``LlamaForCausalLM``, with its own copy of the weights.

    Args:
        model: A HookedTransformer that ``build_model`` made from a ``LlamaConfig``.
        end_token: The token that ends a text, for its ``generate``; None for none.

    Raises:
        ConfigError: If the model is not Llama-style, or has a feature that this does not carry over.
    """
    config = model_config(model) if not unsupported_features(model) else None
    if not isinstance(config, LlamaConfig):
        raise ConfigError(
            "Only Llama-style models have Hugging Face's Llama format, and this one has "
            f"{', '.join(unsupported_features(model)) or 'learned positions and LayerNorm or none'}. Build "
            "one from a LlamaConfig, or keep it with save_checkpoint."
        )
    require(
        end_token is None or 0 <= end_token < config.d_vocab,
        f"end_token is a token of the model, 0..{config.d_vocab - 1}; got {end_token}.",
    )
    from transformers import LlamaConfig as TheirConfig
    from transformers import LlamaForCausalLM

    settings: dict[str, Any] = {
        "vocab_size": config.d_vocab,
        "hidden_size": config.d_model,
        "intermediate_size": config.d_mlp,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.n_heads,
        "max_position_embeddings": config.n_ctx,
        "initializer_range": config.initializer_range,
        "rms_norm_eps": config.eps,
        "rope_theta": config.rotary_base,
        "tie_word_embeddings": config.tied,
        "bos_token_id": end_token,  # theirs default to 1 and 2, which here are words
        "eos_token_id": end_token,
    }
    with preserved_random_state():  # it draws weights of its own first
        made: Any = LlamaForCausalLM(TheirConfig(**settings))
    twin: LlamaForCausalLM = made.to(next(model.parameters()).dtype).eval()
    weights = to_hugging_face_layout(dict(model.named_parameters()))
    if config.tied:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    twin.load_state_dict(weights)
    return twin


def export_llama(
    model: HookedTransformer,
    folder: str | Path,
    *,
    tokenizer: str | Path | None = None,
    end_token: int | None = None,
) -> Path:
    """Write a model as a Hugging Face Llama folder, whole or not at all.

    Args:
        model: As in ``to_hugging_face``.
        folder: Where to; it does not exist yet.
        tokenizer: A tokenizer.json of the ``tokenizers`` library, or the folder it is in, to be put beside
            the weights: TransformerBridge does not load a folder without one.
        end_token: The token that ends a text.

    Returns:
        The folder.

    Raises:
        OutputExistsError: If the folder exists; nothing is overwritten.
        ConfigError: As ``to_hugging_face``, or if the tokenizer has more tokens than the model.
        CheckpointError: If there is no tokenizer where it should be.

    Cost: a copy of the weights in memory while they are written.

    Example:
        >>> import mechft as mf
        >>> from mechft.models.build import build_model
        >>> from mechft.models.llama_config import LlamaConfig
        >>> shape = LlamaConfig(n_layers=2, n_heads=2, d_model=32, d_vocab=50, n_ctx=16)
        >>> folder = mf.export_llama(build_model(shape, seed=0), "tiny-llama")
        >>> {"config.json", "model.safetensors"} <= {path.name for path in folder.iterdir()}
        True
        >>> mf.import_llama(folder).cfg.n_layers
        2
    """
    folder = Path(folder)
    if folder.exists():
        raise OutputExistsError(f"{folder} exists and is not overwritten. Choose another name.")
    source = None if tokenizer is None else _tokenizer_file(Path(tokenizer))
    twin = to_hugging_face(model, end_token)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.tmp")  # one name: a kill's left-over is replaced
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        if source is not None:
            _write_tokenizer(source, temporary, int(model.cfg.d_vocab), end_token)
        twin.save_pretrained(temporary)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def import_llama(
    source: str | Path | LlamaForCausalLM, dtype: torch.dtype | None = None
) -> HookedTransformer:
    """A HookedTransformer of ours from a Hugging Face Llama folder or a loaded ``LlamaForCausalLM``.

    Args:
        source: The folder (config.json and safetensors, one file or several), or the model.
        dtype: Type of the parameters; by default the weights' own, float32 for 16-bit ones, which holds them
            exactly.

    Returns:
        The model, on the CPU.

    Raises:
        ConfigError: If the model has grouped keys and values, biases, scaled rotary positions, or is no
            Llama: what would come out would be another model.
        CheckpointError: If a file is missing, broken, or its weights do not fit its config.

    Cost: a copy of the weights in memory beside theirs.

    Example:
        >>> import torch
        >>> import mechft as mf
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> shape = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2)
        >>> theirs = LlamaForCausalLM(LlamaConfig(vocab_size=50, max_position_embeddings=16, **shape)).eval()
        >>> ours = mf.import_llama(theirs)
        >>> tokens = torch.arange(16)[None]
        >>> torch.allclose(ours(tokens), theirs(tokens).logits, atol=1e-4)
        True
    """
    if isinstance(source, str | Path):
        folder = Path(source)
        config = our_config(read_json(folder / "config.json"), str(folder))
        weights = read_weights(folder)
        name = str(folder)
    else:
        name = type(source).__name__
        config = our_config(source.config.to_dict(), name)
        weights = {key: value.detach().cpu() for key, value in source.state_dict().items()}
    found = from_hugging_face_layout(weights, config, name)
    if dtype is None:
        dtype = found["embed.W_E"].dtype
        dtype = torch.float32 if dtype.itemsize < 4 else dtype
    model = _empty_model(config, dtype)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            parameter.copy_(found[key])
    return model


def _tokenizer_file(place: Path) -> Path:
    file = place / "tokenizer.json" if place.is_dir() else place
    if not file.is_file():
        raise CheckpointError(
            f"There is no tokenizer at {file}. Give the tokenizer.json, or the folder it is in."
        )
    return file


def _write_tokenizer(source: Path, folder: Path, d_vocab: int, end_token: int | None) -> None:
    """A tokenizer's files as transformers reads them."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer.from_file(str(source))
    size = tokenizer.get_vocab_size()
    require(
        size <= d_vocab,
        f"{source} has {size} tokens, and the model reads {d_vocab}. Export it with its own tokenizer.",
    )
    end = None if end_token is None else tokenizer.id_to_token(end_token)
    special = {} if end is None else {"bos_token": end, "eos_token": end}
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)  # type: ignore[no-untyped-call]
    made.save_pretrained(folder)
