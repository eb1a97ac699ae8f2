"""How far each weight moved, by norms alone: the part of a weight diff that takes seconds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mechft.analysis.result import Result
from mechft.analysis.weights.pairs import WeightPair, weight_pairs
from mechft.models.hook_points import ModelLike


@dataclass(frozen=True)
class WeightNorms(Result):
    """How far each parameter moved from the base model's, by norms alone.

    Columns as in ``WeightDiff``, which has more: model, parameter, block (−1 outside the blocks), component,
    matrix (whether it maps one space to another), change (Frobenius norm of the difference),
    relative_change (over the base's norm; NaN where that is 0), size (numbers in it), share (of the whole
    model's squared change; NaN if nothing changed), share_of_size (of the whole model's numbers), base_norm.
    Exact functions of the weights: no intervals.
    """


def weight_norms(base: ModelLike, finetuned: ModelLike, *, name: str = "finetuned") -> WeightNorms:
    """Compare two models parameter by parameter, without ranks and directions.

    Raises:
        ConfigError: As ``diff_weights``.

    Cost: one pass over both models' weights; about 3 s for 124 million on one core. Differences are taken in
    the weights' own precision (float32 at least), and summed in float64.
    """
    rows = [
        {
            "model": name,
            "parameter": pair.name,
            "block": pair.block,
            "component": pair.component,
            "matrix": pair.is_matrix,
            **_norms(pair),
        }
        for pair in weight_pairs(base, finetuned).values()
    ]
    total = sum(row["change"] ** 2 for row in rows)
    size = sum(row["size"] for row in rows)
    for row in rows:
        row["share"] = row["change"] ** 2 / total if total else math.nan
        row["share_of_size"] = row["size"] / size
    import pandas as pd

    return WeightNorms(pd.DataFrame(rows))


def _norms(pair: WeightPair) -> dict[str, Any]:
    squares = [0.0, 0.0]
    # In parts, so that an embedding's change is not in memory as a whole.
    for before, after in zip(pair.before.split(4096), pair.after.split(4096), strict=True):
        mine, other = (_float32(part) for part in (before, after.to(before.device)))
        for place, value in enumerate((other - mine, mine)):
            squares[place] += float(value.square().sum(dtype=torch.float64))
    change, norm = (math.sqrt(square) for square in squares)
    return {
        "change": change,
        "relative_change": change / norm if norm else math.nan,
        "size": pair.before.numel(),
        "base_norm": norm,
    }


def _float32(tensor: Tensor) -> Tensor:
    """A weight in float32 at least, exactly; on the CPU where its device cannot sum in float64."""
    tensor = tensor.cpu() if tensor.device.type == "mps" else tensor
    return tensor if tensor.dtype == torch.float64 else tensor.float()
