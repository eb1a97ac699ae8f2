"""MLP activations as they are drawn: the neuron down, the position of the prompt across."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mechft.analysis.activations import activations_of, chunks
from mechft.analysis.batches import Data
from mechft.analysis.result import Result
from mechft.analysis.streaming.means import finite_float64
from mechft.errors import require
from mechft.models import hook_points
from mechft.models.hook_points import ModelLike, as_model, check_hook_points


@dataclass(frozen=True)
class NeuronMaps(Result):
    """Activations of one block's MLP neurons in several models, of one row or averaged over rows.

    Columns: model, block, neuron, position (in the prompt), token (the position's label), activation
    (after the non-linearity; mean over rows), n (rows).

    Attributes:
        activations: Float["neuron position"] by model.
        neurons: Which neuron each row of ``activations`` is.
        labels: What the positions of the prompt are called.
        block: The MLP's block.
        n: Rows averaged.
        left_out: Neurons that were asked for but left out as quiet in every model.
    """

    activations: Mapping[str, Float[Tensor, "neuron position"]] = field(repr=False)
    neurons: tuple[int, ...]
    labels: tuple[str, ...]
    block: int
    n: int
    left_out: int

    def _repr_html_(self) -> str:
        quiet = f" ({self.left_out} quiet ones left out)" if self.left_out else ""
        return (
            f"<p><b>NeuronMaps</b>: {len(self.neurons)} neurons of block {self.block}{quiet} in "
            f"{', '.join(self.activations)}, {len(self.labels)} tokens, mean over {self.n} rows. "
            "<code>.frame</code> is long; draw it with <code>plot</code>.</p>"
        )


def neuron_maps(
    models: Mapping[str, ModelLike],
    data: Data,
    *,
    block: int = 0,
    row: int | None = None,
    neurons: Sequence[int] | None = None,
    labels: Sequence[str] | None = None,
    quiet: float | None = None,
) -> NeuronMaps:
    """What the neurons of one MLP do at each position, models side by side on the same rows.

    Args:
        models: By name; the base first.
        data: Rows of the same length; the prompts are shown.
        block: Which block's MLP.
        row: One row of the data, by its place; the mean over all rows by default.
        neurons: Which neurons, in this order; all by default.
        labels: What to call the positions of the prompt; their numbers by default.
        quiet: Leave out neurons whose activation is nowhere further from 0 than this, in no model and
            at no position of what is shown (``left_out`` counts them); 0 leaves out those that are 0
            everywhere. None keeps all.

    Raises:
        UnknownNameError: If a model lacks ``blocks.i.mlp.hook_post``.
        ConfigError: If there is no model, widths differ, a neuron or the row does not exist, ``quiet``
            leaves none, prompts differ in length, there are not as many labels as positions, or an
            activation is not finite.

    Source: Jain et al. (2024), Figs. 46 and 53.

    Cost: one hooked forward a model. The frame has models × neurons × length rows.
    """
    named = {name: as_model(model) for name, model in models.items()}
    require(bool(named), "Neuron maps need at least one model, by name; got none.")
    hook = hook_points.neurons(block)
    for model in named.values():
        check_hook_points(model, [hook])
    sums: dict[str, Tensor] = {}
    seen = length = used = 0
    for chunk in chunks(data):
        length = length or chunk.prompt.shape[1]
        require(
            chunk.prompt.shape[1] == length,
            f"Maps need prompts of the same length; got {length} and {chunk.prompt.shape[1]} tokens.",
        )
        place, seen = seen, seen + len(chunk)
        if row is not None:
            if not place <= row < seen:
                continue
            chunk = chunk.rows(slice(row - place, row - place + 1))
        used += len(chunk)
        for name, model in named.items():
            found = activations_of(model, chunk, [hook], "all")[hook]
            total = finite_float64(found).unflatten(0, (len(chunk), length)).sum(0).T.cpu()
            sums[name] = sums[name] + total if name in sums else total
    require(used > 0, f"Rows of the data are 0..{seen - 1}; got row={row}.")
    require(
        labels is None or len(labels) == length,
        f"A label names each of the {length} positions of the prompt; got {len(labels or ())}.",
    )
    means = {name: total / used for name, total in sums.items()}
    asked = _asked(means, neurons)
    kept = asked if quiet is None else _loud(means, asked, quiet)
    means = {name: value[kept] for name, value in means.items()}
    names = tuple(labels) if labels is not None else tuple(str(i) for i in range(length))
    import pandas as pd

    neuron, position = (axis.ravel() for axis in np.indices((len(kept), length)))
    frames = [
        pd.DataFrame(
            {
                "model": name,
                "block": block,
                "neuron": np.array(kept)[neuron],
                "position": position,
                "token": np.array(names, dtype=object)[position],
                "activation": value.flatten().numpy(),
                "n": used,
            }
        )
        for name, value in means.items()
    ]
    frame = pd.concat(frames, ignore_index=True)
    return NeuronMaps(frame, means, tuple(kept), names, block, used, len(asked) - len(kept))


def _asked(means: Mapping[str, Tensor], neurons: Sequence[int] | None) -> list[int]:
    """The neurons asked for, once the models are known to have them."""
    widths = {name: len(value) for name, value in means.items()}
    width = next(iter(widths.values()))
    require(
        set(widths.values()) == {width},
        f"Models side by side have MLPs of the same width; got {widths}.",
    )
    if neurons is None:
        return list(range(width))
    asked = list(dict.fromkeys(int(neuron) for neuron in neurons))
    wrong = [neuron for neuron in asked if not 0 <= neuron < width]
    require(
        bool(asked) and not wrong,
        f"Give at least one neuron, each in 0..{width - 1}; got {wrong or asked}.",
    )
    return asked


def _loud(means: Mapping[str, Tensor], asked: list[int], quiet: float) -> list[int]:
    """Those neurons that are further than ``quiet`` from 0 somewhere in some model."""
    require(
        math.isfinite(quiet) and quiet >= 0,
        f"quiet is a distance from 0, finite and at least 0; got {quiet}.",
    )
    most = torch.stack([value.abs().amax(1) for value in means.values()]).amax(0)
    kept = [neuron for neuron in asked if float(most[neuron]) > quiet]
    require(
        bool(kept),
        f"No neuron is further than quiet={quiet:g} from 0 anywhere; the largest distance is "
        f"{float(most[asked].max()):.3g}. Lower quiet.",
    )
    return kept
