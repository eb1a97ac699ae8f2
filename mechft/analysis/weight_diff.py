"""How far each parameter moved from the base model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import einops
import torch
from torch import Tensor

from mechft.analysis.result import Result
from mechft.errors import ConfigError

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer


@dataclass(frozen=True)
class WeightDiff(Result):
    """How far each parameter moved from the base model.

    Columns: model, parameter, block (−1 outside the blocks), component, change (Frobenius norm of the
    difference), relative_change (over the base's norm; NaN where that is 0), cosine, effective_rank
    (of the difference: exp of the entropy of its normalised singular values; NaN for vectors).
    """


def diff_weights(
    base: HookedTransformer, finetuned: HookedTransformer, *, name: str = "finetuned"
) -> WeightDiff:
    """Compare two models parameter by parameter, in float64.

    Raises:
        ConfigError: If their parameters differ in name or shape.

    Cost: one singular value decomposition a matrix; under a second at tiny.
    """
    theirs = dict(finetuned.named_parameters())
    ours = dict(base.named_parameters())
    for key in ours.keys() | theirs.keys():
        if key not in ours or key not in theirs or ours[key].shape != theirs[key].shape:
            raise ConfigError(
                f"Models are compared parameter by parameter and need the same shape; they differ in "
                f"{key}. Compare their activations or behaviour instead."
            )
    rows = []
    for key, parameter in ours.items():
        before = parameter.detach().double()
        after = theirs[key].detach().double()
        delta, norm = after - before, float(before.norm())
        product = norm * float(after.norm())
        parts = key.split(".")
        inside = parts[0] == "blocks"
        rows.append(
            {
                "model": name,
                "parameter": key,
                "block": int(parts[1]) if inside else -1,
                "component": ".".join(parts[2:] if inside else parts),
                "change": float(delta.norm()),
                "relative_change": float(delta.norm()) / norm if norm else float("nan"),
                "cosine": float((before * after).sum()) / product if product else float("nan"),
                "effective_rank": effective_rank(delta),
            }
        )
    import pandas as pd

    return WeightDiff(pd.DataFrame(rows))


def effective_rank(matrix: Tensor) -> float:
    """Exp of the entropy of the normalised singular values (Roy & Vetterli 2007).

    A stack of head matrices is laid side by side first; NaN for vectors and for zero matrices.
    """
    if matrix.dim() == 3:
        matrix = einops.rearrange(matrix, "head i o -> i (head o)")
    if matrix.dim() != 2:
        return float("nan")
    values = torch.linalg.svdvals(matrix)
    if float(values.sum()) == 0:
        return float("nan")
    share = values / values.sum()
    share = share[share > 0]
    return float((-(share * share.log()).sum()).exp())
