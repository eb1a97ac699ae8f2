"""Patching done in several batches, such as prompts of several lengths, as one result over all rows."""

from __future__ import annotations

from typing import Any

import torch

from mechft.analysis.metrics import summary
from mechft.analysis.patching import Patching, recovered


def pooled(found: Patching, task: str, seed: int = 0) -> Patching:
    """All tasks of a patching as one, from its values row by row.

    A patch acts on each row on its own, so rows of prompts of different length, which cannot be one batch,
    can be counted together afterwards.

    Args:
        found: Of ``patch_across`` at all positions, each batch a task.
        task: What the one task is called.
        seed: Seed of the bootstrap.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    values = {}
    metric = str(found.frame["metric"].iloc[0])
    for (direction, site), parts in found.frame.groupby(["direction", "site"], sort=False):
        whole = torch.cat([found.rows[direction, site, part] for part in parts["task"]], 1)
        values[str(direction), str(site), task] = whole
        patched, receiver, donor = whole
        score = summary(patched, metric)
        share = recovered(patched, receiver, donor, seed=seed)
        measured = {
            "task": task,
            "value": score.value,
            "ci_low": score.low,
            "ci_high": score.high,
            "receiver": float(receiver.double().mean()),
            "donor": float(donor.double().mean()),
            "recovered": share[0],
            "recovered_low": share[1],
            "recovered_high": share[2],
            "n": score.n,
        }
        rows.append({**parts.iloc[0].to_dict(), **measured})
    frame = pd.DataFrame(rows, columns=list(found.frame.columns))
    return Patching(frame.astype({"index": "Int64", "position": "Int64"}), values)
