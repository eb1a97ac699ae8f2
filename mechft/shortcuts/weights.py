"""One-liners that compare weights."""

from __future__ import annotations

from mechft.analysis import weight_diff
from mechft.shortcuts.common import joined, together
from mechft.training.trained import Trained


def diff_weights(base: Trained, *finetuned: Trained) -> weight_diff.WeightDiff:
    """How far each weight matrix moved from the base model's. Cost: under a second a model at tiny."""
    named, _ = together((base, *finetuned))
    return joined(
        [weight_diff.diff_weights(base.model, named[t.name].model, name=t.name) for t in finetuned]
    )
