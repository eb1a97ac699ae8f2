"""How fast a capability comes back under reverse fine-tuning, against a model that never had it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from mechft.analysis.result import Result
from mechft.errors import ConfigError, require, unknown_name
from mechft.statistics import t_estimate
from mechft.training.trained import Trained, steps_to

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = ["step", "accuracy", "ci_low", "ci_high", "n"]


@dataclass(frozen=True)
class Revival(Result):
    """Accuracy on O_PT over the steps of reverse fine-tuning.

    Columns: model, run (0, 1, … where a model has several, say of other seeds), step, examples (seen by
    then), accuracy, ci_low, ci_high (95% Wilson, over rows), n.
    """

    def steps_to(self, threshold: float = 0.95) -> dict[str, int | None]:
        """For each model the first evaluated step from which its accuracy stays at the threshold.

        Of several runs the median one; None where it ended below. Evaluations are spaced: the true step
        lies between the one before and this one (``brackets``), and each is measured on n rows only.
        """
        return {name: _median(self._reached(name, threshold)) for name in self._models()}

    def brackets(self, threshold: float = 0.95) -> dict[str, tuple[int, int | None]]:
        """For each model the last evaluated step before ``steps_to``'s, and that one."""
        found: dict[str, tuple[int, int | None]] = {}
        for model, step in self.steps_to(threshold).items():
            runs, reached = self._runs(model), self._reached(model, threshold)
            steps = runs[reached.index(step)]["step"]
            before = steps if step is None else steps[steps < step]
            found[model] = (int(before.max()) if len(before) else 0, step)
        return found

    def summary(self, threshold: float = 0.95, control: str | None = None) -> pd.DataFrame:
        """One row a model: what revival took, and how that compares with a model that never had it.

        Args:
            threshold: Accuracy that counts as back.
            control: The model compared with, such as "Scr.+FT".

        Returns:
            model, runs, reached (how many got there), steps, examples (median run; NaN if it did not),
            auc (mean over runs of the area under accuracy from step 0 to the longest run's end, as a
            share of the whole), and beside a control, whose own row has nothing there: ratio (geometric
            mean over runs of the control's steps over this model's, run i against run i: 4 means four
            times faster), ratio_low, ratio_high, interval ("over runs": with three pairs or more, Student's
            t on the logarithms, 95%; "between evaluations": with fewer, the least and the greatest ratio that
            the spacing of evaluations allows, which says nothing about other seeds), and bound: "=", or ">="
            where some control run did not get there (its last step stands in), "<=" where some run of the
            model did not, "?" where both happened. Step 0 counts as 1.
        """
        import pandas as pd

        if control is not None and control not in self._models():
            raise unknown_name("control", control, self._models())
        horizon = int(self.frame["step"].max())
        rows = []
        for model in self._models():
            reached = self._reached(model, threshold)
            middle = _median(reached)
            runs = self._runs(model)
            rate = float((runs[0]["examples"] / runs[0]["step"].clip(lower=1)).iloc[-1])
            row: dict[str, Any] = {
                "model": model,
                "runs": len(runs),
                "reached": sum(step is not None for step in reached),
                "steps": float("nan") if middle is None else middle,
                "examples": float("nan") if middle is None else middle * rate,
                "auc": sum(_area(run, horizon) for run in runs) / len(runs),
            }
            if control not in (None, model):
                row |= self._ratio(model, control, threshold)
            rows.append(row)
        return pd.DataFrame(rows)

    def _ratio(self, model: str, control: str, threshold: float) -> dict[str, Any]:
        ours, theirs = (self._passed(name, threshold) for name in (model, control))
        pairs = list(zip(ours, theirs, strict=False))
        logs = torch.tensor([math.log(b.by / a.by) for a, b in pairs], dtype=torch.float64)
        if len(pairs) >= 3:
            mean = t_estimate(logs)
            low, high, interval = math.exp(mean.low), math.exp(mean.high), "over runs"
        else:
            low = math.exp(sum(math.log(b.after / a.by) for a, b in pairs) / len(pairs))
            high = math.exp(sum(math.log(b.by / a.after) for a, b in pairs) / len(pairs))
            interval = "between evaluations"
        missing = (any(not a.reached for a, _ in pairs), any(not b.reached for _, b in pairs))
        bound = {(False, False): "=", (False, True): ">=", (True, False): "<="}.get(missing, "?")
        return {
            "ratio": math.exp(float(logs.mean())),
            "ratio_low": low,
            "ratio_high": high,
            "interval": interval,
            "bound": bound,
        }

    def _passed(self, model: str, threshold: float) -> list[_Passage]:
        found = []
        for run, step in zip(self._runs(model), self._reached(model, threshold), strict=True):
            end = int(run["step"].max())
            before = [s for s in run["step"] if s < (end if step is None else step)]
            after = end if step is None else max(before, default=0)
            found.append(
                _Passage(max(1, after), max(1, end if step is None else step), step is not None)
            )
        return found

    def _models(self) -> list[str]:
        return [str(model) for model in self.frame["model"].unique()]

    def _runs(self, model: str) -> list[pd.DataFrame]:
        rows = self.frame[self.frame["model"] == model]
        return [run for _, run in rows.groupby("run", sort=False)]

    def _reached(self, model: str, threshold: float) -> list[int | None]:
        return [
            steps_to(list(run["step"]), list(run["accuracy"]), threshold)
            for run in self._runs(model)
        ]


