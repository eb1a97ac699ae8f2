"""Ablation: what does a behaviour rest on?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from mechft.analysis.batches import named_tasks
from mechft.analysis.interventions.ablation_values import ablation_values, described, paired_change
from mechft.analysis.interventions.edits import intervened
from mechft.analysis.interventions.replacements import (
    Kind,
    Values,
    ablating,
    check_kinds,
    hooks_of,
    mean_values,
    partners,
    values_at,
)
from mechft.analysis.interventions.sites import Component, Site, SiteSet, check_sites, site_sets
from mechft.analysis.metrics import Metric, metric_function, summary
from mechft.analysis.result import Result
from mechft.errors import require, unknown_name
from mechft.models.hook_points import ModelLike, as_model, check_heads
from mechft.tasks.batch import TokenBatch

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

Head = tuple[int, int]


@dataclass(frozen=True)
class Ablation(Result):
    """A metric with parts of a model ablated, beside the same with none.

    Columns: model, sites (names of the ablated sites), size (how many), component, block, index, position
    (of the last of them), kind, task, metric, value, ci_low, ci_high, untouched (the metric with nothing
    ablated), change (value − untouched), change_low, change_high, n. Intervals are 95%: Wilson's for an
    accuracy and the normal one over rows otherwise; of the change, which is paired row by row,
    Newcombe's and the normal one (NaN ends for a single row).

    Attributes:
        sets: The ablated sites by the name in ``sites``.
        changes: What each row changed by, for each (model, kind, task, sites). Float["row"].
    """

    sets: dict[str, tuple[Site, ...]]
    changes: Mapping[tuple[str, str, str, str], Tensor] = field(repr=False)

    def ranking(
        self,
        task: str,
        kind: Kind | None = None,
        *,
        model: str | None = None,
        ascending: bool = True,
    ) -> list[Site]:
        """Single sites by the change they make to a task: for an accuracy, the most harmful first.

        Choose on other rows than those that the ranked sites are then measured on.

        Args:
            task: The task.
            kind: The kind of ablation; the first by default.
            model: Which model, where the frame holds several.
            ascending: Smallest change first; False for a loss.
        """
        models = list(self.frame["model"].unique())
        if model is None and len(models) == 1:
            model = models[0]
        if model not in models:
            raise unknown_name("model", model, models)
        if task not in set(self.frame["task"]):
            raise unknown_name("task", task, self.frame["task"].unique())
        kind = kind or self.frame["kind"].iloc[0]
        if kind not in set(self.frame["kind"]):
            raise unknown_name("kind of ablation", kind, self.frame["kind"].unique())
        frame = self.frame[(self.frame["task"] == task) & (self.frame["size"] == 1)]
        frame = frame[frame["model"] == model]
        require(not frame.empty, "A ranking is of single sites; this sweep has sets only.")
        frame = frame[frame["kind"] == kind].sort_values(
            "change", ascending=ascending, kind="stable"
        )
        return [self.sets[name][0] for name in frame["sites"]]


@contextmanager
def ablate(
    model: ModelLike,
    heads: Sequence[Head] = (),
    kind: Kind = "zero",
    reference: TokenBatch | None = None,
    *,
    sites: SiteSet = (),
    seed: int = 0,
) -> Iterator[HookedTransformer]:
    """Ablate attention heads, or any sites, inside the block; the hooks are gone after it.

    Args:
        model: A HookedTransformer, TransformerBridge or ``Trained``.
        heads: (block, head) pairs.
        kind: "zero"; "mean": the mean over ``reference``, position by position; "resample": the values of
            its rows in an order drawn at random, the first for the first row of an input and so on: run
            the rows in one input, or rows further on get the first ones' values again.
        reference: Rows to take values from; needed unless the kind is "zero". Inputs may not be longer.
        sites: MLPs, neurons, residual positions, beside or instead of heads.
        seed: Seed of the order in which "resample" takes the reference's rows.

    Raises:
        ConfigError: If a site does not exist, none is given, or a reference is needed and missing.
        UnknownNameError: If the kind is not known.

    Cost: hooks at the sites; for "mean" and "resample" a forward of the reference before.

    Example:
        >>> import mechft as mf
        >>> base = mf.load("pcfg-tiny-low")
        >>> rows = base.task.query("C", "a").sample(100, mf.generator(0))
        >>> with mf.ablate(base, heads=[(1, head) for head in range(4)], kind="mean", reference=rows):
        ...     during = mf.accuracy(base, rows)
        >>> during.value < mf.accuracy(base, rows).value
        True
    """
    model = as_model(model)
    if heads or not sites:
        check_heads(model, heads)
    chosen = [*(Site(block, "head", head) for block, head in heads), *sites]
    check_kinds([kind])
    check_sites(model, chosen, int(model.cfg.n_ctx))
    require(
        all(site.position is None or site.position >= 0 for site in chosen),
        "Inside ablate(...) inputs may have any length, so positions count from the start; got "
        f"{[site.label for site in chosen if (site.position or 0) < 0]}.",
    )
    if kind != "zero":
        require(
            reference is not None and len(reference) > 0,
            f'kind="{kind}" takes its values from a batch of at least one row; pass reference=batch.',
        )
    values: Values = {}
    if reference is not None and kind == "mean":
        values = mean_values(model, hooks_of(chosen), reference)
    elif reference is not None and kind == "resample":
        shuffled = reference.rows(partners(len(reference), seed))
        values = values_at(model, hooks_of(chosen), shuffled)
    with intervened(model, ablating(chosen, kind, values, int(model.cfg.n_ctx))):
        yield model


def ablation_sweep(
    model: ModelLike,
    tasks: Mapping[str, TokenBatch] | TokenBatch,
    sites: Component | Sequence[Component | Site | SiteSet] = "head",
    *,
    kinds: Sequence[Kind] = ("zero", "mean"),
    metric: Metric = "accuracy",
    reference: Mapping[str, TokenBatch] | None = None,
    seed: int = 0,
    name: str = "model",
) -> Ablation:
    """Ablate sites or sets of sites, one after the other, and measure each task.

    Args:
        model: The model; unchanged afterwards.
        tasks: Rows to measure on, by name, or one batch.
        sites: Components (each head, each MLP …, alone), sites, and sets of sites.
        kinds: As in ``ablate``. Mean ablation removes what a site says about the particular text and
            keeps what it always says.
        metric: A name of ``METRICS`` or a function of (logits, rows, untouched logits).
        reference: Rows to take means and resampled values from, by task; by default the task's own. Then
            resampling gives each row the values of another row.
        seed: Seed of the resampling.
        name: What the frame calls the model.

    Raises:
        ConfigError: If a site does not exist, or there is no task, kind or site.
        UnknownNameError: If a kind or metric is not known.

    Cost: a HookedTransformer of the GPT family: per site what comes after it, on the fused forward; the
    others a hooked forward. ``python -m tests.benchmarks.analysis`` has the ratios.

    Example:
        >>> import mechft as mf
        >>> base = mf.load("pcfg-tiny-low")
        >>> rows = base.task.query("C", "a").sample(50, mf.generator(0))
        >>> found = mf.ablation_sweep(base, {"count a": rows}, sites="mlp_out", kinds=["zero"])
        >>> found.frame[["sites", "task", "n"]].values.tolist()
        [['mlp_out 0', 'count a', 50], ['mlp_out 1', 'count a', 50], ['mlp_out 2', 'count a', 50]]
    """
    model = as_model(model)
    tasks = named_tasks(tasks)
    sets = site_sets(model, sites, tasks)
    label, function = metric_function(metric)
    rows: list[dict[str, Any]] = []
    changes: dict[tuple[str, str, str, str], Tensor] = {}
    for task, kind, found in ablation_values(
        model, tasks, sets, kinds, {label: function}, reference, seed
    ):
        for place, chosen in enumerate(sets.items()):
            values, untouched = found.cells[place, 0], found.untouched[0]
            changes[name, kind, task, chosen[0]] = values - untouched
            rows.append(
                {
                    "model": name,
                    **described(*chosen),
                    "kind": kind,
                    "task": task,
                    "metric": label,
                    **_measured(values, untouched, label),
                }
            )
    import pandas as pd

    frame = pd.DataFrame(rows).astype({"index": "Int64", "position": "Int64"})
    return Ablation(frame, sets, changes)


def ablate_heads(
    model: ModelLike,
    tasks: Mapping[str, TokenBatch],
    *,
    kinds: Sequence[Kind] = ("zero", "mean"),
    metric: Metric = "accuracy",
    name: str = "model",
) -> Ablation:
    """Ablate every attention head alone: ``ablation_sweep`` over heads."""
    return ablation_sweep(model, tasks, "head", kinds=kinds, metric=metric, name=name)


def _measured(values: Tensor, untouched: Tensor, label: str) -> dict[str, Any]:
    found = summary(values, label)
    change = paired_change(values, untouched, label)
    return {
        "value": found.value,
        "ci_low": found.low,
        "ci_high": found.high,
        "untouched": float(untouched.double().mean()),
        "change": change.value,
        "change_low": change.low,
        "change_high": change.high,
        "n": found.n,
    }
