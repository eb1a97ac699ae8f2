"""The demo: a model that counts letters loses one count under fine-tuning, and it comes back.

Base (low prior: asked for a in 999 of 1,000 counts) → fine-tuned to count b, on strings where
count(b) = count(a) + 1 always holds (C_Tr = 1) or never does (C_Tr = 0) → looked into → reverse
fine-tuned, beside a control that never counted a. Figures 5 to 9 of Jain et al. (2024) in small.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxtyping import Bool
from torch import Tensor

from mechft.analysis.ablation import Ablation
from mechft.analysis.activation_diff import ActivationDiff
from mechft.analysis.attention import AttentionDiff
from mechft.analysis.attention_maps import AttentionMaps
from mechft.analysis.diagnosis import Diagnosis, commonest_answer, conclude, settled
from mechft.analysis.interpolation import Interpolation
from mechft.analysis.output_diff import OutputDiff
from mechft.analysis.patching import Patching
from mechft.analysis.probing import ProbeResult
from mechft.analysis.pruning import PruneCurve
from mechft.analysis.revival import Revival, revival
from mechft.analysis.votes import (
    vote_of_interpolation,
    vote_of_patching,
    vote_of_probe,
    vote_of_pruning,
    vote_of_revival,
)
from mechft.analysis.weight_diff import WeightDiff
from mechft.errors import MechftError
from mechft.experiments.checks import Check
from mechft.experiments.demo_config import QUICK, DemoConfig, DemoScale
from mechft.experiments.run_folder import claim_folder
from mechft.shortcuts.ablation import ablate_heads
from mechft.shortcuts.activations import diff_activations, diff_outputs
from mechft.shortcuts.attention import attention_maps, diff_attention
from mechft.shortcuts.patching import patch_across
from mechft.shortcuts.probing import probe
from mechft.shortcuts.pruning import prune_curve
from mechft.shortcuts.weights import diff_weights, interpolate
from mechft.statistics import Proportion, proportion
from mechft.tasks.pcfg_config import OPERAND_PRIORS, preset
from mechft.training.behaviour import behaviour_queries, evaluation_batches
from mechft.training.evaluation import predictions
from mechft.training.recipes import finetune, fresh, pretrain, reverse_finetune, scratch_finetune
from mechft.training.trained import Trained, load, package_versions

if TYPE_CHECKING:
    import pandas as pd

BASE, WITH, WITHOUT, CONTROL = "base", "C_Tr = 1", "C_Tr = 0", "Scr.+FT"
NEVER, UNTRAINED = "never asked for a", "untrained"
REFT = "reFT after C_Tr = 1"
THRESHOLD, STOP_AT = 0.95, 0.97
_ALPHAS = tuple(i / 10 for i in range(11))
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
        text = json.dumps(self.to_dict(), indent=1)
        temporary = out / ".results.json.tmp"
        temporary.write_text(text + "\n")
        temporary.replace(out / "results.json")


def run_demo(config: DemoConfig) -> DemoResult:
    """Run the demo, or what is left of it, and write its results (not the report) to its folder.

    Raises:
        OutputExistsError: If the folder holds anything but this very run.
        UnknownNameError: If the bundled models are missing.

    Cost: 3 to 4 minutes on 2 quiet cores with the bundled model; --pretrain adds about 6.
    """
    settings = {**asdict(config), **package_versions()}
    del settings["out"]
    scale = QUICK if config.quick else DemoScale()
    if claim_folder(config.out, settings):
        print(f"Continuing the run in {config.out}.")
    runs = config.out / "checkpoints"
    base, control = _starts(config, scale, runs)
    print("Fine-tuning to count b, with the correlation and without it.")
    with_, without = (
        finetune(
            base,
            train_correlation=correlation,
            steps=scale.finetuning_steps,
            seed=config.seed,
            evaluation_size=scale.evaluation_rows,
            directory=runs / folder,
            name=name,
        )
        for name, correlation, folder in ((WITH, 1.0, "c1"), (WITHOUT, 0.0, "c0"))
    )
    models = (base, with_, without)
    batches = evaluation_batches(
        behaviour_queries(base.task, with_.contrast), config.seed + 1, scale.rows
    )
    answers = {m.name: {q: predictions(m, b) for q, b in batches.items()} for m in models}
    behaviour = {
        name: {q: share(found == batches[q].answer) for q, found in by_question.items()}
        for name, by_question in answers.items()
    }
    zero = base.task.vocabulary.id("0")
    wrapper = {
        name: {
            operand: share(by_question[q] == zero + batches[q].labels["C(a)"] + 1)
            for operand, q in (("a", "acc_pt_cte0"), ("b", "acc_ft_cte0"))
        }
        for name, by_question in answers.items()
    }
    print("Looking inside: probes, pruning, ablation, differences, patching.")
    probes = probe(
        *models,
        control.renamed(NEVER),
        fresh(base, config.seed, UNTRAINED),
        contrast=with_.contrast,
        train_size=scale.probe_rows,
        test_size=scale.probe_test_rows,
        seed=config.seed,
    )
    pruning = prune_curve(
        with_,
        without,
        counts=scale.prune_counts,
        random_draws=scale.random_draws,
        test_size=scale.prune_rows,
        seed=config.seed,
    )
    ablations = ablate_heads(*models, size=scale.ablation_rows, seed=config.seed)
    look: dict[str, Any] = {"size": scale.look_rows, "seed": config.seed}
    attention = diff_attention(base, with_, **look)
    moved = attention.frame.loc[attention.frame["js"].idxmax()]
    head = (int(moved["block"]), int(moved["head"]))
    print("Fine-tuning back on a, beside a model that never counted a.")
    same: dict[str, Any] = {
        "steps": scale.reverse_steps,
        "seed": config.seed,
        "stop_at": STOP_AT,
        "evaluation_size": scale.evaluation_rows,
    }
    back = {
        REFT: reverse_finetune(with_, directory=runs / "reft", name=REFT, **same),
        CONTROL: scratch_finetune(control, directory=runs / "scratch-ft", **same),
    }
    curves = revival(back)
    patching = patch_across(base, with_, **look)
    line = interpolate(base, with_, metrics=("accuracy",), alphas=_ALPHAS, **look)
    had, has = (behaviour[name]["acc_pt_cte0"] for name in (BASE, WITH))
    commonest = commonest_answer(batches["acc_pt_cte0"])
    target = probes.frame[probes.frame["target"] == "C(a)"]
    diagnosis = settled(had, has, commonest) or conclude(
        [
            vote_of_probe(target, BASE, WITH, (NEVER, UNTRAINED)),
            vote_of_pruning(pruning, "acc_pt", had.value, 15, WITH),
            vote_of_revival(curves, REFT, CONTROL, THRESHOLD),
            vote_of_patching(patching, "acc_pt"),
            vote_of_interpolation(line.frame, "acc_pt", had.value, has.value),
        ],
        had,
        has,
        commonest,
    )
    result = DemoResult(
        config,
        scale,
        behaviour,
        wrapper,
        {WITH: with_, WITHOUT: without, **back},
        probes,
        pruning,
        ablations,
        diff_weights(*models),
        diff_activations(*models, seed=config.seed),
        patching,
        line,
        attention,
        attention_maps(base, with_, heads=[head], size=1, seed=config.seed),
        diff_outputs(base, with_, **look),
        curves,
        diagnosis,
        (),
    )
    result = replace(result, checks=demo_checks(result))
    result.save()
    return result


def _starts(config: DemoConfig, scale: DemoScale, runs: Path) -> tuple[Trained, Trained]:
    control = load("pcfg-tiny-never-a")
    if replace(control.task.config, operand_prior=OPERAND_PRIORS["low"]) != preset("tiny", "low"):
        raise MechftError("The bundled control was trained on another task; run mechft zoo build.")
    if not config.pretrain:
        return load("pcfg-tiny-low").renamed(BASE), control
    print("Pretraining the base model.")
    base = pretrain(
        "tiny",
        "low",
        steps=scale.pretraining_steps,
        seed=config.seed,
        directory=runs / "base",
        name=BASE,
    )
    return base, control


def share(hits: Bool[Tensor, " row"]) -> Proportion:
    """The share of rows that are hits, with its interval."""
    return proportion(int(hits.sum()), len(hits))


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


def in_steps(bracket: tuple[int, int | None]) -> str:
    """A bracket from ``Revival.brackets`` in words."""
    before, step = bracket
    return f"not within {before} steps" if step is None else f"{step} steps (not yet at {before})"


def demo_checks(result: DemoResult) -> tuple[Check, ...]:
    """What the paper leads one to expect of this run, put to its numbers."""
    base = result.behaviour[BASE]["acc_pt_cte0"]
    c1 = result.behaviour[WITH]
    table = prune_table(result.prune, WITH)
    before, best = table[0]["acc_pt"], best_removal(table)
    random_best = max(row["random_acc_pt_highest"] for row in table if 0 < row["k"] <= 15)
    brackets = result.revival.brackets(THRESHOLD)
    reft, control = brackets[REFT][1], brackets[CONTROL][1]
    return (
        Check("The base model counts a: at least 97%", str(base), base.value >= 0.97),
        Check(
            "After fine-tuning with C_Tr = 1, count a on uncorrelated strings is at most 50%",
            str(c1["acc_pt_cte0"]),
            c1["acc_pt_cte0"].value <= 0.5,
        ),
        Check(
            "It answers for b with the correlation (at least 95%) but not without it (at most 30%)",
            f"with: {c1['acc_ft_cte1']}; without: {c1['acc_ft_cte0']}",
            c1["acc_ft_cte1"].value >= 0.95 and c1["acc_ft_cte0"].value <= 0.3,
        ),
        Check(
            "Removing at most 15 neurons returns at least 30 points of count a",
            f"{before:.1%} with none removed, {best['acc_pt']:.1%} [{best['acc_pt_low']:.1%}, "
            f"{best['acc_pt_high']:.1%}] without {best['k']} neurons (n={best['n']})",
            best["acc_pt"] - before >= 0.3,
        ),
        Check(
            "Removing at most 15 random neurons does not (less than 30 points in any draw)",
            f"{before:.1%} with none removed, at best {random_best:.1%} (n={best['n']})",
            random_best - before < 0.3,
        ),
        Check(
            "reFT passes 95% of count a in fewer steps than Scr.+FT, which never counted a",
            f"reFT: {in_steps(brackets[REFT])}; Scr.+FT: {in_steps(brackets[CONTROL])}",
            reft is not None and (control is None or reft < control),
        ),
    )


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON values; NaN, which JSON lacks, as null."""
    return [
        {
            str(key): None if isinstance(value, float) and math.isnan(value) else value
            for key, value in row.items()
        }
        for row in frame.to_dict("records")
    ]
