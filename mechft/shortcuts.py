"""The one-liners: trained models in, the paper's batches made for them, the plain analysis called.

Each function here only draws batches and hands them to the function of the same name in
``mechft.analysis``; use that one for a model, batch or metric of your own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from mechft.analysis import ablation, diffing, probing, pruning
from mechft.analysis.result import Result
from mechft.errors import ConfigError, require
from mechft.randomness import generator
from mechft.tasks.batch import TokenBatch
from mechft.tasks.correlation import Correlation

if TYPE_CHECKING:
    from mechft.training.trained import Trained

ResultT = TypeVar("ResultT", bound=Result)


def joined(results: Sequence[ResultT]) -> ResultT:
    """Results of one kind as one: their frames under each other."""
    import pandas as pd

    require(bool(results), "Nothing to join; give at least one result.")
    return replace(results[0], frame=pd.concat([r.frame for r in results], ignore_index=True))


def behaviour(
    trained: Trained,
    size: int,
    *,
    family: str = "C",
    pretraining_operand: str = "a",
    finetuning_operand: str = "b",
    offset: int = 1,
    seed: int = 0,
) -> dict[str, TokenBatch]:
    """Rows for what analyses watch: O_PT without the correlation, O_FT with it.

    Returns:
        "acc_pt" and "acc_ft_cte1", ``size`` rows each, from streams no training run draws from.
    """
    plans = {"acc_pt": (pretraining_operand, 0.0), "acc_ft_cte1": (finetuning_operand, 1.0)}
    return {
        name: trained.task.query(
            family, operand, Correlation(test, offset, pretraining_operand, finetuning_operand)
        ).sample(size, generator(seed, "behaviour", name))
        for name, (operand, test) in plans.items()
    }


def _named(models: Sequence[Trained]) -> dict[str, Trained]:
    require(bool(models), "Give at least one trained model.")
    named = {trained.name: trained for trained in models}
    if len(named) < len(models):
        raise ConfigError(
            f"Models need different names to be told apart; got {[m.name for m in models]}. "
            'Rename one: model.renamed("other").'
        )
    shapes = {trained.task.config.text_length for trained in models}
    require(len(shapes) == 1, f"Models compared share one text length; got {sorted(shapes)}.")
    return named


def probe(
    *models: Trained,
    operands: Sequence[str] = ("a", "b"),
    family: str = "C",
    train_size: int = 4000,
    test_size: int = 1000,
    seed: int = 0,
) -> probing.ProbeResult:
    """Is r(x, O) linearly readable, block by block, when the model is asked for O?

    Plain grammar strings, as in the paper (App. D). Cost: about 10 s a model at tiny on 2 cores.
    """
    named = _named(models)
    results = []
    for operand in operands:
        query = models[0].task.query(family, operand)
        train, test = (
            query.sample(size, generator(seed, "probe", operand, part))
            for part, size in (("train", train_size), ("test", test_size))
        )
        plain = {name: trained.model for name, trained in named.items()}
        results.append(probing.probe(plain, train, test, f"{family}({operand})"))
    return joined(results)


def prune_curve(
    *models: Trained,
    revive: str = "a",
    watch: str = "b",
    family: str = "C",
    counts: Sequence[int] = pruning.DEFAULT_COUNTS,
    random_draws: int = 3,
    score_size: int = 1000,
    test_size: int = 500,
    seed: int = 0,
) -> pruning.PruneCurve:
    """Remove the neurons that most hurt r(x, revive); watch it come back and r(x, watch) go.

    Scores come from strings without the correlation, other ones than those accuracy is measured on.
    With several models the result's ``scores`` are the first one's.

    Cost: per model, one gradient pass and (1 + random_draws) evaluations a K and task.
    """
    results = []
    for name, trained in _named(models).items():
        plan = Correlation(0.0, 1, revive, watch)
        scoring = trained.task.query(family, revive, plan)
        tasks = behaviour(
            trained,
            test_size,
            family=family,
            pretraining_operand=revive,
            finetuning_operand=watch,
            seed=seed,
        )
        results.append(
            pruning.prune_curve(
                trained.model,
                scoring.sample(score_size, generator(seed, "prune", "score")),
                tasks,
                counts=counts,
                random_draws=random_draws,
                seed=seed,
                name=name,
            )
        )
    return joined(results)


def ablate_heads(
    *models: Trained,
    kinds: Sequence[ablation.Kind] = ("zero", "mean"),
    size: int = 300,
    seed: int = 0,
) -> ablation.HeadAblation:
    """Ablate every attention head alone and watch O_PT and O_FT.

    Cost: at tiny, about 10 s a model on 2 cores.
    """
    return joined(
        [
            ablation.ablate_heads(
                trained.model, behaviour(trained, size, seed=seed), kinds=kinds, name=name
            )
            for name, trained in _named(models).items()
        ]
    )


def diff_weights(base: Trained, *finetuned: Trained) -> diffing.WeightDiff:
    """How far each weight matrix moved from the base model's. Cost: under a second a model at tiny."""
    return joined(
        [diffing.diff_weights(base.model, t.model, name=n) for n, t in _named(finetuned).items()]
    )


def diff_activations(
    base: Trained, *finetuned: Trained, operand: str = "a", size: int = 500, seed: int = 0
) -> diffing.ActivationDiff:
    """How far activations at the answer position moved, on grammar strings asked for ``operand``."""
    batch = base.task.query("C", operand).sample(size, generator(seed, "diff", operand))
    return joined(
        [
            diffing.diff_activations(base.model, t.model, batch, name=n)
            for n, t in _named(finetuned).items()
        ]
    )
