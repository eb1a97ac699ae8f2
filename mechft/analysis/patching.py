"""Cross-model patching: one model computes, with another model's activation put in at one place.

The two models see the same text. If the fine-tuned model gets its old behaviour back when the base's
activation is put in at a site (base → fine-tuned), what fine-tuning changed acts at or before that site,
and what follows it still serves the old behaviour; the other direction asks whether the change at the
site suffices for the new behaviour. A method for tracing what fine-tuning changed: Prakash et al. (ICLR
2024, "Fine-tuning enhances existing mechanisms") call it cross-model activation patching.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mechft.analysis.batches import named_tasks
from mechft.analysis.interventions.patches import (
    check_shapes,
    check_subspace,
    donor_and_readout,
    patches,
    self_check,
)
from mechft.analysis.interventions.sites import Component, Site, SiteSet, check_sites, site_sets
from mechft.analysis.interventions.sweeps import sweep
from mechft.analysis.metrics import Metric, metric_function, summary
from mechft.analysis.result import Result
from mechft.errors import require, unknown_name
from mechft.models.hook_points import ModelLike, as_model
from mechft.statistics import bootstrap_interval, mean_estimate
from mechft.tasks.batch import TokenBatch

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

Direction = Literal["base→finetuned", "finetuned→base"]
DIRECTIONS: tuple[Direction, ...] = ("base→finetuned", "finetuned→base")
READOUT = "readout"


@dataclass(frozen=True)
class Patching(Result):
    """What one model does with the other's activation at a site, as a share of the gap between the two.

    Columns: direction ("base→finetuned": the base's activation put into the fine-tuned model), site,
    component ("readout": the other model's final norm and unembedding), block, index, position (of a set
    of sites these four are its last one's), task, metric, value (of the patched model), ci_low, ci_high,
    receiver (the metric without the patch), donor (the other model's), recovered ((value − receiver) /
    (donor − receiver): 0 for no effect, 1 where the patched model scores as the donor; NaN where the
    gap's 95% interval includes 0), recovered_low, recovered_high (95% percentile bootstrap over rows,
    paired), n.

    The best of many sites looks better than it is, because it was chosen on the rows it is shown for;
    ``best`` takes these apart.

    Attributes:
        rows: The metric row by row, for each (direction, site, task): patched, receiver, donor.
            Float["three row"].
    """

    rows: Mapping[tuple[str, str, str], Float[Tensor, "three row"]] = field(repr=False)

    def best(
        self,
        task: str,
        direction: Direction = "base→finetuned",
        components: Sequence[str] | None = None,
    ) -> dict[str, Any]:
        """The single site that recovers nearest to the whole gap, chosen on every other row.

        Args:
            task: The task.
            direction: Whose activation goes into whom.
            components: Kinds of sites to choose from; all but the readout if None. Sets of sites never.

        Returns:
            site, chosen_recovered (on the rows it was chosen on: optimistic), recovered, recovered_low,
            recovered_high, n (on the rows between). Empty where the rows to choose on show no gap.

        Raises:
            UnknownNameError: If task, direction or a component is not in the frame.
        """
        for what, name in (("task", task), ("direction", direction)):
            if name not in set(self.frame[what]):
                raise unknown_name(what, name, self.frame[what].unique())
        known = [c for c in self.frame["component"].unique() if c != READOUT]
        for component in components or ():
            if component not in known:
                raise unknown_name("component in this result", component, known)
        here = self.frame[(self.frame["task"] == task) & (self.frame["direction"] == direction)]
        here = here[here["component"].isin(components or known)]
        chosen, nearest, optimistic = "", float("inf"), float("nan")
        for site in map(str, here["site"]):
            share = recovered(*self.rows[direction, site, task][:, ::2], intervals=False)[0]
            if " + " not in site and abs(share - 1) < nearest:
                chosen, nearest, optimistic = site, abs(share - 1), share
        if not chosen:
            return {}
        rest = self.rows[direction, chosen, task][:, 1::2]
        value, low, high = recovered(*rest)
        return {
            "site": chosen,
            "chosen_recovered": optimistic,
            "recovered": value,
            "recovered_low": low,
            "recovered_high": high,
            "n": rest.shape[1],
        }


def patch_across(
    base: ModelLike,
    finetuned: ModelLike,
    tasks: Mapping[str, TokenBatch] | TokenBatch,
    sites: Component | Sequence[Component | Site | SiteSet] = ("resid_pre", "attn_out", "mlp_out"),
    *,
    positions: Sequence[int] | None = None,
    directions: Sequence[Direction] = DIRECTIONS,
    subspace: Mapping[str, Float[Tensor, "k width"]] | None = None,
    metric: Metric = "accuracy",
    seed: int = 0,
) -> Patching:
    """Put one model's activations into the other, site by site, on the same rows.

    Args:
        base, finetuned: Models with the same blocks, heads and widths.
        tasks: Rows to measure on, by name, or one batch.
        sites: Components (each block's, or each head of it), sites, and sets of sites that are patched
            together. A readout (the donor's final norm and unembedding on the receiver's last residual
            stream) is always measured beside them.
        positions: Patch these positions one at a time (negative from the prompt's end) instead of all
            together; for the components named, not for sites, which have their own.
        directions: Whose activations go into whom.
        subspace: Orthonormal directions by hook point, such as ``diff_activations(…).direction`` finds;
            where given, only the part of the activation along them is replaced.
        metric: As in ``ablation_sweep``; untouched logits are the receiver's.
        seed: Seed of the bootstrap.

    Raises:
        ConfigError: If the models differ in shape, a site does not exist, or directions do not fit.
        PatchingError: If patching a model with itself changes its logits (tried for every site on the
            first rows): the model computes something that its hook points do not show.

    Cost: as ``ablation_sweep``, per direction, and a forward of the donor.
    """
    models: dict[str, HookedTransformer] = {
        "base": as_model(base),
        "finetuned": as_model(finetuned),
    }
    tasks = named_tasks(tasks)
    require(bool(tasks) and bool(directions), "Patching needs a task and a direction; got none.")
    for direction in directions:
        if direction not in DIRECTIONS:
            raise unknown_name("direction", direction, DIRECTIONS)
    check_shapes(*models.values())
    chosen = site_sets(models["base"], sites, tasks, positions)
    every = [site for group in chosen.values() for site in group]
    check_sites(models["finetuned"], every)
    check_subspace(models["base"], every, subspace or {})
    label, function = metric_function(metric)
    rows = []
    values: dict[tuple[str, str, str], Tensor] = {}
    for direction in directions:
        donor, receiver = (models[name] for name in direction.split("→"))
        for task, batch in tasks.items():
            self_check(receiver, batch, chosen)
            cells = patches(donor, list(chosen.values()), subspace or {})
            found = sweep(receiver, batch, cells, {label: function})
            own, readout = donor_and_readout(donor, receiver, batch, function)
            for place, (site, group) in enumerate([*chosen.items(), (READOUT, None)]):
                patched = readout if group is None else found.cells[place, 0]
                last = None if group is None else group[-1]
                share = recovered(patched, found.untouched[0], own, seed=seed)
                score = summary(patched, label)
                values[direction, site, task] = torch.stack([patched, found.untouched[0], own])
                rows.append(
                    {
                        "direction": direction,
                        "site": site,
                        "component": READOUT if last is None else last.component,
                        "block": int(receiver.cfg.n_layers) if last is None else last.block,
                        "index": None if last is None else last.index,
                        "position": None if last is None else last.position,
                        "task": task,
                        "metric": label,
                        "value": score.value,
                        "ci_low": score.low,
                        "ci_high": score.high,
                        "receiver": float(found.untouched[0].double().mean()),
                        "donor": float(own.double().mean()),
                        "recovered": share[0],
                        "recovered_low": share[1],
                        "recovered_high": share[2],
                        "n": score.n,
                    }
                )
    import pandas as pd

    frame = pd.DataFrame(rows).astype({"index": "Int64", "position": "Int64"})
    return Patching(frame, values)


def recovered(
    patched: Float[Tensor, " row"],
    receiver: Float[Tensor, " row"],
    donor: Float[Tensor, " row"],
    *,
    seed: int = 0,
    intervals: bool = True,
) -> tuple[float, float, float]:
    """Share of the gap between receiver and donor that a patch recovers, with a 95% bootstrap interval.

    Args:
        patched, receiver, donor: A metric on the same rows.
        seed: Seed of the bootstrap.
        intervals: False leaves the interval out (NaN), which takes most of the time.

    Returns:
        (share, low, high); NaN where the gap's own 95% interval includes 0, for then a share of it
        means nothing.
    """
    effect, gap = (patched - receiver).double(), (donor - receiver).double()
    overall, nan = mean_estimate(gap), float("nan")
    if not (overall.low > 0 or overall.high < 0):  # also where one row gives no interval
        return nan, nan, nan
    value = float(effect.mean()) / overall.value
    if not intervals:
        return value, nan, nan

    def share(means: Float[Tensor, "two draw"]) -> Float[Tensor, " draw"]:
        part, whole = means  # a resample without a gap: no effect is no share of it
        return torch.where(part == 0, 0.0, part / whole)

    low, high = bootstrap_interval(torch.stack([effect, gap]), share, seed=seed)
    return value, low, high
