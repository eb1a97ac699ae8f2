"""The weights of two models side by side, once it is sure that they can be compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from mechft.errors import ConfigError, require
from mechft.models.hook_points import ModelLike, as_model
from mechft.models.weights import Weight, all_weights, is_hooked_transformer

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

BLOCK_MATRICES = ("W_Q", "W_K", "W_V", "W_O", "W_in", "W_gate", "W_out")
_SIDE_BY_SIDE = ("W_Q", "W_K", "W_V")

# Settings that change what the same weights compute; weights cannot be moved between models that differ.
_FORWARD = (
    "n_heads", "n_key_value_heads", "act_fn", "normalization_type", "positional_embedding_type",
    "attn_only", "parallel_attn_mlp", "attention_dir", "eps", "attn_scale", "use_attn_scale",
    "scale_attn_by_inverse_layer_idx", "rotary_base", "rotary_dim", "rotary_adjacent_pairs",
    "rope_parameters", "use_local_attn", "window_size", "attn_types", "output_logits_soft_cap",
    "attn_scores_soft_cap", "final_rms",
)  # fmt: skip


@dataclass(frozen=True)
class WeightPair:
    """One weight of the base beside the same one of the fine-tuned model.

    Attributes:
        name, block, component, kind: As in ``Weight``.
        before, after: The two tensors, in TransformerLens's layout, as the models hold them.
    """

    name: str
    block: int
    component: str
    kind: str
    before: Tensor
    after: Tensor

    @property
    def is_matrix(self) -> bool:
        """Whether it maps one space to another; biases that are kept as a table by head do not."""
        return self.before.dim() > 1 and not self.kind.startswith("b")

    @property
    def in_block(self) -> bool:
        """Whether it is one of the canonical matrices of a block."""
        return self.block >= 0 and self.component in (
            *(f"attn.{kind}" for kind in BLOCK_MATRICES[:4]),
            *(f"mlp.{kind}" for kind in BLOCK_MATRICES[4:]),
        )


def weight_pairs(base: ModelLike, finetuned: ModelLike) -> dict[str, WeightPair]:
    """Every weight of two models by name, each once, in the base's order.

    Raises:
        ConfigError: If the models are of different kinds, have parameters that differ in name or shape,
            or hold a value that is not finite; names the parameter.
    """
    ours, theirs = as_model(base), as_model(finetuned)
    if is_hooked_transformer(ours) != is_hooked_transformer(theirs):
        raise ConfigError(
            "Weights are compared between models of one kind, whose parameters have the same names; got "
            f"{type(ours).__name__} and {type(theirs).__name__}. Load both the same way."
        )
    before, after = all_weights(ours), all_weights(theirs)
    for name in {**before, **after}:
        if name not in before or name not in after:
            raise _different(name, f"only {'the base' if name in before else 'the other'} has it")
        mine, other = before[name].tensor.shape, after[name].tensor.shape
        if mine != other:
            raise _different(name, f"{list(mine)} in the base, {list(other)} in the other")
    for model, weights in (("base", before), ("fine-tuned model", after)):
        for name, weight in weights.items():
            require(
                bool(weight.tensor.isfinite().all()),
                f"{name} of the {model} holds values that are not finite; training has diverged or the "
                "file is damaged. Use an earlier checkpoint.",
            )
    return {name: _pair(weight, after[name]) for name, weight in before.items()}


def movable_pairs(base: ModelLike, finetuned: ModelLike) -> dict[str, WeightPair]:
    """``weight_pairs`` of models whose weights may be mixed: the same computation in the same precision.

    Raises:
        ConfigError: As ``weight_pairs``, or if the models differ in precision or in what they compute.
    """
    pairs = weight_pairs(base, finetuned)
    for pair in pairs.values():
        require(
            pair.before.dtype == pair.after.dtype,
            f"Weights are mixed in one precision; {pair.name} is {pair.before.dtype} in the base and "
            f"{pair.after.dtype} in the other. Convert one: model.to({pair.before.dtype}).",
        )
    configs = [as_model(model).cfg for model in (base, finetuned)]
    for field in _FORWARD:
        mine, other = (getattr(cfg, field, None) for cfg in configs)
        require(
            mine == other,
            f"Weights are mixed between models that compute the same with them; the base has {field} = "
            f"{mine!r}, the other {other!r}.",
        )
    ours, theirs = (dict(as_model(model).named_buffers()) for model in (base, finetuned))
    for name in (
        ours.keys() | theirs.keys()
    ):  # such as rotary frequencies, which no config may mention
        same = name in ours and name in theirs and torch.equal(ours[name], theirs[name])
        require(
            same,
            f"Weights are mixed between models that compute the same with them; the buffer {name} differs.",
        )
    return pairs


def matrix(tensor: Tensor, kind: str) -> Float[Tensor, "i o"]:
    """A weight as the one matrix the model multiplies by, inputs down and outputs across.

    Heads of W_Q, W_K and W_V lie side by side, Float["d_model (head d_head)"]; those of W_O under each
    other, Float["(head d_head) d_model"].
    """
    if tensor.dim() == 2:
        return tensor
    if kind in _SIDE_BY_SIDE:
        return tensor.transpose(0, 1).flatten(1)
    return tensor.flatten(0, -2)


def unmatrix(value: Float[Tensor, "i o"], like: Tensor, kind: str) -> Tensor:
    """``matrix`` undone: the value in the shape of the weight it is for."""
    if like.dim() == 3 and kind in _SIDE_BY_SIDE:
        heads, inputs, outputs = like.shape
        return value.reshape(inputs, heads, outputs).transpose(0, 1)
    return value.reshape(like.shape)


@torch.no_grad()
def write_weights(model: HookedTransformer, values: Mapping[str, Tensor]) -> None:
    """Write values over a model's weights of these names, rounded to the model's precision."""
    weights = all_weights(model)
    for name, value in values.items():
        weights[name].tensor.copy_(value)


def float64(tensor: Tensor, device: torch.device | None = None) -> Tensor:
    """A tensor in float64, exactly; on the CPU where its device has no float64."""
    device = tensor.device if device is None else device
    return tensor.to("cpu" if device.type == "mps" else device).to(torch.float64)


def _pair(before: Weight, after: Weight) -> WeightPair:
    return WeightPair(
        before.name, before.block, before.component, before.kind, before.tensor, after.tensor
    )


def _different(name: str, how: str) -> ConfigError:
    return ConfigError(
        "Models are compared parameter by parameter and need the same shape; they differ in "
        f"{name}: {how}. Compare their activations or behaviour instead."
    )
