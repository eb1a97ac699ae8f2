"""Probe transfer: does the base's readout still read the fine-tuned model, and the other way round?

If fine-tuning only wrapped a capability, the direction that carried a fact still carries it, and a probe
fitted on one model reads the other. A fact that is there but was moved is read by a probe of its own only.
Probes with a weak penalty lean on directions of tiny variance, which any training moves; hence one penalty
for all here, and a strong one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from mechft.analysis.activations import Positions, gather_activations
from mechft.analysis.batches import Data
from mechft.analysis.probes.fitting import L2, ProbeFitter
from mechft.analysis.probes.inputs import labelled, named_sites, place
from mechft.analysis.probes.linear_probes import Features, LinearProbes
from mechft.analysis.probing import accuracy_columns
from mechft.analysis.result import Result
from mechft.errors import require
from mechft.models.hook_points import ModelLike
from mechft.statistics import paired_difference

TRANSFER_L2 = 1e-2
"""Penalty of probes to be transferred. With the penalty that suits each model best (1e-5 to 1e-9 at tiny) the
recentred readout of a count fell from about 70% to 40% of rows and less after 200 steps of fine-tuning."""


@dataclass(frozen=True)
class ProbeTransfer(Result):
    """Held-out accuracy of probes fitted on one model and applied to another.

    Columns: fitted_on, applied_to (names of the models), readout ("as fitted"; "recentred": with the mean
    and spread of the model it is applied to, so that a shift alone does not count), block, hook,
    component, target, accuracy, ci_low, ci_high (95%, Wilson's over held-out rows), majority (accuracy of
    the commonest training class), change (accuracy minus that of the probe fitted on the model it is
    applied to), change_low, change_high (95%, Newcombe's over the same rows in pairs), n, classes.
    """


def probe_transfer(
    base: ModelLike,
    finetuned: ModelLike,
    train: Data,
    test: Data,
    target: str,
    *,
    hook_names: Sequence[str] | None = None,
    positions: Positions = "answer",
    l2: L2 = TRANSFER_L2,
    names: tuple[str, str] = ("base", "finetuned"),
    seed: int = 0,
) -> ProbeTransfer:
    """Fit probes on each of two models, on the same rows, and apply each to both.

    Args:
        base, finetuned: Models with the same sites.
        train, test: Rows to fit and to score on.
        target: Name of a label in both.
        hook_names, positions, seed: As in ``probe``.
        l2: As in ``probe``; strong by default, see ``TRANSFER_L2``.
        names: What the frame calls the two models.

    Raises:
        UnknownNameError: As ``probe``.
        ConfigError: As ``probe``, or if a site has another width in the other model.

    Cost: one hooked forward a model over both batches, and two fits a site.
    """
    require(names[0] != names[1], f"The two models need different names; got {names!r}.")
    batches = (labelled(train, target, learn=True), labelled(test, target))
    truth = [batch.labels[target].cpu() for batch in batches]
    models = dict(zip(names, (base, finetuned), strict=True))
    ProbeFitter(l2)  # refuses what it would refuse before any forward
    seen: dict[str, Features] = {}
    probes: dict[str, LinearProbes] = {}
    ready = named_sites(models, hook_names, positions)
    sites = [*dict.fromkeys(site for _, found in ready.values() for site in found)]
    ready = named_sites(models, sites, positions)
    for name, (model, _) in ready.items():
        fitter = ProbeFitter(l2, seed=seed)
        fitter.update(gather_activations(model, batches[0], sites, positions), truth[0])
        probes[name] = fitter.result()
        seen[name] = gather_activations(model, batches[1], sites, positions)
    for site in sites:
        widths = [seen[name][site].shape[1] for name in names]
        require(
            widths[0] == widths[1],
            f"Probes transfer between sites of one width; {site} has {widths[0]} in {names[0]} and "
            f"{widths[1]} in {names[1]}.",
        )
    rows: list[dict[str, Any]] = []
    for fitted in names:
        for applied in names:
            readouts = {"as fitted": probes[fitted]}
            if fitted != applied:
                readouts["recentred"] = _recentred(probes[fitted], probes[applied])
            own = probes[applied].hits(seen[applied], truth[1])
            majority = float((truth[1] == probes[fitted].majority).double().mean())
            for readout, used in readouts.items():
                hits = used.hits(seen[applied], truth[1])
                for site in sites:
                    change = paired_difference(hits[site], own[site])
                    rows.append(
                        {"fitted_on": fitted, "applied_to": applied, "readout": readout}
                        | {**place(site), "target": target}
                        | accuracy_columns(hits[site])
                        | {"majority": majority, "change": change.value}
                        | {"change_low": change.low, "change_high": change.high}
                        | {"n": len(truth[1]), "classes": len(used.classes)}
                    )
    import pandas as pd

    return ProbeTransfer(pd.DataFrame(rows))


def _recentred(probes: LinearProbes, like: LinearProbes) -> LinearProbes:
    """The probes' weights with the standardisation that others were fitted with."""
    moved = {
        site: replace(found, mean=like[site].mean, std=like[site].std)
        for site, found in probes.probes.items()
    }
    return replace(probes, probes=moved)
