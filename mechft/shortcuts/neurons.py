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

    Returns:
        ``activations``, Float["neuron position"] by model, and one row a neuron and position
        (``mechft.analysis.neuron_maps.NeuronMaps`` lists the columns).

    Raises:
        ConfigError: If models share a name or answer different tasks; if a block, neuron or row does not
            exist, or ``quiet`` leaves no neuron.

    Source: Jain et al. (2024), Figs. 46 and 53.

    Cost: one hooked forward a model. The frame has models × neurons × length rows.

    Example:
        >>> import mechft as mf
        >>> base = mf.load("tracr-max")
        >>> found = mf.neuron_maps(base, block=0, quiet=0)  # without those that are silent
        >>> found.activations["tracr-max"].shape[1]  # "$" and ten letters
        11
        >>> len(found.neurons) + found.left_out == base.model.cfg.d_mlp
        True
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
