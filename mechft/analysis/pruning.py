"""Does removing a few units bring a capability back? (Jain et al. 2024, Fig. 7 and App. D)

One step: every unit is scored once on the capability to revive, and the K highest-scoring are set to zero,
or put back to what they were in the base ("graft"). The paper's score is gradient × weight, signed and
summed over a unit's weights; the control removes as many units at random.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool
from torch import Tensor

from mechft.analysis.batches import Data, each_batch
from mechft.analysis.result import Result
from mechft.analysis.units.masks import UnitPlaces, unit_places
from mechft.analysis.units.ranking import Mode, rank_units, replacement_model
from mechft.analysis.units.scores import UnitScores, gradient_times_weight, random_scores
from mechft.analysis.units.weight_edit import editing
from mechft.errors import require, unknown_name
from mechft.models.hook_points import ModelLike, as_model
from mechft.statistics import proportion
from mechft.training.evaluation import answered_right, commonest_answer

__all__ = ["PruneCurve", "gradient_times_weight", "prune_curve", "random_scores"]

if TYPE_CHECKING:
    import pandas as pd

DEFAULT_COUNTS = (0, 1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 100)
Hits = Bool[Tensor, "draw row"]


@dataclass(frozen=True)
class PruneCurve(Result):
    """Accuracy after removing the K highest-scoring neurons, beside K random ones.

    Columns: model, k, score ("gradient×weight" …, or "random"), task, accuracy, ci_low, ci_high, interval,
    n (rows), unit (the kind of units counted), mode ("zero" or "graft"). ``interval`` says what the ends
    are: "wilson" (95%, over rows), or for the random control, whose accuracy is the mean over draws, the
    "range" from the lowest draw to the highest (of one draw, or with nothing removed, that single value).

    The K with the highest accuracy looks better than it is, because it was chosen on the rows it is shown
    for; ``best`` takes these apart.

    Attributes:
        rankings: The scores units were ranked by, for each (model, score).
        hits: Which rows were answered right, for each (model, score, k, task). Bool["draw row"].
        commonest: What always giving the commonest right answer would score, for each (model, task): random
            removal need not find that out, and units chosen to raise an accuracy may.
    """

    rankings: Mapping[tuple[str, str], UnitScores] = field(repr=False)
    hits: Mapping[tuple[str, str, int, str], Hits] = field(repr=False)
    commonest: Mapping[tuple[str, str], float] = field(default_factory=dict, repr=False)

    @property
    def scores(self) -> dict[str, UnitScores]:
        """For each model the scores its units were ranked by: the first, where there are several."""
        found: dict[str, UnitScores] = {}
        for (model, _), ranked in self.rankings.items():
            found.setdefault(model, ranked)
        return found

    def _ranked(self, score: str | None) -> dict[str, UnitScores]:
        if score is None:
            return self.scores
        found = {model: ranked for (model, name), ranked in self.rankings.items() if name == score}
        if not found:
            raise unknown_name(
                "score of this curve", score, dict.fromkeys(s for _, s in self.rankings)
            )
        return found

    def where(self, count: int, score: str | None = None) -> pd.DataFrame:
        """How many of the ``count`` removed units lie in each weight matrix, for each model.

        Args:
            count: Number of units removed.
            score: Which score's units; the first if None.

        Returns:
            Columns as ``UnitPlaces``; places without any are left out.
        """
        frame = self.places(count, score).frame
        return frame[frame["units"] > 0].reset_index(drop=True)

    def places(self, count: int, score: str | None = None) -> UnitPlaces:
        """``where`` as a result with zeros, for its figure: a grid of blocks × components."""
        return unit_places({name: s.top(count) for name, s in self._ranked(score).items()})

    def best(self, task: str, at_most: int) -> pd.DataFrame:
        """The best K, chosen on every other row of a task and measured on the rows between.

        The control chooses its K with the same freedom.

        Args:
            task: Which task's accuracy to raise.
            at_most: Largest K to consider.

        Returns:
            A row for each model and score: model, score, task, k, chosen_accuracy (on the n_chosen rows
            that K was chosen on: optimistic), accuracy, ci_low, ci_high, interval, n (on the other rows),
            untouched (with nothing removed, on those; NaN if K = 0 was not measured), commonest (what always
            giving the commonest answer would score; NaN if not known).

        Raises:
            UnknownNameError: If the curve has no such task.
            ConfigError: If no K was measured up to ``at_most``, or the task has one row only.
        """
        known = dict.fromkeys(name for *_, name in self.hits)
        if task not in known:
            raise unknown_name("task of this curve", task, known)
        counts = sorted({k for *_, k, _ in self.hits if k <= at_most})
        require(
            bool(counts),
            f"No K up to {at_most} was measured; there are {sorted({k for *_, k, _ in self.hits})}.",
        )
        rows = []
        for model, score in dict.fromkeys((model, score) for model, score, *_ in self.hits):
            here = {k: self.hits[model, score, k, task] for k in counts}
            require(next(iter(here.values())).shape[1] > 1, "Choosing and testing takes two rows.")
            chosen = max(counts, key=lambda k: float(here[k][:, ::2].float().mean()))
            untouched = float(here[0][:, 1::2].float().mean()) if 0 in here else float("nan")
            rows.append(
                {"model": model, "score": score, "task": task, "k": chosen}
                | {"chosen_accuracy": float(here[chosen][:, ::2].float().mean())}
                | {"n_chosen": here[chosen][:, ::2].shape[1]}
                | accuracy_columns(here[chosen][:, 1::2], score)
                | {"untouched": untouched}
                | {"commonest": self.commonest.get((model, task), float("nan"))}
            )
        import pandas as pd

        return pd.DataFrame(rows)


def prune_curve(
    model: ModelLike,
    revive: Data,
    tasks: Mapping[str, Data],
    *,
    scores: str | UnitScores | Sequence[str | UnitScores] = "gradient×weight",
    unit: str = "neuron",
    counts: Sequence[int] = DEFAULT_COUNTS,
    mode: Mode = "zero",
    base: ModelLike | None = None,
    iterative: int | None = None,
    random_draws: int = 3,
    seed: int = 0,
    name: str = "model",
) -> PruneCurve:
    """Remove ever more units and watch several tasks.

    Args:
        model: The fine-tuned model; unchanged afterwards.
        revive: Rows of the capability to revive; scores come from these and no others. Batches may differ in
            length.
        tasks: Rows to measure accuracy on, by name; draw them from another stream than ``revive``.
        scores: What ranks the units: a name of ``SCORES``, scores made elsewhere, or several of either.
        unit: The kind of units, of ``UNIT_KINDS``.
        counts: Numbers K of units removed.
        mode: What becomes of a removed unit; "graft" needs a base, and its first-order score is
            "gradient×change".
        base: The model before fine-tuning, for grafting and for scores of change.
        iterative: Score again, with the removed units gone, after every so many; None scores once, as the
            paper does.
        random_draws: Random orders in the control, at least one.
        seed: Seed of the random orders.
        name: What the frame calls the model.

    Raises:
        ConfigError: If a K exceeds the number of units, there is nothing to measure, or a base is missing
            or of another shape.
        UnknownNameError: If a score, kind of unit or mode is not known.

    Cost: one gradient pass a score (iteratively: one every ``iterative`` units), then one evaluation per
    K, task and order; moving from one K to the next costs a few percent of an evaluation.
    """
    require(
        bool(counts) and bool(tasks) and random_draws >= 1,
        f"A pruning curve needs a count, a task and a random draw; got {len(counts)}, {len(tasks)} "
        f"and {random_draws}.",
    )
    model = as_model(model)
    replacement = replacement_model(model, mode, base)
    controls = [random_scores(model, seed, draw, unit=unit) for draw in range(random_draws)]
    for count in counts:
        controls[0].top(count)  # all counts are checked before anything is computed
    batches = {task: list(each_batch(data)) for task, data in tasks.items()}
    ranked = rank_units(
        model,
        revive,
        scores,
        unit=unit,
        mode=mode,
        base=base,
        iterative=iterative,
        upto=max(counts),
    )
    orders = {score: [order] for score, order in ranked.items()} | {"random": controls}
    hits: dict[tuple[str, str, int, str], Hits] = {}
    with editing(model, controls[0].layout, replacement) as edit:
        for score, draws in orders.items():
            for count in counts:
                found: dict[str, list[Tensor]] = {task: [] for task in tasks}
                for draw in draws if count else draws[:1]:
                    edit.replace(draw.top(count))
                    for task, parts in batches.items():
                        found[task].append(torch.cat([answered_right(model, p) for p in parts]))
                hits |= {(name, score, count, task): torch.stack(h) for task, h in found.items()}
    import pandas as pd

    frame = pd.DataFrame(
        [
            {"model": name, "k": k, "score": score, "task": task}
            | accuracy_columns(rows, score)
            | {"unit": unit, "mode": mode}
            for (name, score, k, task), rows in hits.items()
        ]
    )
    return PruneCurve(
        frame,
        {(name, score): order for score, order in ranked.items()},
        hits,
        {(name, task): commonest_answer(*parts) for task, parts in batches.items()},
    )


def accuracy_columns(hits: Hits, score: str) -> dict[str, float | int | str]:
    """Accuracy with its interval, as the columns of a curve."""
    shares = [proportion(int(rows.sum()), len(rows)) for rows in hits]
    ranked = score != "random"
    return {
        "accuracy": sum(s.value for s in shares) / len(shares),
        "ci_low": shares[0].low if ranked else min(s.value for s in shares),
        "ci_high": shares[0].high if ranked else max(s.value for s in shares),
        "interval": "wilson" if ranked else "range",
        "n": shares[0].n,
    }
