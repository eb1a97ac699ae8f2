"""Patches: one model's activations as what another model gets, and the checks that make them mean it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mechft.analysis.activations import chunks
from mechft.analysis.interventions.edits import Edits, New, edits_for, from_rows
from mechft.analysis.interventions.sites import Site, SiteSet
from mechft.analysis.interventions.sweeps import Runner
from mechft.analysis.logit_lens import lens_logits
from mechft.analysis.metrics import MetricFunction, evaluate
from mechft.errors import ConfigError, PatchingError, unknown_name
from mechft.models.hook_points import device_of, resid_post
from mechft.tasks.batch import TokenBatch
from mechft.training.evaluation import answer_logits

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

_CHECKED_ROWS = 8
# Of the largest logit. The same values are put back, so a faithful patch moves logits by rounding at most;
# in half precision nearly any change would pass for rounding if it were allowed as many units.
# Models with steep non-linearities (compiled programs: scores and neurons of a hundred) amplify rounding;
# how far is seen from the two forwards, which patching mixes: values from the hooked one go into the fused.
_ROUNDING = {torch.float64: 100, torch.float32: 100, torch.float16: 4, torch.bfloat16: 2}
_TIMES_APART = 4
_AT_MOST = 1e-3  # of the largest logit: forwards further apart than this are no rounding


def patches(
    donor: HookedTransformer, sites: Sequence[SiteSet], subspace: Mapping[str, Tensor]
) -> Callable[[TokenBatch, slice], list[Edits]]:
    """What ``sweep`` takes: for some rows, a patch from the donor for each set of sites.

    Where ``subspace`` has directions of a hook point, Float["k width"], only the part along them is patched.
    """
    names = {site.hook for group in sites for site in group}

    def cells(chunk: TokenBatch, rows: slice) -> list[Edits]:
        length = chunk.prompt.shape[1]
        prompt = chunk.prompt.to(device_of(donor))
        _, cache = donor.run_with_cache(prompt, names_filter=lambda name: name in names)

        def news(hook: str, units: list[int]) -> New:
            values = cache[hook].to(chunk.prompt.device)
            basis = subspace.get(hook)
            return from_rows(values, units, basis)

        return [edits_for(group, news, length) for group in sites]

    return cells


def self_check(model: HookedTransformer, batch: TokenBatch, sites: Mapping[str, SiteSet]) -> None:
    """Raise PatchingError if a model patched with its own activations answers otherwise.

    Cost: one intervention a site on at most eight rows.
    """
    few = batch.rows(slice(0, _CHECKED_ROWS)).to(device_of(model))
    edits = patches(model, list(sites.values()), {})(few, slice(0, len(few)))
    with torch.no_grad():
        runner = Runner(model, few, {name for cell in edits for name in cell})
        scale = float(runner.logits.float().abs().max())
        dtype = runner.logits.dtype
        tolerance = _ROUNDING[dtype] * torch.finfo(dtype).eps * max(scale, 1.0)
        # A compiled program's weights reach 100 and amplify rounding; others get no such allowance.
        if runner.fast and model.cfg.normalization_type is None:
            apart = float((model(few.prompt)[:, -1] - runner.logits).abs().max())
            tolerance = max(tolerance, min(_TIMES_APART * apart, _AT_MOST * max(scale, 1.0)))
        names = list(sites)
        for place, logits in runner.run(edits):
            moved = float((logits - runner.logits).abs().max())
            if not moved <= tolerance:
                raise PatchingError(
                    f"Patching {names[place]} of a model with its own activation moved its logits by "
                    f"{moved:.3g} (allowed: {tolerance:.3g}). Its hook points do not show all it "
                    "computes, or hooks are attached that answer differently each time; detach them "
                    "(model.reset_hooks()) and use eval mode."
                )


@torch.no_grad()
def donor_and_readout(
    donor: HookedTransformer,
    receiver: HookedTransformer,
    batch: TokenBatch,
    metric: MetricFunction,
) -> tuple[Tensor, Tensor]:
    """The metric of the donor, and of the receiver's last residual stream read by the donor."""
    last = resid_post(int(receiver.cfg.n_layers) - 1)
    own, readout = [], []
    for part in chunks(batch.to(device_of(receiver))):
        answered = answer_logits(donor, part).to(part.tokens.device)
        logits: Any
        logits, cache = receiver.run_with_cache(part.prompt, names_filter=lambda name: name == last)
        resid = cache[last][:, -1:].to(next(donor.parameters()))
        read = lens_logits(donor, resid)[:, -1].to(part.tokens.device)
        own.append(evaluate(metric, answered, part, logits[:, -1]))
        readout.append(evaluate(metric, read, part, logits[:, -1]))
    return torch.cat(own), torch.cat(readout)


def check_shapes(base: HookedTransformer, finetuned: HookedTransformer) -> None:
    """Raise ConfigError unless activations of one model fit into the other."""
    for field in ("n_layers", "n_heads", "d_model", "d_head", "d_mlp", "d_vocab"):
        ours, theirs = getattr(base.cfg, field), getattr(finetuned.cfg, field)
        if ours != theirs:
            raise ConfigError(
                f"Activations go from one model into the other only where both have the same shape; "
                f"{field} is {ours} in the base and {theirs} in the fine-tuned model."
            )


def check_subspace(
    model: HookedTransformer, sites: Sequence[Site], subspace: Mapping[str, Tensor]
) -> None:
    """Raise unless the directions given are orthonormal rows for hook points that are patched."""
    hooks = {site.hook for site in sites}
    for name, basis in subspace.items():
        if name not in hooks:
            raise unknown_name("patched hook point", name, sorted(hooks))
        width = int((model.cfg.d_mlp if name.endswith("hook_post") else model.cfg.d_model) or 0)
        if name.endswith("hook_z"):
            raise ConfigError(f"Heads are patched whole; leave {name} out of subspace.")
        fits = basis.dim() == 2 and basis.shape[1] == width and basis.shape[0] <= width
        rows = basis.detach().cpu().double()
        unit = torch.eye(len(rows), dtype=torch.float64)
        if not fits or not torch.allclose(rows @ rows.T, unit, atol=1e-4):
            raise ConfigError(
                f"Directions of {name} are orthonormal rows of width {width}; got shape "
                f"{tuple(basis.shape)}. Orthonormalise them, for instance with torch.linalg.qr."
            )
