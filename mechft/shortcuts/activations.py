"""One-liners that compare activations and outputs."""

from __future__ import annotations

from mechft.analysis import activation_diff
from mechft.randomness import generator
from mechft.shortcuts.common import joined, together
from mechft.tasks.batch import TokenBatch
from mechft.tasks.contrast import Contrast
from mechft.training.trained import Trained


def diff_activations(
    base: Trained,
    *finetuned: Trained,
    batch: TokenBatch | None = None,
    contrast: Contrast | None = None,
    size: int = 500,
    seed: int = 0,
) -> activation_diff.ActivationDiff:
    """How far activations at the answer position moved; by default on grammar strings, asked for O_PT.

    Give ``batch`` to compare them on rows of your own.
    """
    _, contrast = together((base, *finetuned), contrast)
    if batch is None:
        query = base.task.query(contrast.family, contrast.pretraining_operand)
        batch = query.sample(size, generator(seed, "diff", contrast.pretraining_operand))
    return joined(
        [
            activation_diff.diff_activations(base.model, t.model, batch, name=t.name)
            for t in finetuned
        ]
    )
