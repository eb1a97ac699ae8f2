"""One-liners that look at single neurons."""

from __future__ import annotations

from collections.abc import Sequence

from mechft.analysis import neuron_maps as maps
from mechft.shortcuts.activations import asked_rows
from mechft.shortcuts.common import position_labels, together
from mechft.tasks.batch import TokenBatch
from mechft.tasks.contrast import Contrast
from mechft.training.trained import Trained


def neuron_maps(
    *models: Trained,
    batch: TokenBatch | None = None,
    contrast: Contrast | None = None,
    block: int = 0,
    row: int | None = 0,
    neurons: Sequence[int] | None = None,
    quiet: float | None = None,
    size: int = 500,
    seed: int = 0,
) -> maps.NeuronMaps:
    """One MLP's activations side by side, with the prompt's tokens named: one row, or the mean over all.

    Args:
        models: The base first.
        batch: Rows; by default plain strings, asked for O_PT.
        contrast: What is asked; by default what the last model was fine-tuned on.
        block: Which block's MLP.
        row: Which row; None for the mean over all, where a position is named by its token if that is the
            same in every row.
        neurons: Which neurons; all by default.
        quiet: Leave out neurons that are nowhere further from 0 than this; 0 leaves out silent ones.
        size, seed: Rows drawn if ``batch`` is not given.
    """
    named, contrast = together(models, contrast)
    batch = asked_rows(models, batch, contrast, "neuron_maps", size, seed)
    return maps.neuron_maps(
        {name: trained.model for name, trained in named.items()},
        batch,
        block=block,
        row=row,
        neurons=neurons,
        labels=position_labels(models[0], batch, row),
        quiet=quiet,
    )
