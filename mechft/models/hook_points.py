"""Names of hook points, checked against the model before anything runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol, Union

from mechft.errors import ConfigError, require, unknown_name

if TYPE_CHECKING:
    import torch
    from transformer_lens import HookedTransformer
    from transformer_lens.model_bridge import TransformerBridge


class HasModel(Protocol):
    """Anything with a HookedTransformer in ``model``, such as a ``Trained``."""

    @property
    def model(self) -> HookedTransformer:
        """The HookedTransformer."""
        ...


ModelLike = Union["HookedTransformer", "TransformerBridge", HasModel]
"""What analyses take: a HookedTransformer, a TransformerBridge (any Hugging Face model), a ``Trained``."""


def as_model(model: ModelLike) -> HookedTransformer:
    """The model itself, given it or a ``Trained`` that holds it.

    A TransformerBridge answers to the same names, and passes for a HookedTransformer from here on.

    Raises:
        ConfigError: If it is neither, or in training mode with dropout.
    """
    holder: Any = model
    # A bridge passes on .model of the Hugging Face model it wraps, so it is looked at first.
    inner: HookedTransformer = (
        holder if hasattr(holder, "hook_dict") else getattr(holder, "model", holder)
    )
    if not hasattr(inner, "hook_dict"):
        raise ConfigError(
            f"A model is a HookedTransformer, a TransformerBridge or a Trained; got "
            f"{type(model).__name__}. Load a Hugging Face model through "
            "TransformerBridge.boot_transformers(folder)."
        )
    require(
        not _drops_out(inner),
        "This model is in training mode and has dropout, so that every forward gives something else. Call "
        "model.eval() before it is looked into.",
    )
    return inner


def _drops_out(model: HookedTransformer) -> bool:
    """Whether a module would drop activations now: a dropout module, or attention that does it itself."""
    for module in model.modules():
        share = getattr(module, "p", 0.0) if "Dropout" in type(module).__name__ else 0.0
        share = share or getattr(module, "attention_dropout", 0.0)
        if module.training and isinstance(share, float) and share > 0:
            return True
    return False


def device_of(model: HookedTransformer) -> torch.device:
    """The device a model's parameters are on."""
    return next(model.parameters()).device


def resid_pre(block: int) -> str:
    """Residual stream before a block. Float["batch pos d_model"]."""
    return f"blocks.{block}.hook_resid_pre"


def resid_mid(block: int) -> str:
    """Residual stream between a block's attention and its MLP. Float["batch pos d_model"]."""
    return f"blocks.{block}.hook_resid_mid"


def resid_post(block: int) -> str:
    """Residual stream after a block. Float["batch pos d_model"]."""
    return f"blocks.{block}.hook_resid_post"


def head_output(block: int) -> str:
    """Each head's output before W_O (z). Float["batch pos head d_head"]."""
    return f"blocks.{block}.attn.hook_z"


def pattern(block: int) -> str:
    """Attention pattern: each query's weights on the keys. Float["batch head query key"]."""
    return f"blocks.{block}.attn.hook_pattern"


def neurons(block: int) -> str:
    """MLP activations after the non-linearity. Float["batch pos d_mlp"]."""
    return f"blocks.{block}.mlp.hook_post"


def attention_out(block: int) -> str:
    """What a block's attention adds to the residual stream. Float["batch pos d_model"]."""
    return f"blocks.{block}.hook_attn_out"


def mlp_out(block: int) -> str:
    """What a block's MLP adds to the residual stream. Float["batch pos d_model"]."""
    return f"blocks.{block}.hook_mlp_out"


def block_of(hook_name: str) -> int:
    """The block a hook point belongs to; −1 outside the blocks."""
    parts = hook_name.split(".")
    return int(parts[1]) if parts[0] == "blocks" else -1


def component_of(hook_name: str) -> str:
    """What a hook point shows: "resid_post", "attn_out", "z"; the last part of its name."""
    return hook_name.split(".")[-1].removeprefix("hook_")


def check_hook_points(model: HookedTransformer, names: Iterable[str]) -> None:
    """Raise UnknownNameError, naming the nearest, for a hook point the model does not have."""
    known: dict[str, Any] = model.hook_dict
    for name in names:
        if name not in known:
            raise unknown_name("hook point", name, known)


def check_heads(model: HookedTransformer, heads: Iterable[tuple[int, int]]) -> None:
    """Raise ConfigError for a (block, head) the model does not have."""
    n_layers, n_heads = int(model.cfg.n_layers), int(model.cfg.n_heads)
    heads = list(heads)
    if not heads or not all(isinstance(pair, tuple) and len(pair) == 2 for pair in heads):
        raise ConfigError(
            f"Heads are given as a list of (block, head) pairs, such as [(1, 2)]; got {heads!r}."
        )
    for block, head in heads:
        if not (0 <= block < n_layers and 0 <= head < n_heads):
            raise ConfigError(
                f"A head is (block, head) with block in 0..{n_layers - 1} and head in "
                f"0..{n_heads - 1}; got ({block}, {head})."
            )


def has_hooks(model: HookedTransformer) -> bool:
    """Whether any hook is attached now, so that a forward that skips hooks would be wrong."""
    return any(
        point._forward_hooks or point._backward_hooks or point._forward_pre_hooks
        for point in model.hook_dict.values()
    )
