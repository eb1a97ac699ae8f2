"""What the demo measured: its parts by name, as JSON and as tables."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mechft.analysis.ablation import Ablation
from mechft.analysis.activation_diff import ActivationDiff
from mechft.analysis.attention import AttentionDiff
from mechft.analysis.attention_maps import AttentionMaps
from mechft.analysis.diagnosis import Diagnosis
from mechft.analysis.interpolation import Interpolation
from mechft.analysis.output_diff import OutputDiff
from mechft.analysis.patching import Patching
from mechft.analysis.probing import ProbeResult
from mechft.analysis.pruning import PruneCurve
from mechft.analysis.revival import Revival
from mechft.analysis.weight_diff import WeightDiff
from mechft.experiments.checks import Check
from mechft.experiments.demo_config import DemoConfig, DemoScale
from mechft.files import write_text
from mechft.statistics import Proportion
from mechft.training.trained import Trained, package_versions

if TYPE_CHECKING:
    import pandas as pd


BASE, WITH, WITHOUT, CONTROL = "base", "C_Tr = 1", "C_Tr = 0", "Scr.+FT"
NEVER, UNTRAINED = "never asked for a", "untrained"
REFT = "reFT after C_Tr = 1"
THRESHOLD, STOP_AT = 0.95, 0.97
_SHORT = {BASE: "base", WITH: "c1", WITHOUT: "c0"}


@dataclass(frozen=True)
class DemoResult:
    """Everything the demo measured.

    Attributes:
        config, scale: What was run.
        behaviour: Accuracy by model name and question ("acc_pt_cte0" …).
        wrapper: By model name and operand asked for, how often the answer on uncorrelated strings is
            count(a) + 1: the shortcut itself, seen where it is wrong.
        histories: The fine-tuning and reverse fine-tuning runs, by name.
        probe, prune, ablation, weight_diff, activation_diff, patching, interpolation, attention, outputs,
            revival: The analyses; the last four but one compare the base with C_Tr = 1.
        maps: Attention of the head whose pattern moved most, on one string.
        diagnosis: What became of count a under C_Tr = 1, from the analyses above.
        checks: What was expected and whether it holds.
    """

    config: DemoConfig
    scale: DemoScale
    behaviour: dict[str, dict[str, Proportion]]
    wrapper: dict[str, dict[str, Proportion]]
    histories: dict[str, Trained]
    probe: ProbeResult
    prune: PruneCurve
    ablation: Ablation
    weight_diff: WeightDiff
    activation_diff: ActivationDiff
    patching: Patching
    interpolation: Interpolation
    attention: AttentionDiff
    maps: AttentionMaps
    outputs: OutputDiff
    revival: Revival
    diagnosis: Diagnosis
    checks: tuple[Check, ...]

    def to_dict(self) -> dict[str, Any]:
        """The content of results.json: plain JSON values, accuracies in 0..1."""
        finetuned = {
            short: {
                "acc_pt": self.behaviour[name]["acc_pt_cte0"].value,
                **{
                    question: found.value
                    for question, found in self.behaviour[name].items()
                    if question != "acc_pt_cte0"
                },
                "interval_95": {q: [s.low, s.high] for q, s in self.behaviour[name].items()},
                "n": self.behaviour[name]["acc_pt_cte0"].n,
            }
            for name, short in _SHORT.items()
        }
        names = {WITH: "c1", WITHOUT: "c0", REFT: "c1", CONTROL: "scratch_finetune"}
        curves = {
            names[str(model)]: _records(rows.rename(columns={"accuracy": "acc_pt"}))
            for model, rows in self.revival.frame.groupby("model", sort=False)
        }
        reached = {names[m]: step for m, step in self.revival.steps_to(THRESHOLD).items()}
        return {
            "base": finetuned.pop("base"),
            "finetuned": finetuned,
            "shortcut": {
                _SHORT[name]: {f"asked_{o}": s.value for o, s in shares.items()}
                for name, shares in self.wrapper.items()
            },
            "prune": {names[name]: prune_table(self.prune, name) for name in (WITH, WITHOUT)},
            "probe": _records(self.probe.frame),
            "ablation": _records(self.ablation.frame),
            "weight_diff": _records(self.weight_diff.frame),
            "activation_diff": _records(self.activation_diff.frame),
            "patching": _records(self.patching.frame),
            "interpolation": _records(self.interpolation.frame),
            "attention": _records(self.attention.frame),
            "outputs": _records(self.outputs.frame),
            "diagnosis": {
                "verdict": self.diagnosis.verdict,
                "reason": self.diagnosis.reason,
                "votes": _records(self.diagnosis.frame),
            },
            "reft": {**curves, "steps_to_95": reached},
            "checks": [check.to_dict() for check in self.checks],
            "config": {**asdict(self.config), "out": str(self.config.out)},
            "scale": asdict(self.scale),
            "versions": package_versions(),
        }

    def frames(self) -> dict[str, pd.DataFrame]:
        """The tidy tables behind the figures, by the name of their CSV file."""
        import pandas as pd

        behaviour = pd.DataFrame(
            [
                {
                    "model": model,
                    "question": question,
                    "accuracy": found.value,
                    "ci_low": found.low,
                    "ci_high": found.high,
                    "n": found.n,
                }
                for model, questions in self.behaviour.items()
                for question, found in questions.items()
            ]
        )
        histories = [t.history.assign(model=name) for name, t in self.histories.items()]
        return {
            "behaviour": behaviour,
            "training": pd.concat(histories, ignore_index=True),
            "probe": self.probe.frame,
            "prune": self.prune.frame,
            "ablation": self.ablation.frame,
            "weight_diff": self.weight_diff.frame,
            "activation_diff": self.activation_diff.frame,
            "patching": self.patching.frame,
            "interpolation": self.interpolation.frame,
            "attention": self.attention.frame,
            "outputs": self.outputs.frame,
            "moved_most": self.outputs.examples,
            "diagnosis": self.diagnosis.frame,
            "revival": self.revival.frame,
        }

    def save(self) -> None:
        """Write results.json and a CSV file per table into the config's folder."""
        out = self.config.out
        for name, frame in self.frames().items():
            frame.to_csv(out / f"{name}.csv", index=False)
        write_text(out / "results.json", json.dumps(self.to_dict(), indent=1) + "\n")


