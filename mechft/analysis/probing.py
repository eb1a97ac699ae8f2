"""Linear probes: is a fact still linearly readable at a site, block by block?

Jain et al. (2024), App. D: a linear layer per block on the residual output at the position whose next
token is the answer, trained on fresh grammar data with AdamW for 4,000 steps. The problem is convex;
here it is solved to its optimum instead, unless the paper's schedule is asked for.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Bool
from torch import Tensor

from mechft.analysis.activations import Positions
from mechft.analysis.batches import Data, one_batch
from mechft.analysis.probes.adamw import PAPER_STEPS
from mechft.analysis.probes.controls import Control, TypeOf
from mechft.analysis.probes.fitting import DEFAULT_L2, L2, Optimizer, ProbeFitter
from mechft.analysis.probes.inputs import (
    Features,
    control_tasks,
    features_of_controls,
    labelled,
    named_sites,
    place,
)
from mechft.analysis.probes.linear_probes import LinearProbes
from mechft.analysis.result import Result
from mechft.errors import require
from mechft.models.hook_points import ModelLike
from mechft.statistics import paired_difference, proportion


@dataclass(frozen=True)
class ProbeResult(Result):
    """Held-out accuracy of linear probes, with the accuracy of always naming the commonest class.

    Columns: model, block, hook, component, target, control ("none": the probe itself; else what it is
    compared with, see ``Control``), accuracy, ci_low, ci_high (95%, Wilson's over held-out rows),
    majority (accuracy of the commonest training class on the same rows), selectivity (in rows of a
    control: accuracy of the probe itself minus the control's), selectivity_low, selectivity_high (95%,
    Newcombe's over the same rows in pairs), l2 (penalty given or chosen), converged, n, classes.

    Attributes:
        frame: The measurements.
        probes: The fitted probes by (model, target), without the controls'.
    """

    probes: Mapping[tuple[str, str], LinearProbes] = field(default_factory=dict, repr=False)


def probe(
    models: Mapping[str, ModelLike],
    train: Data,
    test: Data,
    target: str | Sequence[str],
    *,
    validation: Data | None = None,
    hook_names: Sequence[str] | None = None,
    positions: Positions = "answer",
    l2: L2 = DEFAULT_L2,
    optimizer: Optimizer = "lbfgs",
    steps: int = PAPER_STEPS,
    controls: Sequence[Control] = (),
    control_type: TypeOf | None = None,
    seed: int = 0,
) -> ProbeResult:
    """Probe every model at every site for a label of the batch, or for several of the same rows.

    Args:
        models: Models by the name they get in the frame.
        train: Rows to fit on.
        test: Held-out rows to score on; draw them from another stream than ``train``.
        target: Name of a label in all batches, such as "C(a)", or several names: they share the forwards.
        validation: Rows to choose ``l2`` on; by default a fifth of ``train``, drawn by ``seed``. The
            probe with the chosen penalty is then fitted on all of ``train``.
        hook_names: Sites, of any widths; by default the residual stream after each block.
        positions: Where to read; see ``Positions``. "all" has no one label a row, and is refused.
        l2: Weight of the penalty, or several to choose from, site by site; see ``ProbeFitter``.
        optimizer: "lbfgs", or "paper": the paper's AdamW schedule, which has no ``l2``.
        steps: Steps of the "paper" optimiser.
        controls: What to compare with, in rows of their own; see ``Control``.
        control_type: What the labels of "shuffled_labels" are a function of; see ``TypeOf``. By default
            as ``control_labels`` chooses.
        seed: Seed of the split, the mini-batches and the controls.

    Raises:
        UnknownNameError: If a batch lacks the label, a model the site, or an option is not known.
        ConfigError: If the labels have one class only, activations are not finite, or an option is out
            of range.

    Source: Jain et al. (2024), Fig. 8 and App. D; Hewitt & Liang (2019) for control tasks.

    Cost: per model, one hooked forward over each batch for all sites together, and a fit a site;
    "random_model" costs a model more for each shape, and as the others a fit a site more.
    """
    targets = [target] if isinstance(target, str) else list(dict.fromkeys(target))
    require(bool(targets), "A probe reads a label; target names none.")
    held = () if validation is None else (validation,)
    batches = [one_batch(data) for data in (train, test, *held)]
    for number, batch in enumerate(batches):
        for name in targets:
            labelled(batch, name, learn=number == 0)
    ready = named_sites(models, hook_names, positions)
    labels = {name: control_tasks(controls, name, batches, control_type, seed) for name in targets}
    options: dict[str, Any] = {"l2": l2, "optimizer": optimizer, "steps": steps, "seed": seed}
    ProbeFitter(**options)  # refuses what it would refuse before any forward

    rows: list[dict[str, Any]] = []
    kept = {}
    twins: dict[Hashable, Features] = {}
    for name, (model, sites) in ready.items():
        own: dict[str, dict[str, Bool[Tensor, " row"]]] = {}
        for control, shown in features_of_controls(
            ["none", *controls], model, sites, batches, positions, seed, twins
        ):
            for asked in targets:
                truth = labels[asked][control]
                fitter = ProbeFitter(**options)
                fitter.update(shown[0], truth[0])
                probes = fitter.result((shown[2], truth[2]) if held else None)
                hits = probes.hits(shown[1], truth[1])
                if control == "none":
                    own[asked], kept[(name, asked)] = hits, probes
                majority = float((truth[1] == probes.majority).double().mean())
                for site in sites:
                    rows.append(
                        {"model": name, **place(site), "target": asked, "control": control}
                        | accuracy_columns(hits[site])
                        | {"majority": majority}
                        | _selectivity(own[asked][site], None if control == "none" else hits[site])
                        | {"l2": probes[site].l2, "converged": probes[site].converged}
                        | {"n": len(truth[1]), "classes": len(probes.classes)}
                    )
    import pandas as pd

    return ProbeResult(pd.DataFrame(rows), kept)


def accuracy_columns(hits: Bool[Tensor, " row"]) -> dict[str, float]:
    """The share of hits with Wilson's interval, as columns."""
    share = proportion(int(hits.sum()), len(hits))
    return {"accuracy": share.value, "ci_low": share.low, "ci_high": share.high}


def _selectivity(own: Tensor, control: Tensor | None) -> dict[str, float]:
    names = ("selectivity", "selectivity_low", "selectivity_high")
    if control is None:
        return dict.fromkeys(names, float("nan"))
    found = paired_difference(own, control)
    return dict(zip(names, (found.value, found.low, found.high), strict=True))
