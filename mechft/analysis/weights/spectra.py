"""Singular values of a weight and of its change, at a cost linear in the longer side."""

from __future__ import annotations

import math
from dataclasses import dataclass

import einops
import torch
from jaxtyping import Float
from torch import Tensor

from mechft.analysis.weights.pairs import float64

_ROWS = 16_384  # rows of the longer side in float64 at a time: bounds memory for embeddings
_FEW_ROWS = 64  # the same where they are only summed, which the cache makes twice as fast


@dataclass(frozen=True)
class Directions:
    """How much of a change lies along the strongest directions of the matrix it changed.

    Attributes:
        k: Number of leading singular directions that hold the asked share of the base's squared norm.
        left: Share of the change's squared norm inside the base's first ``k`` left singular vectors
            (its inputs, for a matrix with inputs down).
        right: The same for the right singular vectors (its outputs).
        expected_left, expected_right: What a change in random directions has on average: k / side.
    """

    k: int
    left: float
    right: float
    expected_left: float
    expected_right: float


_NO_DIRECTIONS = Directions(0, math.nan, math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class MatrixChange:
    """All that is reported of one matrix and its change, gathered in one pass over the longer side.

    Attributes:
        squared_change, squared_base, squared_finetuned, inner: Squared Frobenius norms of the change and
            of the two matrices, and the matrices' inner product.
        triangle: R of change = QR, which has the change's singular values. Float["short short"].
        gram: baseᵀ base. Float["short short"].
        cross: baseᵀ change. Float["short short"].
        shape: Rows and columns.
        roundoff: Largest relative error of rounding to the coarser of the two precisions.
    """

    squared_change: float
    squared_base: float
    squared_finetuned: float
    inner: float
    triangle: Float[Tensor, "short short"]
    gram: Float[Tensor, "short short"]
    cross: Float[Tensor, "short short"]
    shape: tuple[int, int]
    roundoff: float

    def change_values(self) -> Float[Tensor, " short"]:
        """Singular values of the change, falling; exact zeros if nothing changed."""
        if self.squared_change == 0:
            return torch.zeros(min(self.shape), dtype=torch.float64)
        values: Tensor = torch.linalg.svdvals(self.triangle)
        return values.cpu()

    def base_values(self) -> Float[Tensor, " short"]:
        """Singular values of the base, falling, to about 1e-8 of the largest."""
        squares: Tensor = torch.linalg.eigvalsh(self.gram)
        return squares.flip(0).clamp_min(0).sqrt().cpu()

    def tolerance(self, largest: float) -> float:
        """Singular values of the change up to this could come from rounding alone.

        If the fine-tuned matrix is an exact sum of the base and a change of rank r, rounded once to the
        stored precision, the rounding errors' norm is at most roundoff × ‖fine-tuned‖, and by Weyl's
        inequality no singular value past the r-th exceeds it.
        """
        own = max(self.shape) * torch.finfo(torch.float64).eps * largest
        return self.roundoff * math.sqrt(self.squared_finetuned) + own

    def directions(self, energy: float) -> Directions:
        """The share of the change along the base's leading directions that hold ``energy`` of it."""
        if self.squared_change == 0 or self.squared_base == 0:
            return _NO_DIRECTIONS
        values, vectors = torch.linalg.eigh(self.gram)
        values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
        share = values.cumsum(0) / values.sum()
        k = min(int((share < energy - 1e-12).sum()) + 1, len(values))
        short = vectors[:, :k]
        # The other side's vectors are base @ short / singular value, so they need not be formed. Those
        # values are not small: the k-th holds at least (1 − energy) / side of the squared norm.
        kept = values[:k] > values[0] * 1e-12
        along = (short.T @ self.cross)[kept].square().sum(1) / values[:k][kept]
        inside = {
            "long": float(along.sum()) / self.squared_change,
            "short": float((self.triangle @ short).square().sum()) / self.squared_change,
        }
        rows, columns = self.shape
        left, right = ("long", "short") if rows >= columns else ("short", "long")
        return Directions(k, min(inside[left], 1), min(inside[right], 1), k / rows, k / columns)


def matrix_change(before: Float[Tensor, "i o"], after: Float[Tensor, "i o"]) -> MatrixChange:
    """Gather what is reported of a matrix and its change, in float64.

    Cost: for sides m ≥ n, one QR of m × n and two products, 2 m n² each, in blocks of rows: linear in
    the vocabulary for embeddings. Memory: three n × n matrices.
    """
    rows, columns = before.shape
    if rows < columns:
        before, after = before.T, after.T
    short = before.shape[1]
    device = before.device
    start = float64(before[:0]).new_zeros
    triangle, gram, cross = start(0, short), start(short, short), start(short, short)
    for mine, other in zip(before.split(_ROWS), after.split(_ROWS), strict=True):
        base = float64(mine)
        change = float64(other, device) - base
        gram += base.T @ base
        cross += base.T @ change
        triangle = torch.linalg.qr(torch.cat([triangle, change]), mode="r").R
    roundoff = max(torch.finfo(tensor.dtype).eps for tensor in (before, after)) / 2
    sums = squared_norms(before, after)
    return MatrixChange(*sums, triangle, gram, cross, (rows, columns), roundoff)


def squared_norms(before: Tensor, after: Tensor) -> tuple[float, float, float, float]:
    """Squared norms of the change, of the base and of the fine-tuned weight, and the two's inner product.

    In float64, in parts, so that an embedding's change is not in memory as a whole.
    """
    sums = torch.zeros(4, dtype=torch.float64)
    for mine, other in zip(before.split(_FEW_ROWS), after.split(_FEW_ROWS), strict=True):
        base = float64(mine).flatten()
        finetuned = float64(other, before.device).flatten()
        change = finetuned - base
        pairs = ((change, change), (base, base), (finetuned, finetuned), (base, finetuned))
        sums += torch.stack([one.dot(two) for one, two in pairs]).cpu()
    found: tuple[float, float, float, float] = tuple(sums.tolist())
    return found


def effective_rank(matrix: Tensor) -> float:
    """Exp of the entropy of the normalised singular values (Roy & Vetterli 2007).

    A stack of head matrices is laid side by side first; NaN for vectors and for zero matrices.
    """
    if matrix.dim() == 3:
        matrix = einops.rearrange(matrix, "head i o -> i (head o)")
    if matrix.dim() != 2:
        return math.nan
    return effective_rank_of(torch.linalg.svdvals(float64(matrix)))


def effective_rank_of(values: Float[Tensor, " value"]) -> float:
    """``effective_rank`` of a matrix with these singular values; NaN if all are 0."""
    total = float(values.sum())
    if total == 0:
        return math.nan
    share = values / total
    share = share[share > 0]
    return float((-(share * share.log()).sum()).exp())
