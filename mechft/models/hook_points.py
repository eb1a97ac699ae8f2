"""Names of hook points, checked against the model before anything runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol, Union

from mechft.errors import ConfigError, unknown_name

if TYPE_CHECKING:
    import torch
    from transformer_lens import HookedTransformer


class HasModel(Protocol):
    """Anything with a HookedTransformer in ``model``, such as a ``Trained``."""

    @property
    def model(self) -> HookedTransformer:
        """The HookedTransformer."""
        ...


ModelLike = Union["HookedTransformer", HasModel]


def as_model(model: ModelLike) -> HookedTransformer:
    """The HookedTransformer itself, given it or a ``Trained`` that holds it."""
    holder: Any = model
    inner: HookedTransformer = getattr(holder, "model", holder)
    return inner


def device_of(model: HookedTransformer) -> torch.device:
    """The device a model's parameters are on."""
    return next(model.parameters()).device


def resid_post(block: int) -> str:
    """Residual stream after a block. Float["batch pos d_model"]."""
    return f"blocks.{block}.hook_resid_post"


def head_output(block: int) -> str:
    """Each head's output before W_O (z). Float["batch pos head d_head"]."""
    return f"blocks.{block}.attn.hook_z"


def attention_out(block: int) -> str:
    """What a block's attention adds to the residual stream. Float["batch pos d_model"]."""
    return f"blocks.{block}.hook_attn_out"


def mlp_out(block: int) -> str:
    """What a block's MLP adds to the residual stream. Float["batch pos d_model"]."""
    return f"blocks.{block}.hook_mlp_out"


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
