"""Multinomial logistic regression, solved to its optimum: what a linear probe is fitted by.

The problem is convex, so that the answer does not depend on how it is solved. The features are turned
to their principal axes once, which makes the curvature nearly diagonal there; L-BFGS (Nocedal & Wright
2006, ch. 7) starts from that diagonal. Matrices have the classes first: a product of a few classes with
thousands of rows then runs along memory, five times as fast as the other way round.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from mechft.errors import require

_TURN_UP_TO = 1024  # width; the eigenvectors of wider features cost more than they save
_HISTORY = 30  # pairs of steps and gradient changes that L-BFGS remembers
_SHORTEST = 1e-6  # share of the full step below which a search ends
_ARMIJO = 1e-4

TOLERANCE = 4e-6
"""Loss still to be gained, in nats as the last curvature estimates it, at which a fit has converged. Unlike a
bound on the gradient it sees how much a small gradient gains along directions of small variance. The loss
is then about scikit-learn's at its default tolerance (``python -m tests.benchmarks.probing``)."""
MAX_ITERATIONS = 1000
"""Steps after which a fit is given up as not converged."""


class Design:
    """The features of one site, standardised and turned to their principal axes, with a last column of 1.

    Args:
        features: Float["row width"], in float32 or float64.

    Attributes:
        mean, std: Standardisation. Float["width"].
        axes: Principal axes as columns, Float["width width"]; None where features are too wide, or so
            degenerate that none are found.
        curvature: Mean square along each axis and of the 1. Float["width+1"].
        columns: The features, a column a row of data. Float["width+1 row"].
    """

    def __init__(self, features: Float[Tensor, "row width"]) -> None:
        require(len(features) > 0, "A probe needs rows to learn from; got none.")
        spread, self.mean = torch.std_mean(features, 0, correction=0)
        # A feature that is constant up to rounding carries nothing; it must not be blown up to unit size.
        smallest = 1e-6 * torch.maximum(self.mean.abs(), spread.max()).clamp_min(1e-30)
        self.std = torch.where(spread > smallest, spread, torch.ones_like(spread))
        inputs = ((features - self.mean) / self.std).T
        width, n = inputs.shape
        self.axes: Tensor | None = None
        self.columns = features.new_ones(width + 1, n)
        if width <= _TURN_UP_TO:
            self.axes = _principal_axes(inputs @ inputs.T)
        if self.axes is not None:
            torch.mm(self.axes.T, inputs, out=self.columns[:-1])
        else:
            self.columns[:-1] = inputs
        self.curvature = self.columns.square().mean(1)

    def turn(self, features: Float[Tensor, "row width"]) -> Float[Tensor, "row width+1"]:
        """Other features of the same site in these coordinates."""
        inputs = (features.to(self.mean.dtype) - self.mean) / self.std
        return F.pad(inputs if self.axes is None else inputs @ self.axes, (0, 1), value=1.0)

    def unturned(
        self, weight: Float[Tensor, "class width+1"]
    ) -> tuple[Float[Tensor, "width class"], Float[Tensor, " class"]]:
        """Weights and biases for standardised features, from a fit in these coordinates."""
        inner = weight[:, :-1].T
        return (inner if self.axes is None else self.axes @ inner), weight[:, -1]


def _principal_axes(gram: Float[Tensor, "width width"]) -> Tensor | None:
    """Eigenvectors as columns; None if they cannot be found, and the solver does without.

    LAPACK's divide and conquer fails on some float32 matrices with many equal eigenvalues: a compiled
    program's stream has channels that are copies of each other, or noise. In float64 it has not failed.
    """
    for dtype in dict.fromkeys((gram.dtype, torch.float64)):
        try:
            axes: Tensor = torch.linalg.eigh(gram.to(dtype)).eigenvectors
        except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
            continue
        return axes.to(gram.dtype)
    return None


@dataclass(frozen=True)
class Fit:
    """Where the solver ended.

    Attributes:
        weight: Float["class width+1"], in the coordinates of the ``Design``; the last column is the bias.
        loss: Penalised loss there, nats.
        decrement: Loss still to be gained by the last estimate of the curvature, nats.
        iterations: Steps taken.
        converged: Whether the decrement came down to the tolerance.
    """

    weight: Float[Tensor, "class axis"]
    loss: float
    decrement: float
    iterations: int
    converged: bool


