"""The straight line between two models in weight space, and beyond both ends.

Is there a barrier between the base and the fine-tuned model? Two models without one lie in the same basin:
fine-tuning moved within what the base had found (Frankle et al. 2020; Neyshabur et al. 2020). Beyond 1 the
change is exaggerated, before 0 it is negated (Ilharco et al. 2023).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from mechft.analysis.batches import Data
from mechft.analysis.metrics import Metric, summary
from mechft.analysis.result import Result
from mechft.analysis.weights.pairs import WeightPair, float64, movable_pairs, write_weights
from mechft.analysis.weights.sweep import TaskMeter
from mechft.errors import ConfigError, require
from mechft.models.build import clone
from mechft.models.hook_points import ModelLike, as_model
from mechft.statistics import bootstrap_interval

if TYPE_CHECKING:
    import pandas as pd
    from transformer_lens import HookedTransformer

DEFAULT_ALPHAS = (-0.5, -0.25, *(i / 10 for i in range(11)), 1.25, 1.5)
_COST_OF = {"loss": 1.0, "accuracy": -1.0}  # sign that makes a metric one to keep low


@dataclass(frozen=True)
class Interpolation(Result):
    """Metrics along the straight line from the base (alpha 0) through the fine-tuned model (alpha 1).

    Columns: model, alpha, task, metric, value, ci_low, ci_high (95% over rows: Wilson's for accuracy,
    the normal one otherwise), n.

    Attributes:
        barriers: How far the line rises above the straight line between its ends, one row a task.
            Columns: model, task, metric ("loss", or "accuracy" for the error rate), barrier (the largest
            rise over the measured alphas in [0, 1]; the ends rise by 0, so it is never negative), ci_low,
            ci_high (95% percentile bootstrap over rows, paired along the line, the maximum taken anew in
            each resample: a maximum of noisy means, so its low end exceeds 0 on noise alone), alpha
            (where it is), inner (the largest rise strictly between the ends: negative where the line sags
            below, as for a convex loss; NaN if no alpha is there), n.
    """

    barriers: pd.DataFrame


def interpolate(
    base: ModelLike,
    finetuned: ModelLike,
    tasks: Mapping[str, Data],
    *,
    alphas: Sequence[float] = DEFAULT_ALPHAS,
    metrics: Sequence[Metric] = ("accuracy", "loss"),
    name: str = "finetuned",
    seed: int = 0,
    draws: int = 1000,
) -> Interpolation:
    """Measure models at base + alpha × (fine-tuned − base), on all parameters.

    Everything runs in a copy of the base: hooks on either model take no part, and neither is changed.

    Args:
        base, finetuned: Models of the same kind, shape and precision.
        tasks: Rows to measure on, by name.
        alphas: Places on the line; 0 and 1, which are the two models bit for bit, are always added.
        metrics: What to measure; barriers come with "loss" and "accuracy". The "untouched" model of a
            metric is the base.
        name: What the frame calls the fine-tuned model.
        seed, draws: Of the bootstrap.

    Raises:
        ConfigError: As ``diff_weights``; or if there is no task, an alpha is not finite, the models
            differ in precision or in what they compute, or logits stop being finite on the way.
        UnknownNameError: If a metric is not known.

    Source: barrier, Frankle et al. (2020), Linear Mode Connectivity; in the form of Entezari et al.
    (2022), over the interpolated loss of the ends.

    Cost: one evaluation an alpha and task, and a copy of the model in memory.
    """
    places = sorted({*_checked(alphas), 0.0, 1.0})
    meter = TaskMeter(tasks, metrics)
    pairs = movable_pairs(base, finetuned)
    twin = clone(as_model(base))
    meter.refer_to(twin)
    values: dict[tuple[str, str], list[Tensor]] = {}
    for alpha in places:
        _move(twin, pairs, alpha)
        for key, found in meter.measure(twin, f"alpha = {alpha:g}").items():
            values.setdefault(key, []).append(found)
    rows, barriers = [], []
    for (task, metric), along in values.items():
        place = {"task": task, "metric": metric}
        for alpha, found in zip(places, along, strict=True):
            mean = summary(found, metric)
            measured = {"value": mean.value, "ci_low": mean.low, "ci_high": mean.high, "n": mean.n}
            rows.append({"model": name, "alpha": alpha} | place | measured)
        if metric in metrics and metric in _COST_OF:
            cost = _COST_OF[metric] * torch.stack(along).double()
            barriers.append({"model": name} | place | barrier(places, cost, seed=seed, draws=draws))
    import pandas as pd

    columns = ["model", "task", "metric", "barrier", "ci_low", "ci_high", "alpha", "inner", "n"]
    return Interpolation(pd.DataFrame(rows), pd.DataFrame(barriers, columns=columns))


def barrier(
    alphas: Sequence[float],
    cost: Float[Tensor, "alpha row"],
    *,
    seed: int = 0,
    draws: int = 1000,
) -> dict[str, Any]:
    """How far costs along a line rise above the straight line between those at alpha 0 and 1.

    Args:
        alphas: Places, 0 and 1 among them.
        cost: A number to keep low (a loss) for each place and row.
        seed, draws: Of the bootstrap.

    Returns:
        ``barrier``, ``ci_low``, ``ci_high``, ``alpha``, ``inner`` and ``n``, as in ``Interpolation``.
    """
    places = list(alphas)
    require(
        0.0 in places and 1.0 in places, f"A barrier lies between alphas 0 and 1; got {places}."
    )
    start, end = cost[places.index(0.0)], cost[places.index(1.0)]
    inside = [i for i, alpha in enumerate(places) if 0 <= alpha <= 1]
    share = torch.tensor([places[i] for i in inside], dtype=cost.dtype)[:, None]
    rise = cost[inside] - ((1 - share) * start + share * end)
    rise[(share == 0)[:, 0] | (share == 1)[:, 0]] = 0  # by definition, without rounding
    means = rise.mean(1)
    top = int(means.argmax())
    inner = [float(m) for m, i in zip(means, inside, strict=True) if 0 < places[i] < 1]
    n = cost.shape[1]
    low, high = bootstrap_interval(rise, lambda means: means.amax(0), seed=seed, draws=draws)
    return {
        "barrier": float(means[top]),
        "ci_low": low,
        "ci_high": high,
        "alpha": places[inside[top]],
        "inner": max(inner, default=math.nan),
        "n": n,
    }


def interpolated_model(base: ModelLike, finetuned: ModelLike, alpha: float) -> HookedTransformer:
    """A new model at base + alpha × (fine-tuned − base); 0 and 1 are the two models bit for bit.

    Raises:
        ConfigError: As ``interpolate``.
    """
    (alpha,) = _checked([alpha])
    pairs = movable_pairs(base, finetuned)
    twin = clone(as_model(base))
    _move(twin, pairs, alpha)
    return twin


def _checked(alphas: Sequence[float]) -> list[float]:
    for alpha in alphas:
        if isinstance(alpha, (bool, str)) or not math.isfinite(alpha):
            raise ConfigError(
                f"An alpha is a finite number: 0 the base, 1 the fine-tuned model; got {alpha!r}."
            )
    return [float(alpha) for alpha in alphas]


@torch.no_grad()
def _move(model: HookedTransformer, pairs: Mapping[str, WeightPair], alpha: float) -> None:
    """Put a scratch model at a place on the line."""
    write_weights(model, {name: _between(pair, alpha) for name, pair in pairs.items()})


def _between(pair: WeightPair, alpha: float) -> Tensor:
    if alpha in (0, 1):  # base + 1 × (fine-tuned − base) would differ from it by rounding
        return pair.before if alpha == 0 else pair.after
    before, after = float64(pair.before), float64(pair.after, pair.before.device)
    return before + alpha * (after - before)
