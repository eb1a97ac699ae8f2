"""Means and covariances of two models' activations, read batch by batch and never kept.

Sums are in float64 about the running mean: see ``centred_products``. Memory does not grow with the rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mechft.analysis.streaming.centred_products import CentredProducts
from mechft.analysis.streaming.means import finite_float64
from mechft.errors import ConfigError, require
from mechft.statistics import Z_95, Estimate

_PIECE = 1024  # rows turned to float64 at once; larger pieces were no faster
_ROUNDING = {torch.float64: 1e-13}  # of what comes out of a forward, over the norm of an activation
_ROUNDING_SINGLE = 5e-7


@dataclass(frozen=True)
class PairMoments:
    """First and second moments of two variables seen on the same rows (and what debiasing needs).

    Attributes:
        n: Number of rows.
        mean_x, mean_y: Float["x"], Float["y"].
        covariance_x, covariance_y, cross_covariance: Float["x x"], Float["y y"], Float["x y"]; sums over
            rows divided by n.
        mean_difference, covariance_difference: Of y − x, summed as such, so that a small difference of
            large activations keeps its digits; None where the widths differ.
        fourth: Means over rows of ‖x‖⁴, ‖x‖²‖y‖² and ‖y‖⁴ about the means.
        tolerance: Size of rounding errors over the size of what is rounded, from the type of the rows.
    """

    n: int
    mean_x: Float[Tensor, " x"]
    mean_y: Float[Tensor, " y"]
    covariance_x: Float[Tensor, "x x"]
    covariance_y: Float[Tensor, "y y"]
    cross_covariance: Float[Tensor, "x y"]
    mean_difference: Float[Tensor, " x"] | None
    covariance_difference: Float[Tensor, "x x"] | None
    fourth: tuple[float, float, float]
    tolerance: float

    @property
    def constant(self) -> bool:
        """Whether x or y holds nothing but rounding errors besides its mean."""
        pairs = ((self.mean_x, self.covariance_x), (self.mean_y, self.covariance_y))
        return any(
            float(covariance.trace()) <= self.tolerance**2 * float(mean.square().sum())
            for mean, covariance in pairs
        )

    def linear_cka(self, *, debiased: bool = False) -> float:
        """Linear centred kernel alignment: 1 if y is x rotated, shifted and scaled; NaN if one is constant.

        The plain form is biased upwards with few rows: for unrelated x and y it tends to 1 as the width
        grows past n, so with n below a few times the width only the debiased form can be read. That one
        replaces each inner product of kernels by its unbiased estimate; it may fall slightly below 0, and
        is NaN below 4 rows.

        Source: Kornblith et al. (2019), Sec. 3; Song et al. (2012), eq. 5, for the unbiased estimate.
        """
        if self.constant or (debiased and self.n < 4):
            return float("nan")
        products = [
            float(c.square().sum())
            for c in (self.covariance_x, self.cross_covariance, self.covariance_y)
        ]
        if debiased:
            n = self.n
            a, b = float(self.covariance_x.trace()), float(self.covariance_y.trace())
            traces = (a * a, a * b, b * b)
            # Song's estimate for linear kernels of centred rows; all three share the factor n / (n − 3).
            products = [
                p - f / (n - 2) + t / ((n - 1) * (n - 2))
                for p, f, t in zip(products, self.fourth, traces, strict=True)
            ]
        scale = products[0] * products[2]
        positive = products[0] > 0 and products[2] > 0
        return products[1] / scale**0.5 if positive else float("nan")

    def difference(self) -> tuple[Float[Tensor, " x"], Float[Tensor, "x x"]]:
        """Mean and covariance of y − x.

        Raises:
            ConfigError: If the widths differ.
        """
        if self.mean_difference is None or self.covariance_difference is None:
            raise ConfigError(
                "A difference needs variables of the same width; got "
                f"{len(self.mean_x)} and {len(self.mean_y)}."
            )
        return self.mean_difference, self.covariance_difference

    def mean_share(self) -> float:
        """Share of the mean ‖y − x‖² that is the mean difference's; NaN where there is none."""
        mean, covariance = self.difference()
        shift = float(mean.square().sum())
        total = shift + float(covariance.trace())
        return shift / total if total else float("nan")

    def ratio(self) -> Estimate:
        """mean(x) / mean(y) of two variables of width 1, with a 95% interval over rows (delta method).

        Source: Cochran (1977), Sampling Techniques, eq. 6.13.
        """
        bottom = float(self.mean_y)
        if bottom == 0:
            return Estimate(float("nan"), self.n, float("nan"), float("nan"))
        value = float(self.mean_x) / bottom
        if self.n == 1:
            return Estimate(value, 1, float("nan"), float("nan"))
        xx, xy, yy = (
            float(c) for c in (self.covariance_x, self.cross_covariance, self.covariance_y)
        )
        spread = max(0.0, xx - 2 * value * xy + value * value * yy) / (self.n - 1)
        half = Z_95 * spread**0.5 / abs(bottom)
        return Estimate(value, self.n, value - half, value + half)


