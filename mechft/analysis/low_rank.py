"""How many directions of a fine-tuning's change carry what it did?

The change of every weight matrix is cut to its first r singular directions, the best change of rank r
there is (Eckart & Young 1936), and the model is asked again. If few ranks bring the new behaviour, it
rests on a small transformation; which ranks cost the old one is read off the same curve. The control
has the same singular values in random directions: what a change of that size and rank does on its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from mechft.analysis.batches import Data
from mechft.analysis.metrics import Metric, summary
from mechft.analysis.result import Result
from mechft.analysis.weights.pairs import write_weights
from mechft.analysis.weights.rank_cut import Keep, RankCut, Rest
from mechft.analysis.weights.sweep import TaskMeter
from mechft.errors import require, unknown_name
from mechft.models.build import clone
from mechft.models.hook_points import ModelLike, as_model
from mechft.statistics import Estimate, Proportion

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer


@dataclass(frozen=True)
class LowRank(Result):
    """A metric with the change of every block matrix cut to its first ``rank`` singular directions.

    Columns: model, keep ("top": only those directions are kept; "rest": only those are taken away),
    rest (whose the parameters outside the block matrices are), change ("own", "random": as large in
    random directions, or the whole models "base" and "finetuned"), rank (missing for the whole models),
    energy (share of the block matrices' squared change in the first ``rank`` directions of each), task,
    metric, value, ci_low, ci_high, interval ("wilson" or "normal", 95% over rows; "range": the lowest and
    highest of the random draws, whose mean is the value), n.
    """

    def ranks_to(
        self, task: str, share: float = 0.9, *, model: str | None = None, change: str = "own"
    ) -> int | None:
        """The fewest ranks with which a task has gone this share of the way to the fine-tuned model.

        From there on it stays: no larger measured rank falls back. With ``keep="rest"`` it is the fewest
        whose removal takes it that share of the way back to the base.

        Args:
            task: Name of the task.
            share: Share of the way between the two models' values.
            model: Which model, where the frame has several.
            change: "own", or "random" for the control.

        Returns:
            The rank, or None if even the last measured one does not do.

        Raises:
            ConfigError: If the two models score the same, so that there is no way to go.
            UnknownNameError: If the task, model or kind of change is not in the frame.
        """
        require(0 < share <= 1, f"A share lies in (0, 1]; got {share}.")
        frame, models = self.frame, list(dict.fromkeys(self.frame["model"]))
        if model is None:
            require(len(models) == 1, f"Say which model: model=…, one of {models}.")
            model = str(models[0])
        if model not in models:
            raise unknown_name("model", model, models)
        frame = frame[frame["model"] == model]
        if task not in set(frame["task"]):
            raise unknown_name("task", task, dict.fromkeys(frame["task"]))
        frame = frame[frame["task"] == task]
        kinds = [kind for kind in dict.fromkeys(frame["change"]) if kind not in _ENDS]
        if change not in kinds:
            raise unknown_name("kind of change", change, kinds)
        ends = {e: float(frame.loc[frame["change"] == e, "value"].iloc[0]) for e in _ENDS}
        start, goal = ends["base"], ends["finetuned"]
        if (frame["keep"] == "rest").any():
            start, goal = goal, start
        require(
            start != goal,
            f"Both models score {goal:g} on {task}; there is no difference for ranks to carry.",
        )
        reached = None
        own = frame[frame["change"] == change].sort_values("rank")
        for rank, value in zip(own["rank"], own["value"], strict=True):
            way = (value - start) / (goal - start)
            if way < share - 1e-9:
                reached = None
            elif reached is None:
                reached = int(rank)
        return reached


_ENDS = ("base", "finetuned")


def low_rank(
    base: ModelLike,
    finetuned: ModelLike,
    tasks: Mapping[str, Data],
    *,
    ranks: Sequence[int] | None = None,
    metric: Metric = "accuracy",
    keep: Keep = "top",
    rest: Rest = "finetuned",
    random_draws: int = 3,
    seed: int = 0,
    name: str = "finetuned",
) -> LowRank:
    """Cut the change of every block matrix to rank r, for several r, and measure.

    Everything runs in a copy of the base: hooks on either model take no part, and neither is changed.
    Heads of a matrix lie side by side (W_O: under each other), so a rank is one of the whole matrix, as
    in a LoRA of that rank; a matrix with fewer counts with all it has.

    Args:
        base, finetuned: Models of the same kind, shape and precision.
        tasks: Rows to measure on, by name.
        ranks: Ranks to cut to; by default 0, the powers of two, and all.
        metric: What to measure. Its "untouched" model is the base.
        keep: "top" keeps the first r directions and drops the others; "rest" drops the first r.
        rest: Whose parameters outside the block matrices (biases, norms, embeddings) are used. With
            "finetuned" all ranks give the fine-tuned model, and rank 0 shows what those parameters do
            alone; with "base" rank 0 is the base, and all ranks show what the matrices do alone.
        random_draws: Random directions in the control; 0 for none.
        seed: Seed of the random directions.
        name: What the frame calls the fine-tuned model.

    Raises:
        ConfigError: As ``interpolate``; or if a rank is negative or larger than there is.
        UnknownNameError: If the metric, ``keep`` or ``rest`` is not known.

    Source: Eckart & Young (1936); low rank of fine-tuning, Aghajanyan et al. (2021), Hu et al. (2022).

    Cost: one singular value decomposition a matrix, then (1 + random_draws) evaluations a rank and task.
    Memory: a copy of the model, and its block matrices twice in float64 for each of the two changes.
    """
    meter = TaskMeter(tasks, [metric])
    parts = RankCut.of(base, finetuned, keep=keep, rest=rest)
    chosen = sorted(set(parts.default_ranks() if ranks is None else parts.checked(ranks)))
    require(random_draws >= 0, f"random_draws is 0 or more; got {random_draws}.")
    require(len(chosen) > 0, "Give at least one rank; got none.")
    ((metric_name, _),) = meter.metrics.items()
    twin = clone(as_model(base))
    meter.refer_to(twin)
    rows = []

    def add(change: str, rank: int | None, found: Mapping[str, list[Tensor]]) -> None:
        for task, draws in found.items():
            means = [summary(values, metric_name) for values in draws]
            low, high, kind = _interval(means, metric_name, change, rank)
            rows.append(
                {
                    "model": name,
                    "keep": keep,
                    "rest": rest,
                    "change": change,
                    "rank": rank,
                    "energy": float("nan") if rank is None else parts.energy(rank),
                    "task": task,
                    "metric": metric_name,
                    "value": sum(mean.value for mean in means) / len(means),
                    "ci_low": low,
                    "ci_high": high,
                    "interval": kind,
                    "n": means[0].n,
                }
            )

    def measured(at: str) -> dict[str, list[Tensor]]:
        return {task: [v] for (task, _), v in meter.measure(twin, at).items()}

    for end in _ENDS:
        write_weights(
            twin, {n: p.before if end == "base" else p.after for n, p in parts.pairs.items()}
        )
        add(end, None, measured(end))
    for rank in chosen:
        write_weights(twin, parts.weights(rank))
        add("own", rank, measured(f"rank {rank}"))
    controls: dict[int, dict[str, list[Tensor]]] = {rank: {} for rank in chosen}
    for draw in range(random_draws):  # draws outside, so that one at a time is in memory
        random = parts.in_random_directions(seed, draw)
        for rank in chosen:
            if rank or draw == 0:  # with no rank there is nothing random
                write_weights(twin, random.weights(rank))
                for task, (values,) in measured(f"rank {rank}").items():
                    controls[rank].setdefault(task, []).append(values)
    for rank, found in controls.items():
        add("random", rank, found)
    import pandas as pd

    frame = pd.DataFrame(rows)
    return LowRank(frame.astype({"rank": "Int64"}))


def low_rank_model(
    base: ModelLike,
    finetuned: ModelLike,
    rank: int,
    *,
    keep: Keep = "top",
    rest: Rest = "finetuned",
) -> HookedTransformer:
    """A new model with the change of every block matrix cut to a rank; options as in ``low_rank``.

    Raises:
        ConfigError: As ``low_rank``.
    """
    parts = RankCut.of(base, finetuned, keep=keep, rest=rest)
    (rank,) = parts.checked([rank])
    twin = clone(as_model(base))
    write_weights(twin, parts.weights(rank))
    return twin


def _interval(
    means: Sequence[Estimate | Proportion], metric: str, change: str, rank: int | None
) -> tuple[float, float, str]:
    """Ends of the interval and what they are; with no rank there is nothing random to range over."""
    if change == "random" and rank:
        values = [mean.value for mean in means]
        return min(values), max(values), "range"
    return means[0].low, means[0].high, "wilson" if metric == "accuracy" else "normal"
