"""How far each parameter moved from the base model, how many directions it took, and which."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from mechft.analysis.result import Result
from mechft.analysis.weights.pairs import WeightPair, matrix, weight_pairs
from mechft.analysis.weights.spectra import (
    effective_rank as effective_rank,  # known from here as well
)
from mechft.analysis.weights.spectra import effective_rank_of, matrix_change, squared_norms
from mechft.errors import require
from mechft.models.hook_points import ModelLike

if TYPE_CHECKING:
    import pandas as pd

_HEADS = ("W_Q", "W_K", "W_V", "W_O")
_SHARES = ("share", "share_of_size")


@dataclass(frozen=True)
class WeightDiff(Result):
    """How far each parameter moved from the base model.

    Columns: model, parameter, block (−1 outside the blocks), component, matrix (whether it maps one space
    to another, as biases and norms do not), change (Frobenius norm of the
    difference), relative_change (over the base's norm; NaN where that is 0), cosine (between the two
    models' values; NaN where either is 0), effective_rank (of the difference: exp of the entropy of its
    normalised singular values), rank (of the difference: singular values above what rounding the
    fine-tuned weights once could leave behind), size (numbers in it), share (of the whole model's
    squared change), share_of_size (of the whole model's numbers: the share of a change spread evenly),
    base_norm, finetuned_norm, top_k (leading singular directions of the base that hold the asked energy,
    90% of its squared norm by default), left_energy and right_energy (share of the squared change inside
    the base's top_k left and right singular vectors), left_expected and right_expected (what a change in
    random directions has there on average: top_k over the side's length).

    Matrices have inputs down and outputs across, so left is what a matrix reads and right what it writes;
    outside the blocks a bridge's matrices are as its Hugging Face model stores them. Heads are laid side
    by side (W_O: under each other), which is the matrix the model multiplies by. Ranks and energies are
    NaN for biases and norms, and for all if they were not asked for (``spectra=False``). The numbers are
    exact functions of the weights and have no intervals.

    Attributes:
        heads: The same columns and ``head`` for each head of W_Q, W_K, W_V and W_O by itself (grouped
            key and value heads once).
    """

    heads: pd.DataFrame

    def by_block(self) -> pd.DataFrame:
        """Change of each block as one long vector; −1 is all that lies outside the blocks.

        Columns: model, block, size, change, base_norm, relative_change, cosine, share, share_of_size.
        """
        return _pooled(self.frame, ["model", "block"])

    def by_component(self) -> pd.DataFrame:
        """Change of each component over all blocks as one long vector; columns as ``by_block``."""
        return _pooled(self.frame, ["model", "component"])


def diff_weights(
    base: ModelLike,
    finetuned: ModelLike,
    *,
    name: str = "finetuned",
    energy: float = 0.9,
    spectra: bool = True,
) -> WeightDiff:
    """Compare two models parameter by parameter, in float64 whatever they are stored in.

    Args:
        base, finetuned: Models of the same kind and shape.
        name: What the frame calls the fine-tuned model.
        energy: Share of the base's squared norm that its leading directions hold.
        spectra: Whether ranks and directions are computed, which is what takes long.

    Raises:
        ConfigError: If their parameters differ in name or shape, a value is not finite, or ``energy`` is
            not in (0, 1].

    Source: effective rank, Roy & Vetterli (2007).

    Cost: for a matrix with sides m ≥ n, a QR of m × n, the singular values of one n × n matrix and the
    eigenvectors of another: linear in the vocabulary. Under a second at tiny; on one core, 8 s for a
    square matrix of side 2,048 (and eight times that for twice the side), 7 s for 50,257 × 768. Without
    spectra, about a second for 124 million weights on one core.
    """
    require(0 < energy <= 1, f"energy is a share in (0, 1]; got {energy}.")
    share = energy if spectra else None
    pairs = weight_pairs(base, finetuned)
    rows: list[dict[str, Any]] = []
    heads: list[dict[str, Any]] = []
    for pair in pairs.values():
        place: dict[str, Any] = {"model": name, "parameter": pair.name, "block": pair.block}
        place |= {"component": pair.component, "matrix": pair.is_matrix}
        rows.append(place | _numbers(pair, pair.before, pair.after, share))
        if pair.in_block and pair.kind in _HEADS:
            for head, (before, after) in enumerate(zip(pair.before, pair.after, strict=True)):
                heads.append(place | {"head": head} | _numbers(pair, before, after, share))
    total = sum(row["change"] ** 2 for row in rows)
    size = sum(row["size"] for row in rows)
    for row in (*rows, *heads):
        row["share"] = row["change"] ** 2 / total if total else math.nan
        row["share_of_size"] = row["size"] / size
    import pandas as pd

    columns = ["model", "parameter", "block", "component", "matrix", "head", *_MEASURED]
    table = pd.DataFrame(rows)[[c for c in columns if c != "head"]]
    return WeightDiff(table, pd.DataFrame(heads, columns=columns))


_MEASURED = (
    "change", "relative_change", "cosine", "effective_rank", "rank", "size", "share", "share_of_size",
    "base_norm", "finetuned_norm", "top_k", "left_energy", "left_expected", "right_energy",
    "right_expected",
)  # fmt: skip


def _numbers(
    pair: WeightPair, before: Tensor, after: Tensor, energy: float | None
) -> dict[str, Any]:
    """Everything measured of a weight, or of one head of it, but its share of the whole.

    Without ``energy`` norms alone.
    """
    if energy is None or not pair.is_matrix:
        *squares, inner = squared_norms(before, after)
        unknown = dict.fromkeys(("effective_rank", "rank", *_MEASURED[-5:]), math.nan)
        return _norms(squares, inner, before.numel()) | unknown
    found = matrix_change(matrix(before, pair.kind), matrix(after, pair.kind))
    values = found.change_values()
    directions = found.directions(energy)
    squares = [found.squared_change, found.squared_base, found.squared_finetuned]
    return _norms(squares, found.inner, before.numel()) | {
        "effective_rank": effective_rank_of(values),
        "rank": int((values > found.tolerance(float(values[0]))).sum()),
        "top_k": directions.k or math.nan,
        "left_energy": directions.left,
        "left_expected": directions.expected_left,
        "right_energy": directions.right,
        "right_expected": directions.expected_right,
    }


def _norms(squares: Sequence[float], inner: float, size: int) -> dict[str, Any]:
    """What the inner product and the squared norms of change, base and fine-tuned model say."""
    change, base, finetuned = (math.sqrt(square) for square in squares)
    product = base * finetuned
    cosine = max(-1.0, min(1.0, inner / product)) if product else math.nan
    return {
        "change": change,
        "relative_change": change / base if base else math.nan,
        "cosine": 1.0 if product and not change else cosine,
        "size": size,
        "base_norm": base,
        "finetuned_norm": finetuned,
    }


def _pooled(frame: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """All rows of a group as one long vector."""
    import pandas as pd

    rows = []
    for keys, part in frame.groupby(by, sort=False):
        inner = part["cosine"].fillna(0) * part["base_norm"] * part["finetuned_norm"]
        squares = [float(part[c].pow(2).sum()) for c in ("change", "base_norm", "finetuned_norm")]
        found = _norms(squares, float(inner.sum()), int(part["size"].sum()))
        shares = {column: part[column].sum(min_count=1) for column in _SHARES}
        rows.append(dict(zip(by, keys, strict=True)) | found | shares)
    columns = [*by, "size", "change", "base_norm", "relative_change", "cosine", *_SHARES]
    table = pd.DataFrame(rows)[columns]
    return table.sort_values(by, ignore_index=True) if "block" in by else table
