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
from mechft.analysis.units import UnitMask, prunable_parameters, pruned, sum_over_inputs
from mechft.errors import ConfigError, require
from mechft.models.fused import fused_logits
from mechft.randomness import generator
from mechft.statistics import proportion
from mechft.tasks.batch import TokenBatch
from mechft.training.evaluation import predictions

if TYPE_CHECKING:
    import pandas as pd
    from transformer_lens import HookedTransformer

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


def gradient_times_weight(model: HookedTransformer, batch: TokenBatch) -> UnitScores:
    """Signed gradient × weight of the answer loss on ``batch``, summed over each unit's inputs.

    Cost: one fused forward and backward to the answer position.
    """
    require(len(batch) > 0, "A batch needs at least one row; got none.")
    parameters = prunable_parameters(model)
    asked = torch.tensor([batch.answer_position])
    with torch.enable_grad():
        loss = F.cross_entropy(fused_logits(model, batch.tokens, asked)[:, 0], batch.answer)
        gradients = torch.autograd.grad(loss, list(parameters.values()))
    return UnitScores(
        {
            name: sum_over_inputs(name, gradient * parameter.detach())
            for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True)
        }
    )


def random_scores(model: HookedTransformer, seed: int) -> UnitScores:
    """Scores that rank the units in random order: the control for any other score."""
    draws = generator(seed, "random_scores")
    return UnitScores(
        {
            name: torch.rand(sum_over_inputs(name, p.detach()).shape, generator=draws)
            for name, p in prunable_parameters(model).items()
        }
    )


@dataclass(frozen=True)
class PruneCurve(Result):
    """Accuracy after removing the K highest-scoring neurons, beside K random ones.

    Columns: model, k, score ("gradient×weight" or "random"), task, accuracy, ci_low, ci_high, n. For
    the random control accuracy is the mean over draws and the interval their lowest and highest.

    Attributes:
        scores: The scores the neurons were ranked by.
    """

    scores: UnitScores

    def where(self, count: int) -> pd.DataFrame:
        """How many of the ``count`` removed neurons lie in each weight matrix."""
        import pandas as pd

        counts = self.scores.top(count).counts()
        return pd.DataFrame(
            [
                {"block": int(n.split(".")[1]), "matrix": n.split(".", 2)[2], "units": units}
                for n, units in counts.items()
            ],
            columns=["block", "matrix", "units"],
        )


def prune_curve(
    model: HookedTransformer,
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
        random_draws: Random orders in the control.
        seed: Seed of the random orders.
        name: What the frame calls the model.

    Raises:
        ConfigError: If a K exceeds the number of units.

    Cost: one gradient pass, then one evaluation per K, task and order.
    """
    scored = gradient_times_weight(model, revive)
    for count in counts:
        scored.top(count)  # all counts are checked before the first evaluation
    orders = {"gradient×weight": [scored]}
    orders["random"] = [random_scores(model, seed + draw) for draw in range(random_draws)]
    rows = []
    for score, draws in orders.items():
        for count in counts:
            right = {task: [] for task in tasks}  # type: dict[str, list[int]]
            for draw in draws if count else draws[:1]:
                with pruned(model, draw.top(count)):
                    for task, batch in tasks.items():
                        hits = predictions(model, batch) == batch.answer
                        right[task].append(int(hits.sum()))
            for task, hits_by_draw in right.items():
                shares = [proportion(hits, len(tasks[task])) for hits in hits_by_draw]
                alone = len(shares) == 1
                rows.append(
                    {
                        "model": name,
                        "k": count,
                        "score": score,
                        "task": task,
                        "accuracy": sum(s.value for s in shares) / len(shares),
                        "ci_low": shares[0].low if alone else min(s.value for s in shares),
                        "ci_high": shares[0].high if alone else max(s.value for s in shares),
                        "n": shares[0].n * len(shares),
                    }
                )
    import pandas as pd

    return PruneCurve(pd.DataFrame(rows), scored)
