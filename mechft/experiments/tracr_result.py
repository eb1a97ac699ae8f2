"""What a Tracr reproduction measured: its parts by name, as JSON and as tables."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mechft.analysis.attention import AttentionDiff
from mechft.analysis.attention_maps import AttentionMaps
from mechft.analysis.finetuning_grid import FinetuningGrid
from mechft.analysis.neuron_maps import NeuronMaps
from mechft.analysis.predicted_answers import PredictedAnswers
from mechft.analysis.pruning import PruneCurve
from mechft.analysis.revival import Revival
from mechft.experiments.checks import Check
from mechft.experiments.tracr_config import TracrConfig, TracrScale
from mechft.files import write_text
from mechft.statistics import Proportion
from mechft.training.trained import package_versions

if TYPE_CHECKING:
    import pandas as pd

REVIVED = 0.9
"""Accuracy on O_PT from which a capability counts as back, as a share of the base's."""


@dataclass(frozen=True)
class TracrResult:
    """Everything a Tracr reproduction measured.

    Attributes:
        config, scale: What was run.
        base: The compiled model's accuracy on O_PT, with the noise and without, by name.
        grid: Table 3, ours and the paper's.
        attention: How far each block's pattern moved in each fine-tuned model, with the mass on the letters
            of the two operands where they are letters.
        prune, graft: Removing single weights, or putting the base's back, in each fine-tuned model.
        pruned_answers, grafted_answers: Which answers the model that gains most by one weight gives, before
            and after.
        maps, neurons: Attention and the first MLP of a few models, on one string.
        reversals: ReFT of fine-tuned models, and the control's runs: kind, started (rate), c_tr, rate,
            acc_pt_before (O_PT, uncorrelated), the four accuracies after, steps_to_revival (first
            evaluated step from which O_PT stays at 90% of the base's; NaN if it does not), steps_before
            (the evaluation before that one), steps, diverged, n.
        curves: Accuracy on O_PT over the steps of these runs.
        checks: The paper's claims about this setup and whether they hold.
    """

    config: TracrConfig
    scale: TracrScale
    base: dict[str, Proportion]
    grid: FinetuningGrid
    attention: AttentionDiff
    prune: PruneCurve
    graft: PruneCurve
    pruned_answers: PredictedAnswers
    grafted_answers: PredictedAnswers
    maps: AttentionMaps
    neurons: NeuronMaps
    reversals: pd.DataFrame
    curves: Revival
    checks: tuple[Check, ...] = ()

    def frames(self) -> dict[str, pd.DataFrame]:
        """The tidy tables behind the figures, by the name of their CSV file."""
        import pandas as pd

        answers = (self.pruned_answers, self.grafted_answers)
        return {
            "table3": self.grid.frame,
            "table3_against_paper": self.grid.against_paper(),
            "attention": self.attention.frame,
            "attention_mass": self.attention.mass.frame,
            "pruning": pd.concat([self.prune.frame, self.graft.frame], ignore_index=True),
            "answers": pd.concat([part.frame for part in answers], ignore_index=True),
            "answers_spread": pd.concat([part.spread() for part in answers], ignore_index=True),
            "reft": self.reversals,
            "reft_curves": self.curves.frame,
            "claims": pd.DataFrame([check.to_dict() for check in self.checks]),
        }

    def to_dict(self) -> dict[str, Any]:
        """The content of results.json: plain JSON values, accuracies in 0..1."""
        return {
            "base": {name: asdict(share) for name, share in self.base.items()},
            "against_paper": json.loads(self.grid.against_paper().to_json(orient="records")),
            "claims": [check.to_dict() for check in self.checks],
            "config": {**asdict(self.config), "out": self.config.out.name},
            "scale": asdict(self.scale),
            "versions": package_versions(),
        }

    def save(self) -> None:
        """Write results.json and a CSV file per table into the config's folder."""
        out = self.config.out
        for name, frame in self.frames().items():
            frame.to_csv(out / f"{name}.csv", index=False, float_format="%.6g")
        write_text(out / "results.json", json.dumps(self.to_dict(), indent=1) + "\n")
