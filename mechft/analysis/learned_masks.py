"""Which smallest set of units hides a capability? A mask learned by gradient descent.

Pruning in one step trusts that the effects of removals add up. Here every unit has a gate, all gates are
trained together to bring the loss on the capability down, and each removed unit costs ``l0``. The gradient
of a gate is gradient × weight at the weights with the gates in force, so that one step of this from a model
with nothing removed is the paper's score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from mechft.analysis.batches import Data, one_batch
from mechft.analysis.pruning import accuracy_columns
from mechft.analysis.result import Result
from mechft.analysis.units.gate_training import train_gates
from mechft.analysis.units.layout import unit_layout
from mechft.analysis.units.masks import UnitMask
from mechft.analysis.units.ranking import Mode, rank_units, replacement_model
from mechft.analysis.units.scores import UnitScores, random_scores
from mechft.analysis.units.shrinking import shrink
from mechft.analysis.units.weight_edit import editing
from mechft.errors import require
from mechft.models.hook_points import ModelLike, as_model
from mechft.training.evaluation import accuracy, answered_right

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class LearnedMask(Result):
    """Accuracy with a learned set of units removed, beside as many chosen greedily or at random.

    Columns: model, mask ("none", "learned", "gradient×weight", in graft mode "gradient×change", "random"), k
    (units removed), task, accuracy, ci_low, ci_high, interval, n (rows), unit, mode. ``interval`` as in
    ``PruneCurve``: "wilson", or for random masks the "range" over draws.

    Attributes:
        mask: The learned set.
        scores: Each unit's gate; the sooner removed, the larger. ``prune_curve`` takes them.
        trace: The training: l0, step, loss_revive, loss_keep (NaN without rows to keep), expected_removed
            (the expected L0), removed (gates more likely open than not).
        l0: The price of a unit that ``mask`` was trained with.
        reached: Whether ``mask`` reaches the target on the rows to revive; None if none was set.
    """

    mask: UnitMask
    scores: UnitScores = field(repr=False)
    trace: pd.DataFrame = field(repr=False)
    l0: float
    reached: bool | None


def learn_mask(
    model: ModelLike,
    revive: Data,
    tasks: Mapping[str, Data],
    *,
    keep: Data | None = None,
    unit: str = "neuron",
    mode: Mode = "zero",
    base: ModelLike | None = None,
    l0: float | Sequence[float] = 0.05,
    steps: int = 150,
    learning_rate: float = 0.3,
    batch_size: int = 96,
    target: float | None = None,
    random_draws: int = 3,
    seed: int = 0,
    name: str = "model",
) -> LearnedMask:
    """Learn which units to remove so that the answers to ``revive`` become right.

    Minimised: loss on ``revive`` + loss on ``keep`` + l0 × expected number of removed units. Gates start
    where nearly all are kept; Adam moves them; the model's weights are as before when this returns.

    Args:
        model: The fine-tuned model.
        revive: Rows of the capability to revive.
        tasks: Rows to measure accuracy on, by name; none of those trained on.
        keep: Rows that are to stay right, if any.
        unit: The kind of units, of ``UNIT_KINDS``.
        mode, base: What becomes of a removed unit, as in ``prune_curve``.
        l0: Price of a removed unit in nats; with a target, prices to try from the dearest on.
        steps: Steps of Adam for each price.
        learning_rate: Adam's; gates live on a log-odds scale.
        batch_size: Rows a step, of ``revive`` and of ``keep`` each.
        target: Accuracy on ``revive`` to reach. The dearest price whose set reaches it is taken (the set
            with the highest accuracy if none does), and the set is shrunk with ``shrink_mask``.
        random_draws: Random sets of the same size in the control, at least one.
        seed: Seed of rows, gates and random sets.
        name: What the frame calls the model.

    Raises:
        ConfigError: If a setting is outside what is allowed, or there is no row.

    Source: gates of Louizos et al. 2018. The gradient reaches a gate through its mean instead of through
    the one draw: a draw passes none where it is clipped to 0, as nearly all are at first.
    Cost: a forward and backward a step (0.2 s at tiny on one core), then an evaluation a mask and task;
    with a target an evaluation of ``revive`` for each unit of the set, two to four times over.
    """
    prices = [l0] if isinstance(l0, int | float) else sorted(l0, reverse=True)
    _check(prices, steps, learning_rate, batch_size, target, random_draws)
    require(bool(tasks), "A learned mask is measured on at least one task; got none.")
    revive, keep = one_batch(revive), None if keep is None else one_batch(keep)
    batches = {task: one_batch(data) for task, data in tasks.items()}
    model = as_model(model)
    layout = unit_layout(model, unit)
    replacement = replacement_model(model, mode, base)
    greedy_name = "gradient×change" if mode == "graft" else "gradient×weight"
    greedy = rank_units(model, revive, greedy_name, unit=unit, mode=mode, base=base)[greedy_name]
    tried: list[tuple[float, float, UnitMask, UnitScores]] = []  # accuracy, price, mask, scores
    trace: list[dict[str, float]] = []
    with editing(model, layout, replacement) as edit:
        for price in prices:
            gates, records = train_gates(
                edit, model, revive, keep, l0=price, steps=steps, learning_rate=learning_rate,
                batch_size=batch_size, seed=seed,
            )  # fmt: skip
            trace += records
            parts = gates.split(list(layout.sizes.values()))
            scores = UnitScores(dict(zip(layout.sizes, parts, strict=True)), layout, "learned")
            mask = scores.top(int((gates > 0).sum()))
            edit.replace(mask)
            share = 0.0 if target is None else accuracy(model, revive).value
            tried.append((share, price, mask, scores))
            if target is not None and share >= target:
                break
        share, price, mask, scores = max(tried, key=lambda one: (one[0], one[1]))
        reached = None if target is None else share >= target
        if reached:
            mask = shrink(edit, model, mask, revive, target or 0.0, scores)
        size = len(mask)
        masks = {"none": [mask - mask], "learned": [mask], greedy_name: [greedy.top(size)]}
        masks["random"] = [
            random_scores(model, seed, draw, unit=unit).top(size) for draw in range(random_draws)
        ]
        rows = []
        for kind, draws in masks.items():
            for task, batch in batches.items():
                hits = []
                for drawn in draws:
                    edit.replace(drawn)
                    hits.append(answered_right(model, batch))
                rows.append(
                    {"model": name, "mask": kind, "k": len(draws[0]), "task": task}
                    | accuracy_columns(torch.stack(hits), kind)
                    | {"unit": unit, "mode": mode}
                )
    import pandas as pd

    return LearnedMask(pd.DataFrame(rows), mask, scores, pd.DataFrame(trace), price, reached)


def _check(
    prices: Sequence[float],
    steps: int,
    learning_rate: float,
    batch_size: int,
    target: float | None,
    random_draws: int,
) -> None:
    require(
        bool(prices) and all(price >= 0 for price in prices),
        f"l0 is the price of a removed unit, 0 or more; got {list(prices)}.",
    )
    require(
        len(prices) == 1 or target is not None,
        f"Several prices are tried until a target is reached; got {len(prices)} prices and no target=.",
    )
    require(
        min(steps, batch_size, random_draws) >= 1 and learning_rate > 0,
        "A learned mask needs a step, a row a step, a random draw and a learning rate above 0; got "
        f"steps={steps}, batch_size={batch_size}, random_draws={random_draws}, "
        f"learning_rate={learning_rate}.",
    )
    require(target is None or 0 < target <= 1, f"A target is an accuracy in (0, 1]; got {target}.")
