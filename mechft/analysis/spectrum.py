"""The singular values of what fine-tuning added to a matrix, beside those the matrix had."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from mechft.analysis.result import Result
from mechft.analysis.weights.pairs import matrix, weight_pairs
from mechft.analysis.weights.spectra import matrix_change
from mechft.errors import require, unknown_name
from mechft.models.hook_points import ModelLike


@dataclass(frozen=True)
class Spectrum(Result):
    """Singular values of every weight matrix of the base, and of what fine-tuning added to it.

    Columns: model, parameter, block, component, of ("change" or "base"), index (from 1, largest first),
    value, energy (share of the squared norm in the values up to this one; NaN for a change of 0). Heads
    are laid side by side (W_O: under each other). Values of "base" are good to 1e-8 of the largest. No
    intervals: exact functions of the weights.
    """


def spectrum(
    base: ModelLike,
    finetuned: ModelLike,
    *,
    parameters: Sequence[str] | None = None,
    name: str = "finetuned",
) -> Spectrum:
    """Singular values of the change beside those of the base.

    Args:
        base, finetuned: Models of the same kind and shape.
        parameters: Matrices by name; by default those of the blocks.
        name: What the frame calls the fine-tuned model.

    Raises:
        ConfigError: As ``diff_weights``.
        UnknownNameError: If a parameter does not exist or is not a matrix.

    Cost: as ``diff_weights``, without the eigenvectors.
    """
    pairs = {key: pair for key, pair in weight_pairs(base, finetuned).items() if pair.is_matrix}
    for key in parameters or ():
        if key not in pairs:
            raise unknown_name("matrix", key, pairs)
    chosen = [key for key, p in pairs.items() if p.in_block] if parameters is None else parameters
    require(len(chosen) > 0, "Name at least one matrix, or leave parameters out for all; got none.")
    import pandas as pd

    parts = []
    for key in chosen:
        pair = pairs[key]
        found = matrix_change(matrix(pair.before, pair.kind), matrix(pair.after, pair.kind))
        for of, values in (("change", found.change_values()), ("base", found.base_values())):
            squares = values.square()
            place = {
                "model": name,
                "parameter": key,
                "block": pair.block,
                "component": pair.component,
            }
            measured = {
                "of": of,
                "index": torch.arange(1, len(values) + 1).numpy(),
                "value": values.numpy(),
                "energy": (squares.cumsum(0) / squares.sum()).numpy(),
            }
            parts.append(pd.DataFrame(place | measured))
    return Spectrum(pd.concat(parts, ignore_index=True))
