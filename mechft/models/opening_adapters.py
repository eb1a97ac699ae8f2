"""PEFT adapters merged into a copy of their base, and checked to compute the same."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mechft.errors import CheckpointError, ConfigError, require
from mechft.models.llama_files import read_json
from mechft.models.tokenizers import first_line
from mechft.randomness import preserved_random_state

CONFIG = "adapter_config.json"
_WEIGHTS = "adapter_model.safetensors"
_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3}
"""How far the merged model's logits may be off, as a share of their largest; 16-bit weights round: 0.1."""


def is_peft_model(what: object) -> bool:
    """Whether something is a ``PeftModel``, without importing peft."""
    return any(kind.__name__ == "PeftModel" for kind in type(what).__mro__)


def base_name(folder: Path) -> str:
    """What an adapter's config calls its base: a path, or a repository's name."""
    return str(read_json(folder / CONFIG).get("base_model_name_or_path") or "")


def base_of(folder: Path) -> Path | None:
    """The local Hugging Face folder that an adapter's config names as its base, if it names one."""
    named = base_name(folder)
    return Path(named) if named and (Path(named) / "config.json").is_file() else None


def check_adapter(folder: Path) -> None:
    """Raise unless a folder holds an adapter that can be merged; reads no weights.

    Raises:
        ConfigError: If peft is not installed, or the adapter is one of prompts, which no weights express.
        CheckpointError: If its weights are not there as safetensors.
    """
    _peft()
    kind = str(read_json(folder / CONFIG).get("peft_type"))
    require(
        "PROMPT" not in kind and "PREFIX" not in kind and kind != "P_TUNING",
        f"An adapter is merged into its base's weights, which {kind} in {folder} cannot be: it adds inputs. "
        "Give an adapter of weights, such as LoRA.",
    )
    if not (folder / _WEIGHTS).is_file():
        raise CheckpointError(
            f"There is no {_WEIGHTS} in {folder}. Adapters are read from safetensors only; write it so with "
            "save_pretrained."
        )


def with_adapter(base: Any, folder: Path) -> Any:
    """A ``PeftModel``: a base with the adapter of a folder put into it, not merged. Changes ``base``.

    Raises:
        ConfigError: As ``check_adapter``.
        CheckpointError: If the adapter's weights do not fit the base, or not all of them.
    """
    check_adapter(folder)
    peft = _peft()
    try:
        # Adapters are drawn before they are read, and peft asks transformers for what it has renamed.
        with preserved_random_state(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            config = peft.PeftConfig.from_pretrained(str(folder))
            config.inference_mode = True
            model = peft.PeftModel(base, config, autocast_adapter_dtype=False)
            result = model.load_adapter(
                str(folder),
                "default",
                torch_device="cpu",
                autocast_adapter_dtype=False,
                key_mapping=getattr(base, "_checkpoint_conversion_mapping", {}),
            )
    except Exception as error:  # peft and torch raise what they like
        raise CheckpointError(
            f"The adapter of {folder} does not fit {type(base).__name__} ({first_line(error)}). Give the "
            "base it was trained on as base."
        ) from error
    wrong = [*result.missing_keys, *result.unexpected_keys]
    if wrong:
        raise CheckpointError(
            f"The adapter of {folder} does not fit {type(base).__name__}: {len(result.missing_keys)} weights "
            f"are missing and {len(result.unexpected_keys)} have no place, such as {wrong[0]}. Give the base "
            "it was trained on as base."
        )
    return model


def merged_(model: Any, dtype: torch.dtype) -> Any:
    """The Hugging Face model of a ``PeftModel`` with its adapters merged into the weights; uses it up.

    Both forms answer a few tokens, and their logits are compared: adapters that are switched off, or that
    weights cannot express, are found.

    Args:
        model: The ``PeftModel``, its parameters of the type asked for.
        dtype: That type.

    Raises:
        ConfigError: If the adapter cannot be merged, or the merged model computes something else.
        CheckpointError: If its weights are not finite.
    """
    model.eval()
    kind = type(getattr(model, "base_model", model)).__name__
    if not hasattr(model, "merge_and_unload"):
        raise ConfigError(
            f"An adapter is merged into its base's weights, which {kind} cannot be. Give an adapter of "
            "weights, such as LoRA."
        )
    _untie_(model)
    before = _answers(model)
    try:
        with warnings.catch_warnings():
            # What it may warn of, such as tied embeddings, shows in the check below if it matters.
            warnings.simplefilter("ignore")
            merged = model.merge_and_unload(safe_merge=True)
    except (ValueError, NotImplementedError, AttributeError) as error:
        raise CheckpointError(
            f"The adapter ({kind}) cannot be merged ({first_line(error)}). Merge it yourself and give the "
            "merged model."
        ) from error
    after = _answers(merged)
    largest = max(1.0, float(before.abs().max()))
    off = float((after - before).abs().max()) / largest
    require(
        off <= _TOLERANCE.get(dtype, 0.1),
        f"A merged adapter computes what it did before; this one ({kind}) is off by {off:.2g} of the largest "
        "logit. Its adapters may be switched off, or act on tied weights: switch them on, or merge them "
        "yourself and give the merged model.",
    )
    return merged


def _untie_(model: Any) -> None:
    """Give the unembedding weights of its own if an adapter acts on the embedding, or on it, alone.

    Merged into a matrix that both share, the adapter would act on both.
    """
    inside, outside = (
        getattr(part, "base_layer", part)
        for part in (model.get_input_embeddings(), model.get_output_embeddings())
    )
    adapted = inside is not model.get_input_embeddings()
    adapted = adapted or outside is not model.get_output_embeddings()
    if adapted and outside is not None and outside.weight is inside.weight:
        outside.weight = torch.nn.Parameter(outside.weight.detach().clone())
        model.get_base_model().config.tie_word_embeddings = False


@torch.no_grad()
def _answers(model: Any) -> Float[Tensor, "1 pos d_vocab"]:
    place = next(model.parameters()).device
    size = min(8, int(model.get_input_embeddings().weight.shape[0]))
    logits: Tensor = model(input_ids=torch.arange(size, device=place)[None]).logits
    return logits.double().cpu()


def _peft() -> ModuleType:
    try:
        import peft
    except ImportError as error:
        raise ConfigError(
            f"Adapters are read by the package peft, which is not installed ({error}): pip install peft. Or "
            "merge the adapter where it is installed (merge_and_unload) and give the merged model."
        ) from error
    module: ModuleType = peft
    return module
