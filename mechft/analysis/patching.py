"""Cross-model patching: one model computes, with another model's activation put in at one place.

The two models see the same text. If the fine-tuned model gets its old behaviour back when the base's
activation is put in at a site (base → fine-tuned), what fine-tuning changed acts at or before that site,
and what follows it still serves the old behaviour; the other direction asks whether the change at the
site suffices for the new behaviour. A method for tracing what fine-tuning changed: Prakash et al. (ICLR
2024, "Fine-tuning enhances existing mechanisms") call it cross-model activation patching.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mechft.analysis.interventions.edits import Edits, New, edits_for, from_rows
from mechft.analysis.interventions.sites import Component, Site, all_sites, check_sites
from mechft.analysis.interventions.sweeps import Runner, sweep
from mechft.analysis.metrics import Metric, evaluate, metric_function, summary
from mechft.analysis.result import Result
from mechft.errors import ConfigError, PatchingError, require, unknown_name
from mechft.models.hook_points import ModelLike, as_model, device_of, resid_post
from mechft.statistics import bootstrap_interval, mean_estimate
from mechft.tasks.batch import TokenBatch
from mechft.training.evaluation import answer_logits

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

SiteSet = Sequence[Site]
Direction = Literal["base→finetuned", "finetuned→base"]
DIRECTIONS: tuple[Direction, ...] = ("base→finetuned", "finetuned→base")
READOUT = "readout"
_CHECKED_ROWS = 8
_DRAWS = 400


@dataclass(frozen=True)
class Patching(Result):
    """What one model does with the other's activation at a site, as a share of the gap between the two.

    Columns: direction ("base→finetuned": the base's activation put into the fine-tuned model), site,
    component ("readout": the other model's final norm and unembedding; of a set the last site's, as are)
    block, index, position, task,
    metric, value (of the patched model), ci_low, ci_high, receiver (the metric without the patch), donor
    (the other model's), recovered ((value − receiver) / (donor − receiver): 0 for no effect, 1 where the
    patched model scores as the donor; NaN where the gap's 95% interval includes 0), recovered_low,
    recovered_high (95% percentile bootstrap over rows, paired), n.
    """

    def best(self, task: str, direction: Direction = "base→finetuned") -> dict[str, Any]:
        """The row that recovers nearest to the whole gap of a task; empty if there is no gap."""
        frame = self.frame
        if task not in set(frame["task"]):
            raise unknown_name("task", task, frame["task"].unique())
        here = frame[(frame["task"] == task) & (frame["direction"] == direction)]
        here = here[here["recovered"].notna()]
        return {} if here.empty else dict(here.loc[(here["recovered"] - 1).abs().idxmin()])


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
            together. A readout (the donor's final norm
            and unembedding on the receiver's last residual stream) is always measured beside them.
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
    tasks = {"task": tasks} if isinstance(tasks, TokenBatch) else dict(tasks)
    require(bool(tasks) and bool(directions), "Patching needs a task and a direction; got none.")
    for direction in directions:
        if direction not in DIRECTIONS:
            raise unknown_name("direction", direction, DIRECTIONS)
    _check_shapes(*models.values())
    chosen = _sites(models["base"], sites, positions)
    every = [site for group in chosen.values() for site in group]
    for batch in tasks.values():
        require(len(batch) > 0, "A batch needs at least one row; got none.")
        for model in models.values():
            check_sites(model, every, batch.prompt.shape[1])
    _check_subspace(models["base"], every, subspace or {})
    label, function = metric_function(metric)
    rows = []
    for direction in directions:
        donor, receiver = (models[name] for name in direction.split("→"))
        for task, batch in tasks.items():
            self_check(receiver, batch, chosen)
            cells = _cells(donor, list(chosen.values()), subspace or {})
            found = sweep(receiver, batch, cells, {label: function})
            own, readout = _donor_and_readout(donor, receiver, batch, {label: function})
            for place, (site, group) in enumerate([*chosen.items(), (READOUT, None)]):
                values = readout if group is None else found.cells[place, 0]
                last = None if group is None else group[-1]
                share = recovered(values, found.untouched[0], own, seed)
                score = summary(values, label)
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

    return Patching(pd.DataFrame(rows).astype({"index": "Int64", "position": "Int64"}))


def recovered(
    patched: Float[Tensor, " row"],
    receiver: Float[Tensor, " row"],
    donor: Float[Tensor, " row"],
    seed: int = 0,
) -> tuple[float, float, float]:
    """Share of the gap between receiver and donor that a patch recovers, with a 95% bootstrap interval.

    Returns:
        (share, low, high); NaN where the gap's own 95% interval includes 0, for then a share of it
        means nothing.
    """
    effect, gap = (patched - receiver).double(), (donor - receiver).double()
    overall = mean_estimate(gap)
    if overall.low <= 0 <= overall.high:
        return float("nan"), float("nan"), float("nan")

    def share(index: Tensor) -> float:
        whole = float(gap[index].mean())
        return float(effect[index].mean()) / whole if whole else float("inf")

    low, high = bootstrap_interval(share, len(gap), seed=seed, draws=_DRAWS)
    return float(effect.mean()) / float(gap.mean()), low, high


def self_check(model: HookedTransformer, batch: TokenBatch, sites: Mapping[str, SiteSet]) -> None:
    """Raise PatchingError if a model patched with its own activations answers otherwise.

    Cost: one intervention a site on at most eight rows.
    """
    few = batch.rows(slice(0, _CHECKED_ROWS)).to(device_of(model))
    edits = _cells(model, list(sites.values()), {})(few, slice(0, len(few)))
    with torch.no_grad():
        runner = Runner(model, few, {name for cell in edits for name in cell})
        scale = float(runner.logits.float().abs().max())
        tolerance = 100 * torch.finfo(runner.logits.dtype).eps * max(scale, 1.0)
        for site, logits in zip(sites, runner.run(edits), strict=True):
            moved = float((logits - runner.logits).abs().max())
            if not moved <= tolerance:
                raise PatchingError(
                    f"Patching {site} of a model with its own activation moved its logits by "
                    f"{moved:.3g} (allowed: {tolerance:.3g}). Its hook points do not show all it "
                    "computes, or hooks are attached that answer differently each time; detach them "
                    "(model.reset_hooks()) and use eval mode."
                )


def _cells(
    donor: HookedTransformer, sites: Sequence[SiteSet], subspace: Mapping[str, Tensor]
) -> Callable[[TokenBatch, slice], list[Edits]]:
    names = {site.hook for group in sites for site in group}

    def cells(chunk: TokenBatch, rows: slice) -> list[Edits]:
        length = chunk.prompt.shape[1]
        prompt = chunk.prompt.to(device_of(donor))
        _, cache = donor.run_with_cache(prompt, names_filter=lambda name: name in names)

        def news(hook: str, units: list[int]) -> New:
            values = cache[hook].to(chunk.prompt.device)
            basis = subspace.get(hook)
            return from_rows(values, units, None if basis is None else basis.to(values))

        return [edits_for(group, news, length) for group in sites]

    return cells


@torch.no_grad()
def _donor_and_readout(
    donor: HookedTransformer,
    receiver: HookedTransformer,
    batch: TokenBatch,
    metrics: Mapping[str, Any],
) -> tuple[Tensor, Tensor]:
    """The metric of the donor, and of the receiver's last residual stream read by the donor."""
    last = resid_post(int(receiver.cfg.n_layers) - 1)
    ((_, function),) = metrics.items()
    own, readout = [], []
    for start in range(0, len(batch), 64):
        part = batch.rows(slice(start, start + 64)).to(device_of(receiver))
        answered = answer_logits(donor, part).to(part.tokens.device)
        logits: Any
        logits, cache = receiver.run_with_cache(part.prompt, names_filter=lambda name: name == last)
        resid = cache[last][:, -1:].to(device_of(donor))
        read = donor.unembed(donor.ln_final(resid))[:, -1].to(part.tokens.device)
        own.append(evaluate(function, answered, part, logits[:, -1]))
        readout.append(evaluate(function, read, part, logits[:, -1]))
    return torch.cat(own), torch.cat(readout)


def _sites(
    model: HookedTransformer,
    sites: Component | Sequence[Component | Site | SiteSet],
    positions: Sequence[int] | None,
) -> dict[str, SiteSet]:
    given: Sequence[Component | Site | SiteSet] = [sites] if isinstance(sites, str) else sites
    found: list[SiteSet] = []
    for one in given:
        if isinstance(one, str):
            found += [(site,) for site in all_sites(model, one, positions=positions)]
        else:
            found.append((one,) if isinstance(one, Site) else tuple(one))
    return {" + ".join(site.label for site in group): group for group in found}


def _check_shapes(base: HookedTransformer, finetuned: HookedTransformer) -> None:
    for field in ("n_layers", "n_heads", "d_model", "d_head", "d_mlp", "d_vocab"):
        ours, theirs = getattr(base.cfg, field), getattr(finetuned.cfg, field)
        if ours != theirs:
            raise ConfigError(
                f"Activations go from one model into the other only where both have the same shape; "
                f"{field} is {ours} in the base and {theirs} in the fine-tuned model."
            )


def _check_subspace(
    model: HookedTransformer, sites: Sequence[Site], subspace: Mapping[str, Tensor]
) -> None:
    hooks = {site.hook for site in sites}
    for name, basis in subspace.items():
        if name not in hooks:
            raise unknown_name("patched hook point", name, sorted(hooks))
        width = int((model.cfg.d_mlp if name.endswith("hook_post") else model.cfg.d_model) or 0)
        if name.endswith("hook_z"):
            raise ConfigError(f"Heads are patched whole; leave {name} out of subspace.")
        fits = basis.dim() == 2 and basis.shape[1] == width and basis.shape[0] <= width
        gram = basis.double() @ basis.double().T if fits else torch.zeros(1, 1)
        if not fits or not torch.allclose(gram, torch.eye(len(gram)).double(), atol=1e-4):
            raise ConfigError(
                f"Directions of {name} are orthonormal rows of width {width}; got shape "
                f"{tuple(basis.shape)}. Orthonormalise them, for instance with torch.linalg.qr."
            )