class PairMomentsFitter:
    """Moments of two models' activations on the same rows, batch by batch.

    Memory: 8 bytes × (x² + x y + y²), and x² more where the widths are equal; nothing grows with the rows.

    Cost: 8 × width² floating-point operations a row.
    """

    def __init__(self) -> None:
        self._products: dict[str, CentredProducts] = {}
        self._tolerance = 0.0

    def update(self, x: Float[Tensor, "row x"], y: Float[Tensor, "row y"]) -> None:
        """Add rows, of any floating-point type; sums are in float64.

        Raises:
            ConfigError: If there is no row, x and y differ in rows, a value is not finite, or a width is
                another than before.
        """
        require(
            x.dim() == 2 and y.dim() == 2 and len(x) == len(y),
            f"Both variables need the same rows, Float['row width']; got {tuple(x.shape)} and "
            f"{tuple(y.shape)}.",
        )
        if self._products:
            self._check_widths(x.shape[1], y.shape[1])
        for kind in (x.dtype, y.dtype):
            self._tolerance = max(self._tolerance, _ROUNDING.get(kind, _ROUNDING_SINGLE))
        for u, v in zip(x.split(_PIECE), y.to(x.device).split(_PIECE), strict=True):
            self._add(finite_float64(u), finite_float64(v))

    def merge(self, other: PairMomentsFitter) -> None:
        """Add the rows of another fitter, such as one that saw another part of the data.

        Raises:
            ConfigError: If its widths are others.
        """
        if self._products and other._products:
            self._check_widths(*other._products["xy"].cross.shape)
        for name, new in other._products.items():
            self._products[name] = new + self._products[name] if name in self._products else new
        self._tolerance = max(self._tolerance, other._tolerance)

    def _check_widths(self, x: int, y: int) -> None:
        known = tuple(self._products["xy"].cross.shape)
        require(
            known == (x, y),
            f"Rows keep their widths from batch to batch; got {x} and {y} after {known[0]} and "
            f"{known[1]}.",
        )

    def _add(self, x: Tensor, y: Tensor) -> None:
        parts = {"x": x, "y": y}
        if x.shape == y.shape:
            parts["d"] = y - x
        means = {name: part.mean(0) for name, part in parts.items()}
        rest = {name: part - means[name] for name, part in parts.items()}
        norms = {name: part.square().sum(1) for name, part in rest.items()}
        for u, v in ("xx", "xy", "yy", "dd") if "d" in parts else ("xx", "xy", "yy"):
            new = CentredProducts.of(rest[u], rest[v], (norms[u], norms[v]), (means[u], means[v]))
            known = self._products.get(u + v)
            self._products[u + v] = new if known is None else known + new

    def result(self) -> PairMoments:
        """The moments so far, on the CPU.

        Raises:
            ConfigError: If nothing was added.
        """
        require(bool(self._products), "Moments need at least one row; got none.")
        xx, xy, yy = (self._products[name] for name in ("xx", "xy", "yy"))
        dd = self._products.get("dd")
        return PairMoments(
            n=xx.n,
            mean_x=xx.mean_u.cpu(),
            mean_y=yy.mean_u.cpu(),
            covariance_x=xx.covariance(),
            covariance_y=yy.covariance(),
            cross_covariance=xy.covariance(),
            mean_difference=None if dd is None else dd.mean_u.cpu(),
            covariance_difference=None if dd is None else dd.covariance(),
            fourth=tuple(float(p.norms) / p.n for p in (xx, xy, yy)),  # type: ignore[arg-type]
            tolerance=self._tolerance,
        )
