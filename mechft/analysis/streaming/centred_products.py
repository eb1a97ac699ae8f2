"""Sums of products about the mean, which can be added to each other without losing digits.

When the mean moves, the sums are moved with it (Chan, Golub and LeVeque 1983; Pébay 2008 for the higher
ones), so that an offset far larger than the spread costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class CentredProducts:
    """Sums over rows of products of two variables u and v, about their means.

    Attributes:
        n, mean_u, mean_v: Rows and means.
        cross: Σ u vᵀ. Float["u v"].
        square_u, square_v: Σ‖u‖² and Σ‖v‖².
        skew_u, skew_v: Σ‖v‖² u and Σ‖u‖² v, which moving ``norms`` to another mean needs.
        norms: Σ‖u‖²‖v‖².
    """

    n: int
    mean_u: Tensor
    mean_v: Tensor
    cross: Tensor
    square_u: Tensor
    square_v: Tensor
    skew_u: Tensor
    skew_v: Tensor
    norms: Tensor

    @staticmethod
    def of(
        u: Tensor, v: Tensor, norms: tuple[Tensor, Tensor], means: tuple[Tensor, Tensor]
    ) -> CentredProducts:
        """The sums of rows given about their means, with each row's squared norms."""
        a, b = norms
        return CentredProducts(
            len(u), *means, u.T @ v, a.sum(), b.sum(), b @ u, a @ v, (a * b).sum()
        )

    def covariance(self) -> Float[Tensor, "u v"]:
        """Σ u vᵀ / n, on the CPU."""
        return (self.cross / self.n).cpu()

    def moved(self, mean_u: Tensor, mean_v: Tensor) -> CentredProducts:
        """The same sums about other means: each u becomes u + s, each v becomes v + t."""
        s, t = self.mean_u - mean_u, self.mean_v - mean_v
        n, ss, tt = self.n, s @ s, t @ t
        ct, sc = self.cross @ t, s @ self.cross
        # Σu = Σv = 0, so every term of first order is gone.
        return CentredProducts(
            n,
            mean_u,
            mean_v,
            torch.addr(self.cross, s, t, alpha=n),
            self.square_u + n * ss,
            self.square_v + n * tt,
            self.skew_u + s * self.square_v + 2 * ct + n * tt * s,
            self.skew_v + t * self.square_u + 2 * sc + n * ss * t,
            self.norms
            + 2 * (t @ self.skew_v)
            + 2 * (s @ self.skew_u)
            + tt * self.square_u
            + ss * self.square_v
            + 4 * (s @ ct)
            + n * ss * tt,
        )

    def __add__(self, other: CentredProducts) -> CentredProducts:
        share = other.n / (self.n + other.n)
        mean_u = self.mean_u + (other.mean_u - self.mean_u) * share
        mean_v = self.mean_v + (other.mean_v - self.mean_v) * share
        one, two = self.moved(mean_u, mean_v), other.moved(mean_u, mean_v)
        return CentredProducts(
            one.n + two.n,
            mean_u,
            mean_v,
            one.cross.add_(two.cross),
            one.square_u + two.square_u,
            one.square_v + two.square_v,
            one.skew_u + two.skew_u,
            one.skew_v + two.skew_v,
            one.norms + two.norms,
        )
