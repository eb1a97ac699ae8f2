"""The one-liners: trained models in, the paper's batches made for them, the plain analysis called.

Each function here only draws batches and hands them to the function of the same name in
``mechft.analysis``; use that one for a model, batch or metric of your own. What is asked (family,
operands, offset) follows the contrast the models were fine-tuned with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from mechft.analysis import ablation, diffing, probing, pruning
from mechft.analysis.result import Result
from mechft.errors import ConfigError, require
from mechft.randomness import generator
from mechft.tasks.batch import TokenBatch
from mechft.tasks.contrast import Contrast
from mechft.training.trained import Trained

ResultT = TypeVar("ResultT", bound=Result)


def joined(results: Sequence[ResultT]) -> ResultT:
    """Results of one kind as one: their frames under each other."""
    import pandas as pd

    require(bool(results), "Nothing to join; give at least one result.")
    return replace(results[0], frame=pd.concat([r.frame for r in results], ignore_index=True))


def behaviour(trained: Trained, contrast: Contrast, size: int, seed: int) -> dict[str, TokenBatch]:
    """Rows for what analyses watch: O_PT without the correlation, O_FT with it.

    Returns:
        "acc_pt" and "acc_ft_cte1", ``size`` rows each, from streams no training run draws from.
    """
    plans = {
        "acc_pt": (contrast.pretraining_operand, 0.0),
        "acc_ft_cte1": (contrast.finetuning_operand, 1.0),
    }
    return {
        name: trained.task.query(
            contrast.family, operand, contrast.correlation(probability)
        ).sample(size, generator(seed, "behaviour", name))
        for name, (operand, probability) in plans.items()
    }


def _together(
    models: Sequence[Trained], contrast: Contrast | None = None
) -> tuple[dict[str, Trained], Contrast]:
    """Models by name, once they can be compared, and what to ask them: the last one's contrast."""
    require(bool(models), "Give at least one trained model.")
    for model in models:
        if not isinstance(model, Trained):
            raise ConfigError(
                f"This form takes models that recipes or load() returned (Trained); got "
                f"{type(model).__name__}. For a bare model and a batch of your own, call the function "
                "of the same name in mechft.analysis."
            )
    named = {trained.name: trained for trained in models}
    if len(named) < len(models):
        raise ConfigError(
            f"Models need different names to be told apart; got {[m.name for m in models]}. "
            'Rename one: model.renamed("other").'
        )
    first = replace(models[0].task.config, operand_prior=(1.0, 0.0, 0.0))
    for other in models[1:]:
        require(
            replace(other.task.config, operand_prior=(1.0, 0.0, 0.0)) == first,
            f"Models compared answer the same task, priors aside; {models[0].name} has "
            f"{models[0].task.config} and {other.name} {other.task.config}.",
        )
    return named, contrast or models[-1].contrast


def probe(
    *models: Trained,
    operands: Sequence[str] | None = None,
    contrast: Contrast | None = None,
    train_size: int = 4000,
    test_size: int = 1000,
    seed: int = 0,
) -> probing.ProbeResult:
    """Is r(x, O) linearly readable, block by block, when the model is asked for O?

    Plain grammar strings, as in the paper (App. D); by default O_PT and O_FT in turn.

    Cost: about 10 s a model at tiny on 2 cores.
    """
    named, contrast = _together(models, contrast)
    chosen = operands or (contrast.pretraining_operand, contrast.finetuning_operand)
    results = []
    for operand in chosen:
        query = models[0].task.query(contrast.family, operand)
        train, test = (
            query.sample(size, generator(seed, "probe", operand, part))
            for part, size in (("train", train_size), ("test", test_size))
        )
        plain = {name: trained.model for name, trained in named.items()}
        results.append(probing.probe(plain, train, test, f"{contrast.family}({operand})"))
    return joined(results)


def prune_curve(
    *models: Trained,
    revive: str | None = None,
    watch: str | None = None,
    contrast: Contrast | None = None,
    counts: Sequence[int] = pruning.DEFAULT_COUNTS,
    random_draws: int = 3,
    score_size: int = 1000,
    test_size: int = 500,
    seed: int = 0,
) -> pruning.PruneCurve:
    """Remove the neurons that most hurt r(x, revive); watch it come back and r(x, watch) go.

    By default O_PT is revived and O_FT watched. Scores come from strings without the correlation,
    other ones than those accuracy is measured on.

    Cost: per model, one gradient pass and (1 + random_draws) evaluations a K and task.
    """
    named, contrast = _together(models, contrast)
    contrast = replace(
        contrast,
        pretraining_operand=revive or contrast.pretraining_operand,
        finetuning_operand=watch or contrast.finetuning_operand,
    )
    results = []
    for name, trained in named.items():
        scoring = trained.task.query(
            contrast.family, contrast.pretraining_operand, contrast.correlation(0.0)
        )
        results.append(
            pruning.prune_curve(
                trained.model,
                scoring.sample(score_size, generator(seed, "prune", "score")),
                behaviour(trained, contrast, test_size, seed),
                counts=counts,
                random_draws=random_draws,
                seed=seed,
                name=name,
            )
        )
    scores = {name: found for result in results for name, found in result.scores.items()}
    return replace(joined(results), scores=scores)


def ablate_heads(
    *models: Trained,
    contrast: Contrast | None = None,
    kinds: Sequence[ablation.Kind] = ("zero", "mean"),
    size: int = 300,
    seed: int = 0,
) -> ablation.HeadAblation:
    """Ablate every attention head alone and watch O_PT and O_FT.

    Cost: at tiny, about 7 s a model on 2 cores.
    """
    named, contrast = _together(models, contrast)
    return joined(
        [
            ablation.ablate_heads(
                trained.model, behaviour(trained, contrast, size, seed), kinds=kinds, name=name
            )
            for name, trained in named.items()
        ]
    )


def diff_weights(base: Trained, *finetuned: Trained) -> diffing.WeightDiff:
    """How far each weight matrix moved from the base model's. Cost: under a second a model at tiny."""
    named, _ = _together((base, *finetuned))
    return joined(
        [diffing.diff_weights(base.model, named[t.name].model, name=t.name) for t in finetuned]
    )


def diff_activations(
    base: Trained,
    *finetuned: Trained,
    batch: TokenBatch | None = None,
    contrast: Contrast | None = None,
    size: int = 500,
    seed: int = 0,
) -> diffing.ActivationDiff:
    """How far activations at the answer position moved; by default on grammar strings, asked for O_PT.

    Give ``batch`` to compare them on rows of your own.
    """
    _, contrast = _together((base, *finetuned), contrast)
    if batch is None:
        query = base.task.query(contrast.family, contrast.pretraining_operand)
        batch = query.sample(size, generator(seed, "diff", contrast.pretraining_operand))
    return joined(
        [diffing.diff_activations(base.model, t.model, batch, name=t.name) for t in finetuned]
    )