def fit_logistic(
    design: Design,
    index: Int[Tensor, " row"],
    n_classes: int,
    l2: float,
    *,
    n_rows: int | None = None,
    start: Float[Tensor, "class axis"] | None = None,
    tolerance: float = TOLERANCE,
    max_iterations: int = MAX_ITERATIONS,
) -> Fit:
    """Minimise mean cross-entropy + l2 × ‖W‖² over W and the bias, which goes without penalty.

    scikit-learn's ``C`` is 1 / (2 × l2 × rows).

    Args:
        design: The features.
        index: Class of each row, in 0..n_classes − 1.
        n_classes: Number of classes; those without a row get a falling bias.
        l2: Weight of the penalty, at least 0.
        n_rows: Use the first rows only.
        start: Weights to start from, such as those of another ``l2``.
        tolerance: Loss still to be gained, nats, to end at; see ``TOLERANCE``.
        max_iterations: Steps after which to end in any case.

    Cost: two products of classes × width × rows a step; tens to hundreds of steps.
    """
    n = len(index) if n_rows is None else n_rows
    columns, index = design.columns[:, :n], index[:n]
    penalty = columns.new_full((len(columns),), float(l2))
    penalty[-1] = 0.0
    truth = F.one_hot(index, n_classes).T.to(columns.dtype).contiguous()
    share = truth.mean(1, keepdim=True)
    # The Hessian at W = 0 is (diag(share) − share shareᵀ) ⊗ covariance; this is its diagonal.
    spread = (share * (1 - share)).clamp_min(1.0 / max(n, 4))
    inverse = 1 / (spread * design.curvature.clamp_min(1e-6) + 2 * penalty)

    def evaluate(weight: Tensor) -> tuple[Tensor, Tensor]:
        log_probability = (weight @ columns).log_softmax(0)
        loss = (penalty * weight.square()).sum()
        loss = loss - torch.dot(log_probability.flatten(), truth.flatten()) / n
        residual = log_probability.exp_().sub_(truth)
        return loss, (residual @ columns.T).div_(n).add_(2 * penalty * weight)

    weight = columns.new_zeros(n_classes, len(columns)) if start is None else start
    loss, gradient = evaluate(weight)
    memory = _Memory(inverse)
    iterations = 0
    while True:
        direction = memory.direction(gradient)
        slope = float((gradient * direction).sum())
        decrement = -slope / 2  # Newton's, with the estimated curvature
        # Before the first step the curvature at 0 stands in, which may be far too large here.
        converged = decrement <= (1e-3 * tolerance if memory.empty else tolerance)
        if converged or iterations == max_iterations:
            break
        slack = 1e-7 * loss.abs().clamp_min(1e-3)  # float32 does not tell smaller changes apart
        step, found = 1.0, False
        while not found and step > _SHORTEST and slope < 0:
            new_loss, new_gradient = evaluate(weight + step * direction)
            found = bool(new_loss <= loss + _ARMIJO * step * slope + slack)
            step = step if found else step / 2
        if not found:
            if memory.empty:
                break
            memory = _Memory(inverse)  # rounding has made what it holds useless
            continue
        memory.remember(step * direction, new_gradient - gradient)
        weight, loss, gradient = weight + step * direction, new_loss, new_gradient
        iterations += 1
    return Fit(weight, float(loss), decrement, iterations, converged)


class _Memory:
    """L-BFGS's inverse Hessian in compact form (Byrd, Nocedal & Schnabel 1994, eq. 3.1).

    A few products with all remembered pairs at once, instead of two loops over them.
    """

    def __init__(self, inverse: Float[Tensor, "class axis"]) -> None:
        self.inverse = inverse
        self.steps: list[Tensor] = []
        self.changes: list[Tensor] = []

    @property
    def empty(self) -> bool:
        return not self.steps

    def remember(self, step: Tensor, change: Tensor) -> None:
        """Add a step and the change of the gradient along it, unless the curvature is not positive."""
        if float((step * change).sum()) > 0:
            self.steps = [*self.steps[1 - _HISTORY :], step.flatten()]
            self.changes = [*self.changes[1 - _HISTORY :], change.flatten()]

    def direction(self, gradient: Tensor) -> Tensor:
        """Minus the approximate inverse Hessian times the gradient."""
        if self.empty:
            return -gradient * self.inverse
        steps, changes = torch.stack(self.steps), torch.stack(self.changes)
        step, change = steps[-1], changes[-1]
        # The curvature falls as rows become certain; the last step says by how much.
        inverse = self.inverse * ((step @ change) / (change * self.inverse.flatten() @ change))
        scaled = gradient * inverse
        preconditioned = changes * inverse.flatten()
        cross = (steps @ changes.T).double()
        upper = cross.triu()
        first = torch.linalg.solve_triangular(
            upper, (steps @ gradient.flatten()).double()[:, None], upper=True
        )
        middle = torch.diag(cross.diagonal()) + (changes @ preconditioned.T).double()
        second = torch.linalg.solve_triangular(
            upper.T,
            middle @ first - (preconditioned @ gradient.flatten()).double()[:, None],
            upper=False,
        )
        correction: Tensor = second[:, 0].to(steps) @ steps
        correction = correction - first[:, 0].to(steps) @ preconditioned
        return -(scaled + correction.view_as(scaled))
