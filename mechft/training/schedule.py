"""Learning rates over a run."""

from __future__ import annotations

import math


def warmup_cosine(
    step: int, steps: int, peak: float, warmup_fraction: float, final_fraction: float
) -> float:
    """Learning rate of one step: linear warm-up to ``peak``, then a cosine down (Jain et al., Sec. 4).

    Args:
        step: Steps already taken, from 0.
        steps: Steps of the whole run.
        peak: Highest learning rate.
        warmup_fraction: Share of the steps spent warming up, in 0..1.
        final_fraction: Learning rate at the end, as a share of the peak.
    """
    warmup = round(steps * warmup_fraction)
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - 1 - warmup)
    share = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return peak * (final_fraction + (1 - final_fraction) * share)