def prune_table(curve: PruneCurve, model: str) -> list[dict[str, Any]]:
    """One row per K: accuracy on both tasks, and on O_PT after random removal (mean and range)."""
    frame = curve.frame[curve.frame["model"] == model].set_index(["score", "task", "k"])
    scored, random = frame.loc["gradient×weight"], frame.loc["random"].loc["acc_pt"]
    return [
        {
            "k": int(k),
            "acc_pt": float(row["accuracy"]),
            "acc_pt_low": float(row["ci_low"]),
            "acc_pt_high": float(row["ci_high"]),
            "acc_ft_cte1": float(scored.loc[("acc_ft_cte1", k), "accuracy"]),
            "random_acc_pt": float(random.loc[k, "accuracy"]),
            "random_acc_pt_lowest": float(random.loc[k, "ci_low"]),
            "random_acc_pt_highest": float(random.loc[k, "ci_high"]),
            "n": int(row["n"]),
        }
        for k, row in scored.loc["acc_pt"].iterrows()
    ]


def best_removal(table: list[dict[str, Any]]) -> dict[str, Any]:
    """The row with the highest accuracy on O_PT among removals of 1 to 15 neurons."""
    return max((row for row in table if 0 < row["k"] <= 15), key=lambda row: row["acc_pt"])


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON values; NaN, which JSON lacks, as null."""
    return [
        {
            str(key): None if isinstance(value, float) and math.isnan(value) else value
            for key, value in row.items()
        }
        for row in frame.to_dict("records")
    ]
