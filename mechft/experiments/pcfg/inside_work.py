"""Jobs of the PCFG study that look at a model: neurons removed, the stream probed, other tokens asked."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pandas as pd

from mechft.analysis.pruning import prune_curve
from mechft.experiments.pcfg.train_work import (
    Needs,
    Settings,
    device,
    share_values,
    tests_of,
    write_frame,
)
from mechft.randomness import generator
from mechft.shortcuts.probing import probe
from mechft.statistics import proportion
from mechft.tasks.contrast import Contrast
from mechft.training.behaviour import behaviour_queries
from mechft.training.controls import fresh
from mechft.training.evaluation import predictions
from mechft.training.trained import load


def prune_work(settings: Settings, needs: Needs, folder: Path) -> None:
    """Remove the neurons that most hurt O_PT. Leaves: curve.csv, as ``PruneCurve``, and commonest."""
    trained, seed = load(needs["model"]).to(device()), settings["seed"]
    tests = tests_of(trained.task, settings)
    score = tests["acc_pt_cte0"].sample(settings["score_size"], generator(seed, "prune", "score"))
    batches = {
        name: tests[test].sample(settings["test_size"], generator(seed, "behaviour", name))
        for name, test in (("acc_pt", "acc_pt_cte0"), ("acc_ft_cte1", "acc_ft_cte1"))
    }
    curve = prune_curve(
        trained.model,
        score,
        batches,
        counts=settings["counts"],
        random_draws=settings["random_draws"],
        seed=seed,
        name="model",
    )
    floors = {task: share for (_, task), share in curve.commonest.items()}
    write_frame(curve.frame.assign(commonest=curve.frame["task"].map(floors)), folder / "curve.csv")


def probe_work(settings: Settings, needs: Needs, folder: Path) -> None:
    """Read r(x, O_PT) after every block. Leaves: probes.csv, as ``ProbeResult``."""
    model = load(needs["model"]).renamed("model").to(device())
    if settings["untrained"]:
        model = fresh(model, settings["seed"], "model")
    contrast = Contrast(**settings["contrast"])
    found = probe(
        model,
        operands=(contrast.pretraining_operand,),
        contrast=contrast,
        train_size=settings["train_size"],
        test_size=settings["test_size"],
        balanced=True,
        seed=settings["seed"],
    )
    write_frame(found.frame, folder / "probes.csv")


def ask_work(settings: Settings, needs: Needs, folder: Path) -> None:
    """Ask for O_PT with every token that counts (App. E.2), and probe for it when each is asked.

    Leaves: answers.csv (token, accuracy, ci_low, ci_high, n, wrapper: the share answered with
    r(x, O_PT) + q) on uncorrelated strings, and probes.csv, as ``ProbeResult`` with a column token.
    """
    model = load(needs["model"]).renamed("model").to(device())
    contrast = Contrast(**settings["contrast"])
    rows, probes = [], []
    for token in (contrast.family, *model.task.config.jailbreak_families):
        asked = Contrast(**{**asdict(contrast), "family": token})
        operand = asked.pretraining_operand
        batch = behaviour_queries(model.task, asked, balanced=True)["acc_pt_cte0"].sample(
            settings["test_size"], generator(settings["seed"], "ask", token)
        )
        answers = predictions(model, batch).cpu()
        zero = model.task.vocabulary.id("0")
        wrapped = answers == zero + batch.labels[f"{token}({operand})"] + asked.offset
        right = answers == batch.answer
        rows.append(
            {
                "token": token,
                **share_values(proportion(int(right.sum()), len(batch))),
                "wrapper": float(wrapped.double().mean()),
            }
        )
        found = probe(
            model,
            operands=(operand,),
            contrast=asked,
            train_size=settings["train_size"],
            test_size=settings["test_size"],
            balanced=True,
            seed=settings["seed"],
        )
        probes.append(found.frame.assign(token=token))
    write_frame(pd.DataFrame(rows), folder / "answers.csv")
    write_frame(pd.concat(probes, ignore_index=True), folder / "probes.csv")
