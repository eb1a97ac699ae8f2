"""How the QK and OV circuits of attention heads changed, without ever writing them out.

A head looks through W_Q W_Kᵀ and moves W_V W_O, both Float["d_model d_model"] of rank d_head at most.
Different factors can give the same circuit (a rotation inside the head), so the circuits are what to
compare, and factors that moved far need not mean that the head did (Elhage et al. 2021).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mechft.analysis.result import Result
from mechft.analysis.weights.pairs import WeightPair, float64, weight_pairs
from mechft.analysis.weights.spectra import effective_rank_of
from mechft.errors import require
from mechft.models.hook_points import ModelLike

Factors = Float[Tensor, "head d_model inner"]


@dataclass(frozen=True)
class CircuitDiff(Result):
    """How each head's QK circuit W_Q W_Kᵀ and OV circuit W_V W_O moved from the base model's.

    Columns: model, block, head, key_value_head (the one it shares, with grouped queries), circuit ("QK"
    or "OV"), change (Frobenius norm of the difference), base_norm, relative_change (NaN where the base's
    circuit is 0), cosine (NaN where either is 0), effective_rank (of the difference; at most twice
    d_head; NaN where it is within rounding), base_effective_rank. No intervals: exact functions of the
    weights.
    """


def diff_circuits(base: ModelLike, finetuned: ModelLike, *, name: str = "finetuned") -> CircuitDiff:
    """Compare the circuits of every head of two models, in float64.

    Left out: biases (b_Q and b_K add terms that depend on one token only, b_V a constant), the gain of
    the norm before attention and that of query and key norms, and the rotation of rotary embeddings,
    without which QK is what a token sees of itself. The scale 1/√d_head changes no relative number.

    Args:
        base, finetuned: Models of the same kind and shape.
        name: What the frame calls the fine-tuned model.

    Raises:
        ConfigError: As ``diff_weights``, or if a block lacks one of W_Q, W_K, W_V, W_O.

    Source: Elhage et al. (2021), A Mathematical Framework for Transformer Circuits.

    Cost: per head, QR of two d_model × 2 d_head matrices and the singular values of a matrix of side
    2 d_head; nothing of size d_model × d_model where d_head is smaller than half of it. 0.03 s at tiny.
    """
    pairs = weight_pairs(base, finetuned)
    blocks = sorted({p.block for p in pairs.values() if p.in_block and p.component[:5] == "attn."})
    require(bool(blocks), "Circuits are compared head by head; these models have no attention.")
    rows: list[dict[str, Any]] = []
    for block in blocks:
        for circuit, (left, right) in {"QK": ("W_Q", "W_K"), "OV": ("W_V", "W_O")}.items():
            queries = _weight(pairs, block, "W_Q").before.shape[0]
            groups = queries // _weight(pairs, block, "W_K").before.shape[0]
            first, second = (
                _factors(_weight(pairs, block, kind), queries) for kind in (left, right)
            )
            stored = _weight(pairs, block, left).before.dtype
            rounding = torch.finfo(stored).eps / 2
            compared = compare_products(*first, *second, rounding=rounding)
            for head, numbers in enumerate(compared):
                place = {"model": name, "block": block, "head": head}
                rows.append(
                    place | {"key_value_head": head // groups, "circuit": circuit} | numbers
                )
    import pandas as pd

    return CircuitDiff(pd.DataFrame(rows))


def compare_products(
    left: Factors,
    left_after: Factors,
    right: Factors,
    right_after: Factors,
    *,
    rounding: float = 0.0,
) -> list[dict[str, float]]:
    """Compare left @ rightᵀ with left_after @ right_afterᵀ, head by head, through their factors.

    The difference is Δleft right_afterᵀ + left Δrightᵀ: written so, equal factors give exactly 0 and a
    small change loses no digits. With both sides' QR its singular values are those of a product of two
    triangles. A change no larger than a few roundings (``rounding``, relative) of the factors can make has
    no rank of its own: its effective rank is NaN.
    """
    change = _product(
        torch.cat([left_after - left, left], -1),
        torch.cat([right_after, right_after - right], -1),
    )
    before, after = _product(left, right), _product(left_after, right_after)
    inner = ((left.mT @ left_after) * (right.mT @ right_after)).sum((-1, -2))
    norms = [x.square().sum((-1, -2)).sqrt().tolist() for x in (change, before, after)]
    sizes = [x.square().sum((-1, -2)).sqrt() for x in (left, right, left_after, right_after)]
    noise = (8 * rounding * (sizes[0] * sizes[1] + sizes[2] * sizes[3])).tolist()
    spectra = [torch.linalg.svdvals(x).cpu() for x in (change, before)]
    found = []
    for head, (moved, was, now) in enumerate(zip(*norms, strict=True)):
        product = was * now
        cosine = max(-1.0, min(1.0, float(inner[head]) / product)) if product else math.nan
        found.append(
            {
                "change": moved,
                "base_norm": was,
                "relative_change": moved / was if was else math.nan,
                "cosine": 1.0 if product and not moved else cosine,
                "effective_rank": (
                    math.nan if moved <= noise[head] else effective_rank_of(spectra[0][head])
                ),
                "base_effective_rank": effective_rank_of(spectra[1][head]),
            }
        )
    return found


def _product(left: Factors, right: Factors) -> Float[Tensor, "head a b"]:
    """A small matrix with the singular values of left @ rightᵀ."""
    small: Tensor = torch.linalg.qr(left, mode="r").R @ torch.linalg.qr(right, mode="r").R.mT
    return small


def _weight(pairs: dict[str, WeightPair], block: int, kind: str) -> WeightPair:
    name = f"blocks.{block}.attn.{kind}"
    require(name in pairs, f"A head's circuits need W_Q, W_K, W_V and W_O; there is no {name}.")
    return pairs[name]


def _factors(pair: WeightPair, queries: int) -> tuple[Factors, Factors]:
    """Both models' factor, d_model down, one for each query head (grouped heads repeated)."""
    found = []
    for tensor in (pair.before, pair.after):
        value = float64(tensor, pair.before.device)
        value = value.mT if pair.kind == "W_O" else value
        found.append(value.repeat_interleave(queries // value.shape[0], 0))
    return found[0], found[1]
