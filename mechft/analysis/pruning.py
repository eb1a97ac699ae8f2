"""Does removing a few neurons bring a capability back? (Jain et al. 2024, Fig. 7 and App. D)

One step: every neuron is scored once by gradient × weight of the loss on the capability to revive,
summed over its incoming weights. Setting the weights to zero changes that loss by −Σ gradient × weight
to first order, so the largest scores are the neurons whose removal should help the capability most.
Scores are signed; the control removes as many neurons at random.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mechft.analysis.result import Result
from mechft.analysis.units import (
    UnitMask,
    prunable_parameters,
    pruned,
    sum_over_inputs,
    unit_count,
)
from mechft.errors import ConfigError, require
from mechft.models.fused import fused_logits
from mechft.models.hook_points import ModelLike, as_model, device_of
from mechft.randomness import generator
from mechft.statistics import proportion
from mechft.tasks.batch import TokenBatch
from mechft.training.evaluation import accuracy

if TYPE_CHECKING:
    import pandas as pd

_CHUNK = 128  # rows a backward pass; bounds its memory
DEFAULT_COUNTS = (0, 1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 100)


@dataclass(frozen=True)
class UnitScores:
    """A score for every prunable unit of a model; the larger, the sooner it is removed.

    Attributes:
        scores: For each weight matrix. Float["unit"].
    """

    scores: dict[str, Float[Tensor, " unit"]]

    def __len__(self) -> int:
        return sum(len(values) for values in self.scores.values())

    def top(self, count: int) -> UnitMask:
        """The ``count`` units with the largest scores (ties: the earlier matrix and unit first).

        Raises:
            ConfigError: If there are fewer units.
        """
        if not 0 <= count <= len(self):
            raise ConfigError(
                f"The number of units to remove lies in 0..{len(self)}, all there are; got {count}."
            )
        flat = torch.cat(list(self.scores.values()))
        chosen = torch.zeros(len(flat), dtype=torch.bool)
        chosen[flat.argsort(descending=True, stable=True)[:count]] = True
        sizes = [len(values) for values in self.scores.values()]
        return UnitMask(dict(zip(self.scores, chosen.split(sizes), strict=True)))


def gradient_times_weight(model: ModelLike, batch: TokenBatch) -> UnitScores:
    """Signed gradient × weight of the answer loss on ``batch``, summed over each unit's inputs.

    Cost: one fused forward and backward to the answer position.
    """
    require(len(batch) > 0, "A batch needs at least one row; got none.")
    model = as_model(model)
    batch = batch.to(device_of(model))
    parameters = prunable_parameters(model)
    asked = torch.tensor([batch.answer_position])
    total = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    for tokens, answer in zip(batch.tokens.split(_CHUNK), batch.answer.split(_CHUNK), strict=True):
        with torch.enable_grad():
            logits = fused_logits(model, tokens, asked)[:, 0]
            loss = F.cross_entropy(logits, answer, reduction="sum") / len(batch)
            gradients = torch.autograd.grad(loss, list(parameters.values()))
        for name, gradient in zip(parameters, gradients, strict=True):
            total[name] += gradient
    return UnitScores(
        {
            name: sum_over_inputs(name, total[name] * parameter.detach()).cpu()
            for name, parameter in parameters.items()
        }
    )


def random_scores(model: ModelLike, seed: int, draw: int = 0) -> UnitScores:
    """Scores that rank the units in random order: the control for any other score.

    Orders of different (seed, draw) are unrelated.
    """
    draws = generator(seed, "random_scores", draw)
    return UnitScores(
        {
            name: torch.rand(unit_count(name, p), generator=draws)
            for name, p in prunable_parameters(as_model(model)).items()
        }
    )


@dataclass(frozen=True)
class PruneCurve(Result):
    """Accuracy after removing the K highest-scoring neurons, beside K random ones.

    Columns: model, k, score ("gradient×weight" or "random"), task, accuracy, ci_low, ci_high, interval,
    n (rows). ``interval`` says what the ends are: "wilson" (95%, over rows), or for the random control,
    whose accuracy is the mean over draws, the "range" from the lowest draw to the highest (of one draw, or
    with nothing removed, that single value).

    Attributes:
        scores: The scores the neurons were ranked by, for each model.
    """

    scores: dict[str, UnitScores]

    def where(self, count: int) -> pd.DataFrame:
        """How many of the ``count`` removed neurons lie in each weight matrix, for each model."""
        import pandas as pd

        return pd.DataFrame(
            [
                {
                    "model": model,
                    "block": int(name.split(".")[1]),
                    "matrix": name.split(".", 2)[2],
                    "units": units,
                }
                for model, scores in self.scores.items()
                for name, units in scores.top(count).counts().items()
            ],
            columns=["model", "block", "matrix", "units"],
        )


def prune_curve(
    model: ModelLike,
    revive: TokenBatch,
    tasks: Mapping[str, TokenBatch],
    *,
    counts: Sequence[int] = DEFAULT_COUNTS,
    random_draws: int = 3,
    seed: int = 0,
    name: str = "model",
) -> PruneCurve:
    """Remove ever more neurons and watch several tasks.

    Args:
        model: The fine-tuned model; unchanged afterwards.
        revive: Rows of the capability to revive; scores come from these and no others.
        tasks: Rows to measure accuracy on, by name; draw them from another stream than ``revive``.
        counts: Numbers K of neurons removed.
        random_draws: Random orders in the control, at least one.
        seed: Seed of the random orders.
        name: What the frame calls the model.

    Raises:
        ConfigError: If a K exceeds the number of units, or there is nothing to measure.

    Cost: one gradient pass, then one evaluation per K, task and order.
    """
    require(
        bool(counts) and bool(tasks) and random_draws >= 1,
        f"A pruning curve needs a count, a task and a random draw; got {len(counts)}, {len(tasks)} "
        f"and {random_draws}.",
    )
    model = as_model(model)
    scored = gradient_times_weight(model, revive)
    for count in counts:
        scored.top(count)  # all counts are checked before the first evaluation
    orders = {"gradient×weight": [scored]}
    orders["random"] = [random_scores(model, seed, draw) for draw in range(random_draws)]
    rows = []
    for score, draws in orders.items():
        for count in counts:
            right = {task: [] for task in tasks}  # type: dict[str, list[int]]
            for draw in draws if count else draws[:1]:
                with pruned(model, draw.top(count)):
                    for task, batch in tasks.items():
                        right[task].append(round(accuracy(model, batch).value * len(batch)))
            for task, hits_by_draw in right.items():
                shares = [proportion(hits, len(tasks[task])) for hits in hits_by_draw]
                ranked = score != "random"
                rows.append(
                    {
                        "model": name,
                        "k": count,
                        "score": score,
                        "task": task,
                        "accuracy": sum(s.value for s in shares) / len(shares),
                        "ci_low": shares[0].low if ranked else min(s.value for s in shares),
                        "ci_high": shares[0].high if ranked else max(s.value for s in shares),
                        "interval": "wilson" if ranked else "range",
                        "n": shares[0].n,
                    }
                )
    import pandas as pd

    return PruneCurve(pd.DataFrame(rows), {name: scored})
