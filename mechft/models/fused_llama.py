"""What is Llama's own in the fused forward: RMSNorm, rotary queries and keys, the gated MLP.

Three things are done otherwise than they are written in papers, with the same result. A norm's weight
multiplies the rows of the matrix that comes next, which is far smaller than the activations. A rotation is
one product of complex numbers: the columns of W_Q and W_K are put in an order in which the two numbers that
turn together lie side by side, and attention scores do not see the order. And no bias is added, as there is
none (``unsupported_features`` makes sure of it).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import Complex, Float
from torch import Tensor

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer


def rms_normalized(x: Float[Tensor, "*batch d"], eps: float) -> Float[Tensor, "*batch d"]:
    """Each vector over its root mean square; the norm's weight is left to what comes next."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)


def rotations(model: HookedTransformer) -> Complex[Tensor, "n_ctx pair"]:
    """By which a pair of numbers is multiplied at each position; from the model's own tables."""
    attn: Any = model.blocks[0].attn
    pairs = attn.rotary_cos.shape[1] // 2  # the tables' second halves repeat the first
    return torch.complex(attn.rotary_cos[:, :pairs], attn.rotary_sin[:, :pairs])


def product(
    x: Float[Tensor, "*batch i"], weight: Float[Tensor, "i o"]
) -> Float[Tensor, "*batch o"]:
    """A linear map: x @ weight, as one product of two matrices."""
    return (x.reshape(-1, x.shape[-1]) @ weight).view(*x.shape[:-1], -1)


def project_rotated(
    weight: Float[Tensor, "head d_model d_head"],
    norm_weight: Float[Tensor, " d_model"],
    x: Float[Tensor, "batch pos d_model"],
    rotation: Complex[Tensor, "*batch pos pair"],
) -> Float[Tensor, "batch head pos d_head"]:
    """Queries or keys, turned by their positions; pairs of numbers side by side.

    Args:
        weight: W_Q or W_K.
        norm_weight: Of the RMSNorm that ``x`` comes from.
        x: Normalised residual stream.
        rotation: Of the positions of ``x``: the same in every row, or each row's own.
    """
    n_heads, d_model, d_head = weight.shape
    paired = weight.unflatten(2, (2, d_head // 2)).permute(1, 0, 3, 2)  # [d_model, head, pair, 2]
    flat = norm_weight[:, None] * paired.reshape(d_model, -1)
    out = product(x, flat).view(*x.shape[:2], n_heads, d_head // 2, 2)
    # Under autocast the product is bfloat16, of which there are no complex numbers.
    turned = torch.view_as_complex(out.to(rotation.real.dtype)) * rotation.unsqueeze(-2)
    return torch.view_as_real(turned).flatten(3).transpose(1, 2)


def project_values(
    weight: Float[Tensor, "head d_model d_head"],
    norm_weight: Float[Tensor, " d_model"],
    x: Float[Tensor, "batch pos d_model"],
) -> Float[Tensor, "batch head pos d_head"]:
    """Values: as ``project_rotated``, neither paired nor turned."""
    n_heads, d_model, d_head = weight.shape
    flat = norm_weight[:, None] * weight.transpose(0, 1).reshape(d_model, -1)
    return product(x, flat).view(*x.shape[:2], n_heads, d_head).transpose(1, 2)


def gated_hidden(
    mlp: Any, norm_weight: Float[Tensor, " d_model"], x: Float[Tensor, "batch pos d_model"]
) -> Float[Tensor, "batch pos d_mlp"]:
    """SwiGLU's hidden units: SiLU of the gate, times the linear part."""
    gate = product(x, norm_weight[:, None] * mlp.W_gate)
    return F.silu(gate) * product(x, norm_weight[:, None] * mlp.W_in)
