"""Hugging Face models, from a folder or from memory, as TransformerBridges of their own."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mechft.errors import CheckpointError, require
from mechft.models.llama_files import read_json
from mechft.models.tokenizers import first_line
from mechft.randomness import preserved_random_state

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


def read_hugging_face(folder: Path, dtype: torch.dtype) -> Any:
    """The causal language model of a Hugging Face folder, on the CPU, in eval mode.

    Weights are read from safetensors only, nothing is downloaded, and no code of the folder is run.

    Args:
        folder: config.json and model.safetensors (or several, with their index), as ``save_pretrained``
            writes them.
        dtype: Type of the parameters, whatever that of the files is.

    Returns:
        The ``PreTrainedModel``.

    Raises:
        ConfigError: If it is no causal language model that TransformerBridge knows, is quantised, or runs
            code of its own.
        CheckpointError: If a file is missing or broken, or the weights do not fill the model.

    A warning names weights in the files that the model has no place for.
    """
    described = read_json(folder / "config.json")
    _check_described(described, folder)
    if not any(folder.glob("*.safetensors")):
        raise CheckpointError(
            f"There are no safetensors in {folder}. Weights are read from safetensors only; write them so "
            "with save_pretrained."
        )
    transformers: Any = import_module("transformers")  # its lazy types say little
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = transformers.AutoConfig.from_pretrained(folder, **local)
        kinds = transformers.MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    except Exception as error:  # a config's own checks, of any kind
        raise CheckpointError(
            f"transformers cannot read {folder / 'config.json'} ({first_line(error)}). Restore it, or update "
            "transformers."
        ) from error
    kind = kinds[0] if isinstance(kinds, tuple) else kinds
    _check_known(getattr(kind, "__name__", None), str(folder))
    try:
        with _quiet(), preserved_random_state():
            model, report = transformers.AutoModelForCausalLM.from_pretrained(
                folder,
                config=config,
                dtype=dtype,
                attn_implementation="eager",  # the only one whose patterns can be seen
                use_safetensors=True,
                output_loading_info=True,
                **local,
            )
    except Exception as error:
        raise CheckpointError(
            f"transformers cannot load the weights of {folder} ({first_line(error)}). Restore the folder."
        ) from error
    _check_complete(report, folder)
    return cast_(model.eval(), dtype)


def own_copy(model: Any, dtype: torch.dtype, *, adapters: bool = False) -> Any:
    """A loaded Hugging Face model again: its own memory, eval mode, no hooks, no gradients.

    The model given keeps its weights, hooks, mode and attention implementation: a bridge is put into the
    modules of the model it is made of, so it gets this one.

    Args:
        model: A ``PreTrainedModel``, or a ``PeftModel``.
        dtype: Type of the copy's parameters.
        adapters: Whether it may hold adapters.

    Raises:
        ConfigError: If it is quantised, lies on several devices, holds adapters, or is inside a bridge.

    Cost: the memory of a second model.
    """
    _check_copyable(model, adapters)
    twin = copy.deepcopy(model).eval()
    for module in twin.modules():
        for hooks in (
            module._forward_hooks,
            module._forward_pre_hooks,
            module._backward_hooks,
            module._backward_pre_hooks,
        ):
            hooks.clear()
        # Transformers keeps in mind that it has put hooks of its own, to put them once.
        module.__dict__.pop("_output_capturing_hooks_installed", None)
    for parameter in twin.parameters():
        parameter.grad = None
    return cast_(twin, dtype)


def bridged(model: Any, name: str, device: torch.device | str | None) -> TransformerBridge:
    """A TransformerBridge around a model that ``read_hugging_face`` or ``own_copy`` gave, in its modules."""
    from transformer_lens.model_bridge.sources import build_bridge_from_module

    if hasattr(model, "set_attn_implementation"):
        model.set_attn_implementation("eager")
    if device is not None:
        model.to(device)
    with preserved_random_state():
        # Unlike boot_transformers, this asks for no tokenizer.
        made = build_bridge_from_module(
            model, type(model).__name__, hf_config=model.config, model_name=name
        )
    bridge: TransformerBridge = made.eval()
    for parameter in bridge.parameters():
        parameter.requires_grad_(
            True
        )  # adapters freeze what they are put on; scores need gradients
    return bridge


def cast_(model: Any, dtype: torch.dtype) -> Any:
    """Parameters to a type, in place; buffers stay as exact as they are (rotary frequencies are buffers)."""
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)
    return model


def _check_known(architecture: str | None, name: str) -> None:
    from transformer_lens.factories.architecture_adapter_factory import SUPPORTED_ARCHITECTURES

    known = ", ".join(sorted(a for a in SUPPORTED_ARCHITECTURES if a.endswith("ForCausalLM")))
    what = (
        f"its class is {architecture}" if architecture else "transformers has no such class for it"
    )
    require(
        architecture in SUPPORTED_ARCHITECTURES,
        f"A Hugging Face model is a causal language model that TransformerBridge knows; {name} is not: "
        f"{what}. Load it with its class …ForCausalLM, one of: GPT2LMHeadModel, {known}.",
    )


def _check_described(config: dict[str, Any], folder: Path) -> None:
    require(
        not config.get("quantization_config"),
        f"Weights are numbers that can be compared; those of {folder} are quantised. Give the model as it "
        "was before, or dequantise it and write it with save_pretrained.",
    )
    require(
        not config.get("auto_map"),
        f"{folder} asks to run code of its own (auto_map in config.json), which is never done here. Load the "
        "model yourself with trust_remote_code=True and give the loaded model.",
    )
    require(
        not (folder / "adapter_config.json").is_file(),
        f"A base model is a whole model; {folder} holds an adapter. Merge it into its base first and write "
        "the result with save_pretrained.",
    )


def _check_complete(report: dict[str, Any], folder: Path) -> None:
    """Transformers fills what is missing with random numbers, which would be analysed as if learned."""
    missing = sorted(report.get("missing_keys", ())) + [
        str(entry) for entry in report.get("mismatched_keys", ())
    ]
    if missing:
        raise CheckpointError(
            f"The weights of {folder} do not fill the model its config.json describes: {len(missing)} are "
            f"missing, such as {missing[0]}. If it is a classifier or a reward model, it has no next token "
            "to compare; else restore the folder."
        )
    if extra := sorted(report.get("unexpected_keys", ())):
        warnings.warn(
            f"{folder} holds {len(extra)} weights that its model has no place for, such as {extra[0]}; they "
            "are left out.",
            stacklevel=4,
        )


def _check_copyable(model: Any, adapters: bool) -> None:
    name = type(model).__name__
    inner = model.get_base_model() if adapters else model
    _check_known(type(inner).__name__, f"this {name}")
    require(
        not getattr(model, "is_quantized", False),
        f"Weights are numbers that can be compared; those of this {name} are quantised. Load it without a "
        "quantization_config.",
    )
    places = {parameter.device for parameter in model.parameters()}
    require(
        len(places) == 1 and next(iter(places)).type != "meta",
        f"A model lies on one device; this {name} is on {', '.join(sorted(map(str, places)))}. Load it "
        "without device_map.",
    )
    homes = {type(module).__module__.split(".")[0] for module in model.modules()}
    require(
        "transformer_lens" not in homes,
        f"This {name} is inside a TransformerBridge already. Give the bridge.",
    )
    require(
        adapters or "peft" not in homes,
        f"This {name} holds adapters that are not merged. Give it as a PeftModel, or the folder of the "
        "adapter, and they will be.",
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Transformers without its progress bars."""
    logging: Any = import_module("transformers.utils.logging")
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
