"""Means of quantities measured case by case, too many to keep.

Every sum is kept about the running mean and moved when the mean moves (Chan, Golub and LeVeque 1983), in
float64: an offset far larger than the spread costs no digits, and memory does not grow with the cases.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mechft.errors import require
from mechft.statistics import Z_95, Estimate


@dataclass(frozen=True)
class Means:
    """Means of many quantities over the same cases.

    Attributes:
        n: Number of cases.
        mean: Float["*quantity"], float64 on the CPU.
        scatter: Sums of squared deviations from the mean, same shape.
    """

    n: int
    mean: Tensor
    scatter: Tensor

    def half_width(self) -> Tensor:
        """Half of each mean's 95% normal interval over cases; NaN where there is one case."""
        if self.n == 1:
            return torch.full_like(self.mean, float("nan"))
        return Z_95 * (self.scatter / (self.n - 1) / self.n).sqrt()

    def estimate(self, *index: int) -> Estimate:
        """One of the means with its 95% normal interval over cases."""
        value, half = float(self.mean[index]), float(self.half_width()[index])
        return Estimate(value, self.n, value - half, value + half)


class MeanFitter:
    """Means of quantities, case by case, batch by batch."""

    def __init__(self) -> None:
        self._n = 0
        self._mean = self._scatter = torch.zeros(0, dtype=torch.float64)

    def update(self, values: Float[Tensor, "case ..."]) -> None:
        """Add cases.

        Raises:
            ConfigError: If there is none, a value is not finite, or the shape is another than before.
        """
        values = finite_float64(values)
        mean = values.mean(0).cpu()
        scatter = (values - values.mean(0)).square().sum(0).cpu()
        if self._n == 0:
            self._n, self._mean, self._scatter = len(values), mean, scatter
            return
        require(
            mean.shape == self._mean.shape,
            f"Every batch holds the same quantities; got {tuple(mean.shape)} after "
            f"{tuple(self._mean.shape)}.",
        )
        total = self._n + len(values)
        shift = mean - self._mean
        self._scatter += scatter + shift.square() * (self._n * len(values) / total)
        self._mean += shift * (len(values) / total)
        self._n = total

    def result(self) -> Means:
        """The means so far.

        Raises:
            ConfigError: If nothing was added.
        """
        require(self._n > 0, "A mean needs at least one value; got none.")
        return Means(self._n, self._mean.clone(), self._scatter.clone())


def finite_float64(
    values: Float[Tensor, "row ..."], what: str = "The data"
) -> Float[Tensor, "row ..."]:
    """The values in float64, on the CPU where their device has none.

    Raises:
        ConfigError: If there is no row or a value is not finite; says of ``what``.
    """
    require(len(values) > 0, f"Statistics need at least one row; {what} has none.")
    if values.device.type == "mps":  # has no float64
        values = values.cpu()
    values = values.detach().double()
    require(
        bool(values.isfinite().all()),
        f"{what} holds values that are not finite; the model has diverged or overflowed.",
    )
    return values
