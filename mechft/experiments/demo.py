"""The demo: a model that counts letters loses one count under fine-tuning, and it comes back.

Base (low prior: asked for a in 999 of 1,000 counts) → fine-tuned to count b, on strings where
count(b) = count(a) + 1 always holds (C_Tr = 1) or never does (C_Tr = 0) → looked into → reverse
fine-tuned, beside a control that never counted a. Figures 5 to 9 of Jain et al. (2024) in small.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from jaxtyping import Bool
from torch import Tensor

from mechft.analysis.diagnosis import conclude, settled
from mechft.analysis.revival import revival
from mechft.analysis.votes import (
    vote_of_interpolation,
    vote_of_patching,
    vote_of_probe,
    vote_of_pruning,
    vote_of_revival,
)
from mechft.errors import MechftError
from mechft.experiments.demo_checks import demo_checks
from mechft.experiments.demo_config import QUICK, DemoConfig, DemoScale
from mechft.experiments.demo_result import (
    BASE,
    CONTROL,
    NEVER,
    REFT,
    STOP_AT,
    THRESHOLD,
    UNTRAINED,
    WITH,
    WITHOUT,
    DemoResult,
)
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
from mechft.training.controls import fresh, scratch_finetune
from mechft.training.evaluation import commonest_answer, predictions
from mechft.training.recipes import finetune, pretrain, reverse_finetune
from mechft.training.trained import Trained, load, package_versions

_ALPHAS = tuple(i / 10 for i in range(11))


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
    probed = (*models, control.renamed(NEVER), fresh(base, config.seed, UNTRAINED))
    asked: dict[str, Any] = {
        "contrast": with_.contrast,
        "test_size": scale.probe_test_rows,
        "seed": config.seed,
    }
    probes = probe(*probed, train_size=scale.probe_rows, **asked)
    pruning = prune_curve(
        with_,
        without,
        counts=scale.prune_counts,
        random_draws=scale.random_draws,
        score_size=scale.score_rows,
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
            vote_of_probe(
                target,
                BASE,
                WITH,
                (NEVER, UNTRAINED),
                fit_rows=scale.probe_rows,
                width=int(base.model.cfg.d_model),
                refit=lambda hook: (
                    probe(
                        *probed,
                        operands=["a"],
                        hook_names=[hook],
                        train_size=scale.probe_rows // 2,
                        **asked,
                    ).frame
                ),
            ),
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
        diff_activations(*models, size=scale.activation_rows, seed=config.seed),
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
