"""How fast a capability comes back under reverse fine-tuning, against a model that never had it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mechft.analysis.result import Result
from mechft.errors import require, unknown_name
from mechft.training.trained import Trained, steps_to


@dataclass(frozen=True)
class Revival(Result):
    """Accuracy on O_PT over the steps of reverse fine-tuning.

    Columns: model, step, accuracy, ci_low, ci_high, n.
    """

    def steps_to(self, threshold: float = 0.95) -> dict[str, int | None]:
        """For each model the first evaluated step from which its accuracy stays at the threshold.

        None where the run ended below it. Evaluations are spaced: the true step lies between the one
        before and this one (``brackets``), and each is measured on n rows only.
        """
        return {
            str(model): steps_to(list(rows["step"]), list(rows["accuracy"]), threshold)
            for model, rows in self.frame.groupby("model", sort=False)
        }

    def brackets(self, threshold: float = 0.95) -> dict[str, tuple[int, int | None]]:
        """For each model the last evaluated step before ``steps_to``'s, and that one."""
        found: dict[str, tuple[int, int | None]] = {}
        for model, step in self.steps_to(threshold).items():
            steps = self.frame.loc[self.frame["model"] == model, "step"]
            before = steps if step is None else steps[steps < step]
            found[model] = (int(before.max()) if len(before) else 0, step)
        return found


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
