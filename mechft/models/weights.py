"""A model's weights under TransformerLens's names and layout, whatever they are stored as.

A HookedTransformer keeps W_Q as Float["head d_model d_head"]; a TransformerBridge keeps what its Hugging
Face model keeps (Llama: Float["(head d_head) d_model"], transposed). The tensors given here are views in
the first layout that share memory with the parameter: what is written to them is what the model computes
with, and what is read from them means the same in every model.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mechft.errors import ConfigError

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

_ATTENTION = ("W_Q", "W_K", "W_V", "W_O")
_MLP = ("W_in", "W_gate", "W_out")
_BLOCK = re.compile(r"^(?:.*?\.)?(?:blocks|h|layers|layer|block)\.(\d+)\.(.*)$")


@dataclass(frozen=True)
class Weight:
    """One weight of a model.

    Attributes:
        name: "blocks.0.attn.W_Q" and the like; outside the canonical matrices the parameter's own name,
            without the bridge's wrappers.
        block: Its block; −1 outside the blocks.
        component: What it is called inside the block ("attn.W_Q"), or its name.
        tensor: A view of the parameter in TransformerLens's layout; writing to it (under ``no_grad``)
            changes the model.
        parameter: The parameter whose memory it is, for autograd.
    """

    name: str
    block: int
    component: str
    tensor: Tensor
    parameter: torch.nn.Parameter

    @property
    def kind(self) -> str:
        """The last part of the name: "W_Q", "b_in", "weight"."""
        return self.name.split(".")[-1]

    def gradient(self, gradient: Tensor) -> Tensor:
        """A gradient of ``parameter``, in the layout of ``tensor``."""
        source = self.parameter
        same = self.tensor.shape == source.shape and self.tensor.stride() == source.stride()
        if same and self.tensor.data_ptr() == source.data_ptr():
            return gradient
        # Lay the gradient out in memory as the parameter is, then look at it as the view does.
        extent = 1 + sum((n - 1) * s for n, s in zip(source.shape, source.stride(), strict=True))
        memory = gradient.new_zeros(extent)
        memory.as_strided(source.shape, source.stride()).copy_(gradient)
        offset = self.tensor.storage_offset() - source.storage_offset()
        return memory.as_strided(self.tensor.shape, self.tensor.stride(), offset)


def block_matrices(model: HookedTransformer) -> dict[str, Weight]:
    """The weight matrices of all blocks by name, in the order in which the model applies them.

    W_Q, W_K, W_V Float["head d_model d_head"] (key and value heads may be fewer than query heads), W_O
    Float["head d_head d_model"], W_in and W_gate Float["d_model d_mlp"], W_out Float["d_mlp d_model"].

    Raises:
        ConfigError: If the model does not show its matrices under these names.
    """
    blocks: list[Any] = list(getattr(model, "blocks", ()))
    found: dict[str, Weight] = {}
    with torch.enable_grad():  # views made without it would not say whose memory they are
        for i, block in enumerate(blocks):
            for part, kinds in (("attn", _ATTENTION), ("mlp", _MLP)):
                module = getattr(block, part, None)
                for kind in kinds:
                    # With grouped keys a HookedTransformer's W_K is a repeated copy of its own _W_K.
                    own = getattr(module, "_parameters", {}).get(f"_{kind}")
                    value = own if own is not None else getattr(module, kind, None)
                    if not isinstance(value, Tensor) or value.dim() < 2:
                        continue
                    parameter = value if value._base is None else value._base
                    name = f"blocks.{i}.{part}.{kind}"
                    if not isinstance(parameter, torch.nn.Parameter):
                        raise ConfigError(
                            f"{name} of this {type(model).__name__} is not a view of a parameter (it "
                            "is computed, as for weights that are split, folded or quantised), so it "
                            "cannot be scored or edited. Load the model without such processing."
                        )
                    component = f"{part}.{kind}"
                    found[name] = Weight(name, i, component, value.detach(), parameter)
    if not found:
        raise ConfigError(
            f"This {type(model).__name__} has no blocks with attn.W_Q … mlp.W_out, as HookedTransformer "
            "and TransformerBridge have. Load it through TransformerBridge.boot_transformers."
        )
    return found


def all_weights(model: HookedTransformer) -> dict[str, Weight]:
    """Every parameter of a model once: the canonical block matrices, then all others by their own name.

    Raises:
        ConfigError: As ``block_matrices``.
    """
    found = block_matrices(model)
    if is_hooked_transformer(model):
        canonical = {id(weight.parameter): weight for weight in found.values()}
        weights = [canonical.get(id(p)) or _own(name, p) for name, p in model.named_parameters()]
        return {weight.name: weight for weight in weights}
    covered = {id(weight.parameter) for weight in found.values()}
    parameters = dict(model.named_parameters())
    for name, parameter in parameters.items():
        # GPT-2's joint QKV is also there as its three parts, which are what the bridge computes with (in
        # a deep copy they no longer share the joint one's memory).
        joint = ".qkv." in name and name.replace(".qkv.", ".q.") in parameters
        if id(parameter) not in covered and not joint:
            clean = name.replace("_original_component.", "")
            found[clean] = _own(clean, parameter)
    return found


def is_hooked_transformer(model: object) -> bool:
    """Whether a model is a HookedTransformer (and not a TransformerBridge), without importing either."""
    return any(kind.__name__ == "HookedTransformer" for kind in type(model).__mro__)


def _own(name: str, parameter: torch.nn.Parameter) -> Weight:
    match = _BLOCK.match(name)
    block, component = (int(match[1]), match[2]) if match else (-1, name)
    return Weight(name, block, component, parameter.detach(), parameter)
