"""The difference of two models at one site, from running sums."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mechft.analysis.streaming.means import MeanFitter, finite_float64
from mechft.analysis.streaming.moments import PairMoments, PairMomentsFitter

DIRECTIONS = 10  # kept by default where the site is that wide


class SiteDifference:
    """Everything that is said of one site, gathered chunk by chunk.

    Moments are over every vector. What carries an interval is averaged within a row of the batch first:
    the positions of one text are no independent cases.
    """

    def __init__(self) -> None:
        self._moments = PairMomentsFitter()
        self._change = PairMomentsFitter()  # per row: ‖Δ‖, ‖base‖
        self._cosine = MeanFitter()

    def update(self, x: Float[Tensor, "row pos width"], y: Float[Tensor, "row pos width"]) -> None:
        """Add rows; x is the base model's."""
        self._moments.update(x.flatten(0, 1), y.flatten(0, 1))
        x, y = finite_float64(x), finite_float64(y).to(x.device)
        change, norm = (v.norm(dim=2).mean(1, keepdim=True) for v in (y - x, x))
        self._change.update(change, norm)
        self._cosine.update(torch.cosine_similarity(x, y, dim=2).mean(1))

    def result(
        self, k: int | None
    ) -> tuple[dict[str, Any], list[dict[str, Any]], Float[Tensor, "k width"]]:
        """The numbers of the site, those of each number of directions up to k, and the directions."""
        moments = self._moments.result()
        change = self._change.result().ratio()
        cosine = self._cosine.result().estimate()
        explained, centred, directions = principal_directions(moments, k)
        numbers = {
            "relative_change": change.value,
            "ci_low": change.low,
            "ci_high": change.high,
            "cosine": cosine.value,
            "cosine_low": cosine.low,
            "cosine_high": cosine.high,
            "cka": moments.linear_cka(),
            "cka_debiased": moments.linear_cka(debiased=True),
            "mean_share": moments.mean_share(),
            "explained": float(explained[-1]),
            "explained_centred": float(centred[-1]),
            "k": len(explained),
            "n": change.n,
        }
        shares = [
            {"directions": i, "explained": a, "explained_centred": b}
            for i, (a, b) in enumerate(zip(explained.tolist(), centred.tolist(), strict=True), 1)
        ]
        return numbers, shares, directions


def principal_directions(
    moments: PairMoments, k: int | None = None
) -> tuple[Float[Tensor, " k"], Float[Tensor, " k"], Float[Tensor, "found width"]]:
    """The directions that hold most of y − x, and the shares of the first 1, 2, … of them.

    Args:
        moments: Of x and y, of the same width.
        k: How many; 10 by default, or the width where that is less.

    Returns:
        Shares of the mean ‖Δ‖² (mean shift included); shares of the variance about the mean, of the
        principal components in their own order; the directions of the first, as orthonormal rows. There
        are as many directions as the difference spans beyond rounding errors, at most k; shares of a
        difference of 0 are NaN.
    """
    mean, covariance = moments.difference()
    k = k or min(DIRECTIONS, len(mean))
    values, vectors = torch.linalg.eigh(covariance + torch.outer(mean, mean))
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1).T
    size = float(moments.covariance_x.trace() + moments.mean_x.square().sum())
    smallest = moments.tolerance**2 * size + 1e-14 * float(values[0])
    rank = int((values > smallest).sum())
    directions = vectors[: min(k, rank)]
    along = directions @ mean
    # Signs are free; a mean shift settles them, and the largest entry does where there is none.
    largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))[:, 0]
    tiny = along.abs() <= 1e-9 * values[: len(along)].sqrt()
    signs = torch.where(tiny, largest, along).sign()
    centred = torch.linalg.eigvalsh(covariance).flip(0).clamp(min=0)
    return _shares(values, k), _shares(centred, k), directions * signs[:, None]


def _shares(values: Float[Tensor, " width"], k: int) -> Float[Tensor, " k"]:
    return (values.cumsum(0) / values.sum())[:k]  # 0 / 0 is NaN: nothing moved
