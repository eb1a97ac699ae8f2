"""Fitting linear probes: every site to its optimum, at a penalty chosen on rows held back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor

from mechft.analysis.probes import logistic
from mechft.analysis.probes.adamw import PAPER_STEPS, fit_adamw
from mechft.analysis.probes.linear_probes import Features, LinearProbe, LinearProbes, class_index
from mechft.analysis.probes.logistic import Design, Fit, fit_logistic
from mechft.errors import ConfigError, require, unknown_name
from mechft.randomness import generator

Optimizer = Literal["lbfgs", "paper"]
L2 = float | Sequence[float]
"""One weight of the penalty, or several to choose from on validation rows."""

DEFAULT_L2 = (1e-1, 1e-3, 1e-5, 1e-7, 1e-9)
"""Reaches far down: counts lie along directions of small variance, which a stronger penalty hides (at tiny,
block 1, "C(a)": 77% of rows right at 1e-5, 83% at 1e-7, 85% at 1e-9)."""
VALIDATION_SHARE = 0.2  # of the training rows, where none are given
_PATH_TOLERANCE = 3e-5  # enough to rank penalties by


class ProbeFitter:
    """Gathers features and labels batch by batch, then fits one linear probe a site.

    Args:
        l2: Weight of the squared norm of a probe's weights, on standardised features, beside the mean
            cross-entropy. Of several, each site gets the one that reads most validation rows
            right, of equals the one with the least cross-entropy there; its probe is then fitted again,
            on all rows it was given.
        optimizer: "lbfgs": to the optimum. "paper": the paper's 4,000 steps of AdamW, without ``l2``.
        steps: Steps of the "paper" optimiser; its schedule shrinks along.
        seed: Seed of the split and of the mini-batches.
        tolerance, max_iterations: As in ``fit_logistic``.

    Raises:
        ConfigError: If an option is out of range.
        UnknownNameError: If the optimiser is not known.
    """

    def __init__(
        self,
        l2: L2 = DEFAULT_L2,
        *,
        optimizer: Optimizer = "lbfgs",
        steps: int = PAPER_STEPS,
        seed: int = 0,
        tolerance: float = logistic.TOLERANCE,
        max_iterations: int = logistic.MAX_ITERATIONS,
    ) -> None:
        self.grid = check_l2(l2)
        if optimizer not in get_args(Optimizer):
            raise unknown_name("optimizer", optimizer, get_args(Optimizer))
        require(steps >= 1, f"Training a probe takes at least one step; got steps={steps}.")
        require(tolerance > 0, f"A tolerance is above 0; got {tolerance}.")
        require(max_iterations >= 1, f"max_iterations is at least 1; got {max_iterations}.")
        self.optimizer, self.steps, self.seed = optimizer, steps, seed
        self.tolerance, self.max_iterations = tolerance, max_iterations
        self._features: dict[str, list[Tensor]] = {}
        self._labels: list[Tensor] = []

    def update(self, features: Features, labels: Int[Tensor, " row"]) -> None:
        """Add a batch; ``labels`` serve every site.

        Raises:
            ConfigError: If rows and labels do not fit each other, a value is not finite, or the sites
                are not those of the batches before.
        """
        for site, value in features.items():
            require(
                value.dim() == 2 and len(value) == len(labels),
                f"A site's features have a row for each of the {len(labels)} labels; {site} has shape "
                f"{tuple(value.shape)}.",
            )
            require(
                bool(value.isfinite().all()),
                f"{site} holds values that are not finite; the model has diverged or overflowed.",
            )
        if self._labels and features.keys() != self._features.keys():
            raise ConfigError(
                f"Every batch has the same sites; got {list(features)} after {list(self._features)}."
            )
        for site, value in features.items():
            kept = value if value.dtype == torch.float64 else value.float()
            self._features.setdefault(site, []).append(kept.cpu())
        self._labels.append(labels.cpu())

    def result(
        self, validation: tuple[Features, Int[Tensor, " row"]] | None = None
    ) -> LinearProbes:
        """Fit the probes.

        Args:
            validation: Rows to choose ``l2`` on; without them, a fifth of the training rows.

        Raises:
            ConfigError: If there is no row, or only one class.

        Cost: ``python -m tests.benchmarks.probing`` measures it.
        """
        require(
            bool(self._labels) and bool(self._features), "A probe needs rows and sites; got none."
        )
        labels = torch.cat(self._labels)
        classes, index = class_index(labels)
        features = {site: torch.cat(parts) for site, parts in self._features.items()}
        majority = int(classes[torch.bincount(index).argmax()])
        if self.optimizer == "paper":
            fitted = fit_adamw(features, index, len(classes), steps=self.steps, seed=self.seed)
            probes = {
                site: LinearProbe(
                    *found, classes, l2=float("nan"), converged=None, iterations=self.steps
                )
                for site, found in fitted.items()
            }
            return LinearProbes(probes, classes, majority)
        probes = {}
        for site, value in features.items():
            held = None if validation is None else (validation[0][site], validation[1].cpu())
            probes[site] = self._fit_site(value, index, classes, held)
        return LinearProbes(probes, classes, majority)

    def _fit_site(
        self,
        features: Tensor,
        index: Tensor,
        classes: Tensor,
        held: tuple[Tensor, Tensor] | None,
    ) -> LinearProbe:
        if len(self.grid) > 1 and held is None:
            shuffled = torch.randperm(len(index), generator=generator(self.seed, "probe", "split"))
            features, index = features[shuffled], index[shuffled]
        design = Design(features)
        l2, start = self.grid[0], None
        if len(self.grid) > 1:
            l2, start = self._choose(design, index, classes, held)
        fit = fit_logistic(
            design, index, len(classes), l2, start=start,
            tolerance=self.tolerance, max_iterations=self.max_iterations,
        )  # fmt: skip
        weight, bias = design.unturned(fit.weight)
        return LinearProbe(
            weight, bias, design.mean, design.std, classes, l2, fit.converged, fit.iterations
        )

    def _choose(
        self, design: Design, index: Tensor, classes: Tensor, held: tuple[Tensor, Tensor] | None
    ) -> tuple[float, Tensor]:
        """The penalty that reads most validation rows right, and the weights it gave.

        From the strongest down, each fit starting at the last one. The path ends after two penalties in a
        row that were no better: weaker ones cost most, and a single one may be a bump.
        """
        n = len(index)
        if held is None:
            n_fit = max(1, n - max(1, round(VALIDATION_SHARE * n)))
            columns, truth = design.columns[:, n_fit:], index[n_fit:]
        else:
            n_fit, columns = n, design.turn(held[0].cpu()).T
            truth = torch.searchsorted(classes, held[1]).clamp_max(len(classes) - 1)
            known = classes[truth] == held[1]
            columns, truth = columns[:, known], truth[known]
        require(len(truth) > 0, "No validation row has a label that the training rows have.")
        best: tuple[tuple[int, float], float, Fit] | None = None
        fit: Fit | None = None
        worse = 0
        for l2 in self.grid:
            fit = fit_logistic(
                design, index, len(classes), l2, n_rows=n_fit, tolerance=_PATH_TOLERANCE,
                start=None if fit is None else fit.weight, max_iterations=self.max_iterations,
            )  # fmt: skip
            logits = fit.weight @ columns
            wrong = int((logits.argmax(0) != truth).sum())
            score = (wrong, float(F.cross_entropy(logits.T, truth)))
            if best is None or score < best[0]:
                best, worse = (score, l2, fit), 0
            else:
                worse += 1
                if worse == 2:
                    break
        assert best is not None
        return best[1], best[2].weight


def check_l2(l2: L2) -> tuple[float, ...]:
    """The penalties to try, strongest first.

    Raises:
        ConfigError: If there is none, or one is negative or not finite.
    """
    grid = tuple(l2) if isinstance(l2, Sequence) else (l2,)
    good = bool(grid) and all(0 <= value < float("inf") for value in grid)
    require(good, f"l2 is a finite number of at least 0, or several to choose from; got {l2!r}.")
    return tuple(sorted({float(value) for value in grid}, reverse=True))
