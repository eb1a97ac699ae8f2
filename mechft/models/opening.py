"""Any model a user has, opened: a name, a file, a folder or an object becomes what analyses take."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from mechft.errors import CheckpointError, ConfigError, UnknownNameError, require, unknown_name
from mechft.models.build import clone
from mechft.models.bundled import bundled_path, manifest
from mechft.models.checkpoint import load_checkpoint
from mechft.models.hook_points import ModelLike, _drops_out, device_of, has_hooks
from mechft.models.opening_adapters import (
    CONFIG,
    base_name,
    base_of,
    check_adapter,
    is_peft_model,
    merged_,
    with_adapter,
)
from mechft.models.opening_files import bridged, own_copy, read_hugging_face
from mechft.models.tokenizers import (
    TOKENIZER,
    as_coder,
    read_tokenizer,
    read_tokenizer_file,
    tokenizer_of,
)
from mechft.models.tokenizers import TextCoder as TextCoder
from mechft.models.weights import is_hooked_transformer

_WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Opened:
    """A model ready to be analysed, and what belongs to it.

    Attributes:
        model: A HookedTransformer or a TransformerBridge, in eval mode (or without dropout).
        name: What tables call it: its folder's name, its own, or its class's.
        kind: "bundled model", "mechft checkpoint", "HookedTransformer", "TransformerBridge", "Hugging Face
            model", "Hugging Face folder" or "PEFT adapter".
        coder: Its tokenizer; None where it has none.
        first_token: What texts begin with (BOS), where the tokenizer puts one there of its own accord.
        n_ctx: Its longest input, in tokens.
        source: The Hugging Face folder or model that it came from, for adapters to be merged into; None
            where it came from elsewhere.
    """

    model: ModelLike
    name: str
    kind: str
    coder: TextCoder | None
    first_token: int | None
    n_ctx: int
    source: Any = field(default=None, repr=False, compare=False)


def open_model(
    what: Any,
    *,
    base: Opened | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
    name: str | None = None,
) -> Opened:
    """Open whatever holds a model. Nothing is downloaded, and the object given is never changed.

    Args:
        what: One of

            - a bundled model by name ("pcfg-tiny-low", see ``mechft zoo list``);
            - a mechft checkpoint: the file, or the folder of a run that has finished;
            - a Hugging Face folder (config.json, safetensors, tokenizer files if there are);
            - the folder of a PEFT adapter (LoRA and the like), merged into a copy of its base;
            - a HookedTransformer, a TransformerBridge, or an object that holds one in ``model``, such as a
              ``Trained``: used as it is, hooks included, where type, device and mode are as asked, else
              a copy is;
            - a Hugging Face model or ``PeftModel``, or the pair of it and a tokenizer: a copy is used.
        base: Where an adapter's base is taken from, if it was opened from a Hugging Face folder or model; by
            default the adapter's config says, if it names a local folder. Of no effect on other models.
        device: Where to; by default files go to the CPU, and objects stay where they are.
        dtype: Type of the parameters, whatever they are stored as.
        name: What tables call it.

    Raises:
        UnknownNameError: If it is neither a bundled model nor a path; lists the bundled ones.
        CheckpointError: If files are missing, broken, or do not fit together.
        ConfigError: If it is nothing of the above, or a model that cannot be looked into (quantised, on
            several devices, of an architecture TransformerBridge does not know).

    Cost: the first call imports TransformerLens and transformers (some seconds); then reading the weights,
    and the memory of one model.

    Example:
        >>> import mechft as mf
        >>> opened = mf.open_model("pcfg-tiny-low")
        >>> opened.name, opened.kind, opened.n_ctx
        ('pcfg-tiny-low', 'bundled model', 40)
    """
    require(
        base is None or isinstance(base, Opened),
        f"base is what open_model returned; got {type(base).__name__}. Open it first.",
    )
    what, tokenizer = what if isinstance(what, tuple) and len(what) == 2 else (what, None)
    if isinstance(what, str | Path):
        opened = _of_path(what, base, device, dtype)
    elif is_peft_model(what):
        merged = merged_(own_copy(what, dtype, adapters=True), dtype)
        opened = _of_own(merged, type(what).__name__, "PEFT adapter", device)
    elif hasattr(what, "hook_dict"):
        opened = _of_hooked(what, _own_name(what.cfg.model_name, what), device, dtype)
    elif hasattr(getattr(what, "model", None), "hook_dict"):  # a Trained
        opened = _of_hooked(what.model, str(getattr(what, "name", "model")), device, dtype)
    elif isinstance(what, torch.nn.Module) and hasattr(what, "save_pretrained"):
        called = _own_name(getattr(what.config, "_name_or_path", None), what)
        copied = own_copy(what, dtype)
        opened = _of_own(copied, called, "Hugging Face model", device, source=what)
    else:
        raise ConfigError(
            "A model is the name of a bundled one, a checkpoint, a Hugging Face or adapter folder, a "
            "HookedTransformer, a TransformerBridge, a Trained, or a Hugging Face model (or the pair of it "
            f"and its tokenizer); got {type(what).__name__}."
        )
    if tokenizer is not None:
        coder, first_token = as_coder(tokenizer)
        opened = replace(opened, coder=coder, first_token=first_token)
    return opened if name is None else replace(opened, name=name)


def _of_path(
    what: str | Path, base: Opened | None, device: torch.device | str | None, dtype: torch.dtype
) -> Opened:
    place = Path(what)
    if place.is_dir():
        if (place / CONFIG).is_file():
            return _of_adapter(place, base, device, dtype)
        if (place / "config.json").is_file():
            called = place.resolve().name
            model, tokenizer = read_hugging_face(place, dtype), read_tokenizer(place)
            return _of_own(model, called, "Hugging Face folder", device, tokenizer, place)
        if (place / _WEIGHTS).is_file():
            return _of_checkpoint(place / _WEIGHTS, device, dtype)
        inside = ", ".join(sorted(path.name for path in place.iterdir())[:8])
        raise CheckpointError(
            f"A folder with a model holds config.json (Hugging Face), {CONFIG} (an adapter) or {_WEIGHTS} (a "
            f"finished run); {place} holds {inside or 'nothing'}. Give the folder that does."
        )
    if place.is_file():
        if (place.parent / "config.json").is_file():
            raise CheckpointError(
                f"{place} is a part of a Hugging Face folder. Give the folder: {place.parent}."
            )
        return _of_checkpoint(place, device, dtype)
    known = manifest()
    if str(what) in known:
        opened = _of_checkpoint(bundled_path(str(what)), device, dtype, "bundled model")
        return replace(opened, name=str(what))
    raise UnknownNameError(
        f"{unknown_name('model (no bundled one, and no file or folder)', str(what), known)} Nothing is "
        "downloaded: fetch a Hugging Face model first (hf download NAME --local-dir FOLDER), and give the "
        "folder."
    )


def _of_checkpoint(
    path: Path,
    device: torch.device | str | None,
    dtype: torch.dtype,
    kind: str = "mechft checkpoint",
) -> Opened:
    found = load_checkpoint(path)
    place = path.resolve()
    called = found.description.get("name")
    if not isinstance(called, str):
        called = place.parent.name if path.name == _WEIGHTS else place.stem
    opened = _of_hooked(found.model, called, device, dtype, kind)
    own = found.description.get(TOKENIZER)
    tokenizer = tokenizer_of(own, path) if own else read_tokenizer_file(path.parent)
    coder, first_token = as_coder(tokenizer)
    return replace(opened, coder=coder, first_token=first_token)


def _of_adapter(
    folder: Path, base: Opened | None, device: torch.device | str | None, dtype: torch.dtype
) -> Opened:
    check_adapter(folder)
    source = base_of(folder) if base is None else base.source
    if source is None:
        raise ConfigError(
            f"An adapter is merged into the Hugging Face model it was trained on; {folder} names "
            f"{base_name(folder)!r}, which is no local folder with a config.json. Give "
            "base=open_model(FOLDER)."
            if base is None
            else f"An adapter is merged into a Hugging Face model; the base given for {folder} was opened as "
            f"{base.kind}. Open the base from its Hugging Face folder, or from the loaded model."
        )
    local = isinstance(source, Path)
    inner = read_hugging_face(source, dtype) if local else own_copy(source, dtype)
    model = merged_(with_adapter(inner, folder), dtype)
    tokenizer = read_tokenizer(folder)  # training may have left its own there
    if tokenizer is None and base is None:
        tokenizer = read_tokenizer(source)
    opened = _of_own(model, folder.resolve().name, "PEFT adapter", device, tokenizer)
    if tokenizer is None and base is not None:
        opened = replace(opened, coder=base.coder, first_token=base.first_token)
    return opened


def _of_own(
    model: Any,
    name: str,
    kind: str,
    device: torch.device | str | None,
    tokenizer: Any = None,
    source: Any = None,
) -> Opened:
    """A Hugging Face model that nobody else holds."""
    bridge = bridged(model, name, device)
    return Opened(bridge, name, kind, *as_coder(tokenizer), int(bridge.cfg.n_ctx), source)


def _of_hooked(
    model: Any,
    name: str,
    device: torch.device | str | None,
    dtype: torch.dtype,
    kind: str | None = None,
) -> Opened:
    """A HookedTransformer or TransformerBridge: itself if it is as asked, else a copy that is."""
    here = device_of(model)
    there = here if device is None else torch.device(device)
    moved = there.type != here.type or there.index not in (None, here.index)
    recast = any(p.dtype != dtype for p in model.parameters() if p.is_floating_point())
    if moved or recast or _drops_out(model):
        require(
            not has_hooks(model),
            f"{name} has hooks, and would be copied without them to be made {dtype} on {there} in eval mode. "
            "Make it so first, or remove the hooks.",
        )
        model = clone(model).eval()
        model.to(there, print_details=False)
        model.to(dtype, print_details=False)
    if kind is None:
        kind = "HookedTransformer" if is_hooked_transformer(model) else "TransformerBridge"
    coder, first_token = as_coder(getattr(model, "tokenizer", None))
    return Opened(model, name, kind, coder, first_token, int(model.cfg.n_ctx))


def _own_name(path: object, what: object) -> str:
    """The last part of the path or repository a model names as its own, or its class."""
    known = Path(str(path)).name if path and path != "custom" else ""
    return known or type(what).__name__
