"""Checkpoints: one safetensors file with a JSON header, written whole or not at all.

Weights and description travel in one file, so that they cannot come apart, and a rename makes the
write atomic. Nothing is ever pickled, and the file holds no time stamp: the same training gives the
same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mechft.errors import CheckpointError, ConfigError
from mechft.files import replacing
from mechft.models.build import ModelConfig, _empty_model, model_config
from mechft.models.channels import attach_labels_
from mechft.models.fused import unsupported_features
from mechft.models.llama_config import LlamaConfig

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

FORMAT = 1
_HEADER = "mechft"


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds.

    Attributes:
        model: The HookedTransformer.
        description: JSON values: task, seed, history, versions …
        extra: Other tensors by name, such as an optimiser's state.
    """

    model: HookedTransformer
    description: dict[str, Any]
    extra: dict[str, Tensor]


def save_checkpoint(
    path: str | Path,
    model: HookedTransformer,
    description: Mapping[str, Any],
    extra: Mapping[str, Tensor] | None = None,
    *,
    stored_as: torch.dtype | None = None,
) -> Path:
    """Write a model and its description to ``path``, replacing it in one step.

    Args:
        path: The file; its folder is made if missing.
        model: A HookedTransformer that ``build_model`` or ``compile_program`` made.
        description: JSON values to keep with it.
        extra: Other tensors to keep.
        stored_as: Type of the weights in the file, by default the model's own. With float16 the file has half
            the size of a float32 model's; what is read from it is the model's type again, rounded.

    A process killed at any moment leaves either the old file or the new one, never half of one.

    Raises:
        ConfigError: If the model has features that no config describes, so that it
            would come back as another model; or weights that are not finite.
    """
    from safetensors.torch import save_file

    _check_described(model)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"model.{name}": parameter.detach().to(stored_as or parameter.dtype).contiguous()
        for name, parameter in model.named_parameters()
    }
    tensors |= {f"extra.{name}": t.contiguous() for name, t in (extra or {}).items()}
    header = {
        "format": FORMAT,
        "model": _model_header(model_config(model)),
        "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
        "description": dict(description),
    }
    if labels := getattr(model, "residual_labels", ()):
        header["residual_labels"] = list(labels)
    with replacing(path, sync=True) as temporary:
        # One metadata key only: safetensors does not keep the order of several.
        save_file(tensors, temporary, {_HEADER: json.dumps(header, sort_keys=True)})
        temporary.chmod(0o644)  # safetensors makes files only their owner can read
    return path


def _check_described(model: HookedTransformer) -> None:
    cfg = model.cfg
    features = unsupported_features(model)
    if not features and cfg.eps != 1e-5 and not cfg.gated_mlp:
        features = [f"eps={cfg.eps}"]
    if features:
        raise ConfigError(
            "A checkpoint describes models made by build_model or compiled; this one has "
            f"{', '.join(features)} and would come back as another model. Save it with its own library."
        )
    for name, parameter in model.named_parameters():
        if not bool(parameter.isfinite().all()):
            raise ConfigError(
                f"{name} holds weights that are not finite. The model has diverged; nothing was written."
            )


def _model_header(config: ModelConfig | LlamaConfig) -> dict[str, Any]:
    """What a header says about a model's shape.

    A field that came after the first checkpoints is named only where it differs from what they were,
    so that the same GPT-style model still gives the same bytes.
    """
    if isinstance(config, LlamaConfig):
        return {"style": "llama", **asdict(config)}
    implied = {
        "d_head": config.d_model / config.n_heads,
        "d_vocab_out": config.d_vocab,
        "activation": ModelConfig.activation,
        "normalization": ModelConfig.normalization,
        "attention": ModelConfig.attention,
    }
    return {name: value for name, value in asdict(config).items() if value != implied.get(name)}


def _described_config(header: Mapping[str, Any]) -> ModelConfig | LlamaConfig:
    """The config that ``_model_header`` wrote."""
    shape = dict(header)
    style = shape.pop("style", None)
    if style not in (None, "llama"):
        raise ValueError(f"its style is {style!r}")
    return ModelConfig(**shape) if style is None else LlamaConfig(**shape)


def read_header(path: str | Path) -> dict[str, Any]:
    """The JSON header of a checkpoint, without reading its weights.

    Raises:
        CheckpointError: If the file is missing, truncated or not one of ours; it is not touched.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"There is no checkpoint file at {path}.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not a whole safetensors file ({error}). It may be truncated; it was left "
            "as it is. Restore it or train again into another folder."
        ) from error
    if _HEADER not in metadata:
        raise CheckpointError(
            f"{path} is a safetensors file, but mechft did not write it (its header has no "
            f"{_HEADER!r}). Load its weights into a HookedTransformer with safetensors yourself."
        )
    try:
        header: dict[str, Any] = json.loads(metadata[_HEADER])
        whole = {"format", "model", "dtype", "description"} <= header.keys()
    except (json.JSONDecodeError, AttributeError):
        whole = False
    if not whole:
        raise CheckpointError(
            f"{path}: its header is not one mechft writes. The file was left as it is."
        )
    if header.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} has checkpoint format {header.get('format')}; this version reads {FORMAT}. "
            "Use the version of mechft that wrote it."
        )
    return header


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint file onto the CPU.

    Raises:
        CheckpointError: If the file is missing, truncated, foreign, or its weights do not fit the
            model its header describes; the file is not touched.
    """
    from safetensors.torch import load_file

    header = read_header(path)
    tensors = load_file(path)
    try:
        config, dtype = _described_config(header["model"]), getattr(torch, header["dtype"])
    except (TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{path}: its header describes no model we know ({error})."
        ) from error
    model = _empty_model(config, dtype)
    if "residual_labels" in header:
        try:
            attach_labels_(model, header["residual_labels"])
        except (ConfigError, TypeError) as error:
            raise CheckpointError(
                f"{path}: its header names the residual channels wrongly ({error}) "
                "The file was left as it is."
            ) from error
    parameters = dict(model.named_parameters())
    found = {n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")}
    wrong = sorted(
        name
        for name in parameters.keys() | found.keys()
        if name not in parameters
        or name not in found
        or parameters[name].shape != found[name].shape
    )
    if wrong:
        raise CheckpointError(
            f"{path}: the weights do not fit the model its header describes; first of "
            f"{len(wrong)} that differ: {wrong[0]}. The file was left as it is."
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(found[name])
    # Copies in memory of their own: tensors of a mapped file need not be aligned as fresh ones are.
    extra = {n.removeprefix("extra."): t.clone() for n, t in tensors.items() if n[:6] == "extra."}
    return Checkpoint(model, header["description"], extra)
