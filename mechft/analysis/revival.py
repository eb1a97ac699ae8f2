"""How fast a capability comes back under reverse fine-tuning, against a model that never had it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mechft.analysis.result import Result
from mechft.errors import require, unknown_name

if TYPE_CHECKING:
    from mechft.training.trained import Trained


@dataclass(frozen=True)
class Revival(Result):
    """Accuracy on O_PT over the steps of reverse fine-tuning.

    Columns: model, step, accuracy, ci_low, ci_high, n.
    """

    def steps_to(self, threshold: float = 0.95) -> dict[str, int | None]:
        """For each model the first evaluated step with at least this accuracy; None if never reached.

        The step is an upper bound: evaluations are spaced, and the one before was still below.
        """
        require(0 < threshold <= 1, f"A threshold is an accuracy in (0, 1]; got {threshold}.")
        reached: dict[str, int | None] = {}
        for model, rows in self.frame.groupby("model", sort=False):
            steps = rows.loc[rows["accuracy"] >= threshold, "step"]
            reached[str(model)] = int(steps.min()) if len(steps) else None
        return reached


def revival(runs: Mapping[str, Trained], *, evaluation: str = "acc_pt_cte0") -> Revival:
    """Gather the histories of reverse fine-tuning runs (Jain et al. 2024, Fig. 9).

    Args:
        runs: What ``reverse_finetune`` returned, by the name it gets in the frame.
        evaluation: Which evaluation of their histories to follow.

    Raises:
        UnknownNameError: If a run has no such evaluation.
    """
    import pandas as pd

    parts = []
    for name, run in runs.items():
        history = run.history
        if evaluation not in set(history["evaluation"]):
            raise unknown_name("evaluation", evaluation, history["evaluation"].unique())
        rows = history[history["evaluation"] == evaluation]
        rows = rows[["step", "accuracy", "ci_low", "ci_high", "n"]].copy()
        rows.insert(0, "model", name)
        parts.append(rows)
    require(bool(parts), "A revival curve needs at least one run; got none.")
    return Revival(pd.concat(parts, ignore_index=True))
