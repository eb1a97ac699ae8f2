"""Minimum description length: how many bits do labels take, once the activations are known?

The online (prequential) code of Voita & Titov (2020): labels are sent block by block, each coded with a
probe fitted on the blocks before. A fact that is easy to read is short, because few rows teach it.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechft.analysis.activations import Positions
from mechft.analysis.batches import Data
from mechft.analysis.probes.controls import Control, TypeOf
from mechft.analysis.probes.fitting import DEFAULT_L2, L2, check_l2
from mechft.analysis.probes.inputs import (
    Features,
    control_tasks,
    features_of_controls,
    labelled,
    named_sites,
    place,
)
from mechft.analysis.probes.linear_probes import class_index
from mechft.analysis.probes.logistic import Design, fit_logistic
from mechft.analysis.result import Result
from mechft.errors import require
from mechft.models.hook_points import ModelLike
from mechft.randomness import generator
from mechft.statistics import mean_estimate

if TYPE_CHECKING:
    import pandas as pd

BLOCKS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.0625, 0.125, 0.25, 0.5, 1.0)
"""Shares of the rows at which the probe is fitted anew (Voita & Titov 2020, Sec. 3.2)."""

_TOLERANCE = 1e-5  # nats a row that the probes may still gain
_SHARE = 0.1  # of the weight that goes back to every predictor alike before a block


@dataclass(frozen=True)
class DescriptionLength(Result):
    """Bits that labels take given activations, by the online code, beside codes that do not look.

    Columns: model, block, hook, component, target, control (as in ``ProbeResult``), bits (length of the
    online code), ci_low, ci_high (95%, normal, over rows given the fitted probes: the bits of a row times
    the rows), uniform_bits (n × log2 classes), label_bits (n × the labels' entropy), compression
    (uniform_bits / bits), compression_over_labels (label_bits / bits), n, classes.

    Attributes:
        frame: The measurements.
        curve: What each block cost: model, hook, target, control, seen (rows before it), until, bits,
            bits_per_row, uniform_bits_per_row.
    """

    curve: pd.DataFrame = field(repr=False)


def description_length(
    models: Mapping[str, ModelLike],
    data: Data,
    target: str,
    *,
    hook_names: Sequence[str] | None = None,
    positions: Positions = "answer",
    l2: L2 = DEFAULT_L2,
    blocks: Sequence[float] = BLOCKS,
    controls: Sequence[Control] = ("shuffled_labels",),
    control_type: TypeOf | None = None,
    seed: int = 0,
) -> DescriptionLength:
    """Length of the online code for a label at every site of every model.

    The first block is sent with the uniform code. Of the probes with different ``l2``, and the labels'
    frequencies so far, the code uses a mixture whose weights follow what each has predicted so far, a
    tenth of them shared out anew before each block: no row has to be held back to choose a penalty, and
    the sum is what a receiver who knows the activations would need. Each probe's probabilities are mixed
    with uniform ones as if half a row of each class had been seen.

    Args:
        models: Models by the name they get in the frame.
        data: Rows, sent in an order drawn by ``seed``.
        target: Name of a label.
        hook_names: Sites; by default the residual stream after each block.
        positions: Where to read; see ``probe``.
        l2: Weight of the penalty, or several to mix.
        blocks: Rising shares of the rows at which the probe is fitted anew; the last is 1.
        controls: As in ``probe``, each in rows of its own.
        control_type: As in ``probe``.
        seed: Seed of the order and of the controls.

    Raises:
        UnknownNameError: As ``probe``.
        ConfigError: As ``probe``, or if the blocks do not rise to 1.

    Source: Voita & Titov (2020), "Information-Theoretic Probing with Minimum Description Length".

    Cost: fits on as many rows altogether as ``data`` has, for each penalty and site.
    """
    batch = labelled(data, target, learn=True)
    grid = check_l2(l2)
    ends = _ends(blocks, len(batch))
    classes, _ = class_index(batch.labels[target].cpu())
    uniform = math.log2(len(classes))
    ready = named_sites(models, hook_names, positions)
    labels = control_tasks(controls, target, [batch], control_type, seed)
    order = torch.randperm(len(batch), generator=generator(seed, "description length", "order"))

    rows: list[dict[str, Any]] = []
    steps: list[dict[str, Any]] = []
    twins: dict[Hashable, Features] = {}
    for name, (model, sites) in ready.items():
        for control, shown in features_of_controls(
            [*labels], model, sites, [batch], positions, seed, twins
        ):
            index = torch.searchsorted(
                classes, labels[control][0][order]
            )  # controls deal out the same
            n = len(index)
            share = torch.bincount(index).double() / n
            entropy = float(torch.special.entr(share).sum()) / math.log(2)
            for site in sites:
                named = {"model": name, **place(site), "target": target, "control": control}
                bits = _code(Design(shown[0][site][order]), index, len(classes), grid, ends)
                mean = mean_estimate(bits)
                rows.append(
                    named
                    | {"bits": n * mean.value, "ci_low": n * mean.low, "ci_high": n * mean.high}
                    | {"uniform_bits": n * uniform, "label_bits": n * entropy}
                    | {"compression": uniform / mean.value}
                    | {"compression_over_labels": entropy / mean.value}
                    | {"n": n, "classes": len(classes)}
                )
                for seen, until in pairwise((0, *ends)):
                    spent = float(bits[seen:until].sum())
                    steps.append(
                        named
                        | {"seen": seen, "until": until, "bits": spent}
                        | {"bits_per_row": spent / (until - seen), "uniform_bits_per_row": uniform}
                    )
    import pandas as pd

    return DescriptionLength(pd.DataFrame(rows), pd.DataFrame(steps))


def _ends(blocks: Sequence[float], n: int) -> list[int]:
    """The number of rows sent at the end of each block; blocks that hold no row are left out."""
    rising = all(low < high for low, high in pairwise((0.0, *blocks)))
    require(
        rising and bool(blocks) and blocks[-1] == 1,
        f"Blocks are rising shares of the rows that end at 1, such as (0.01, 0.1, 1); got {blocks!r}.",
    )
    return sorted({max(1, round(share * n)) for share in blocks})


def _code(
    design: Design,
    index: Int[Tensor, " row"],
    n_classes: int,
    grid: Sequence[float],
    ends: list[int],
) -> Float[Tensor, " row"]:
    """Bits that each row's label takes, in order."""
    bits = torch.full((len(index),), math.log2(n_classes), dtype=torch.float64)
    weights = torch.full((len(grid) + 1,), 1 / (len(grid) + 1), dtype=torch.float64)
    for seen, until in pairwise(ends):
        log_probability = _predictors(design, index, n_classes, grid, seen, until)
        weights = (1 - _SHARE) * weights + _SHARE / len(weights)
        # Row by row: the mixture's probability, and each predictor's weight after it (Bayes' rule).
        joint = weights.log()[:, None] + log_probability.cumsum(1)
        evidence = joint.logsumexp(0)
        bits[seen:until] = -evidence.diff(prepend=evidence.new_zeros(1)) / math.log(2)
        weights = joint[:, -1].softmax(0)
    return bits


def _predictors(
    design: Design, index: Tensor, n_classes: int, grid: Sequence[float], seen: int, until: int
) -> Float[Tensor, "predictor row"]:
    """Log-probability of each next label under the labels' frequencies and the probe of each penalty."""
    half_rows = n_classes / 2  # half a row a class: Krichevsky & Trofimov (1981)
    counts = torch.bincount(index[:seen], minlength=n_classes).double()
    found = [((counts + 0.5) / (seen + half_rows)).log()[index[seen:until]]]
    start: Tensor | None = None
    for l2 in grid:
        fit = fit_logistic(
            design, index, n_classes, l2, n_rows=seen, start=start, tolerance=_TOLERANCE
        )
        start = fit.weight
        probability = (start @ design.columns[:, seen:until]).double().softmax(0)
        right = probability.gather(0, index[None, seen:until])[0]
        found.append(((seen * right + 0.5) / (seen + half_rows)).log())
    return torch.stack(found)