class _Passage(NamedTuple):
    """Between which steps, from 1, a run passed the threshold; its end twice if it did not."""

    after: int
    by: int
    reached: bool


def _median(reached: Sequence[int | None]) -> int | None:
    """The middle run's step, runs that did not get there last; of an even number the later one."""
    order = sorted(reached, key=lambda step: math.inf if step is None else step)
    return order[len(order) // 2]


def _area(run: pd.DataFrame, horizon: int) -> float:
    """Area under accuracy up to ``horizon``; a run that stopped earlier is taken to have stayed."""
    steps = torch.tensor([*run["step"], max(horizon, int(run["step"].max()))], dtype=torch.float64)
    values = torch.tensor([*run["accuracy"], run["accuracy"].iloc[-1]], dtype=torch.float64)
    area = float(torch.trapezoid(values, steps))
    return area / float(steps[-1]) if float(steps[-1]) else float(values[-1])


Runs = Trained | Sequence[Trained] | Any
"""One run, or several of one model (other seeds): ``Trained``s, or frames with a history's columns."""


def revival(runs: Mapping[str, Runs], *, evaluation: str = "acc_pt_cte0") -> Revival:
    """Gather the histories of reverse fine-tuning runs (Jain et al. 2024, Fig. 9).

    Args:
        runs: What ``reverse_finetune`` and the controls returned, one or a list of runs (seeds), by the
            name it gets in the frame; or frames with columns step, evaluation, accuracy, ci_low,
            ci_high, n (and batch_size, else examples are counted at one a step). Runs of two models
            with the same place in their lists are compared with each other: give them the same seeds.
        evaluation: Which evaluation of their histories to follow.

    Raises:
        UnknownNameError: If a run has no such evaluation.
        ConfigError: If there is no run, or the runs were not trained on the same question, or that is
            not the capability whose return is measured: relearning another one says nothing about it.
            (Frames carry no such record, so they are not checked.)

    Example:
        >>> import pandas as pd
        >>> import mechft as mf
        >>> run = pd.DataFrame({"step": [0, 10, 20], "evaluation": "acc_pt_cte0", "n": 500})
        >>> run["accuracy"] = run["ci_low"] = run["ci_high"] = [0.08, 0.96, 0.99]
        >>> mf.revival({"reFT": run}).steps_to(0.95)
        {'reFT': 10}
    """
    import pandas as pd

    questions: dict[str, tuple[Any, ...]] = {}  # of the runs that carry a record
    parts = []
    for name, given in runs.items():
        several = [given] if isinstance(given, Trained | pd.DataFrame) else list(given)
        for place, run in enumerate(several):
            if isinstance(run, Trained):
                history = run.history
                batch_size = int(run.lineage[-1].get("batch_size", 1)) if run.lineage else 1
                if run.lineage:
                    questions[f"{name} ({place})"] = _question(run)
            else:
                history = run
                batch_size = int(run["batch_size"].iloc[0]) if "batch_size" in run else 1
            if evaluation not in set(history["evaluation"]):
                raise unknown_name("evaluation", evaluation, history["evaluation"].unique())
            rows = history[history["evaluation"] == evaluation][_COLUMNS].copy()
            rows.insert(1, "examples", rows["step"] * batch_size)
            rows.insert(0, "run", place)
            rows.insert(0, "model", name)
            parts.append(rows)
    require(bool(parts), "A revival curve needs at least one run; got none.")
    if len(set(questions.values())) > 1:
        raise ConfigError(
            "Runs compared are trained back on the same question; got "
            + ", ".join(
                f"{name}: {family}({operand})" for name, (family, operand) in questions.items()
            )
            + ". Give all the same contrast."
        )
    return Revival(pd.concat(parts, ignore_index=True))


def _question(run: Trained) -> tuple[Any, ...]:
    """Family and operand a run was trained on, once it is known to be the deleted capability's."""
    last = run.lineage[-1]
    asked = (last.get("family"), last.get("operand"))
    for entry in reversed(run.lineage[:-1]):
        if entry["recipe"] == "finetune" and last.get("recipe") == "reverse_finetune":
            lost = (entry["family"], entry["pretraining_operand"])
            if lost != asked:
                raise ConfigError(
                    f"{run.name} was fine-tuned away from {lost[0]}({lost[1]}) and then trained on "
                    f"{asked[0]}({asked[1]}): that is not the capability whose return is measured. "
                    "Reverse fine-tune it with its own contrast."
                )
            break
    return asked
