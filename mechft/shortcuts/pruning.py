"""One-liners of pruning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mechft.analysis import learned_masks, pruning
from mechft.analysis import predicted_answers as answers
from mechft.analysis.units.ranking import Mode, rank_units
from mechft.analysis.units.scores import UnitScores
from mechft.randomness import generator
from mechft.shortcuts.common import behaviour, joined, together
from mechft.tasks.batch import TokenBatch
from mechft.tasks.contrast import Contrast
from mechft.training.trained import Trained


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
    scores: str | UnitScores | Sequence[str | UnitScores] = "gradient×weight",
    unit: str = "neuron",
    mode: Mode = "zero",
    base: Trained | None = None,
    iterative: int | None = None,
) -> pruning.PruneCurve:
    """Remove the neurons that most hurt r(x, revive); watch it come back and r(x, watch) go.

    Scores come from strings without the correlation, other ones than those accuracy is measured on.

    Args:
        models: Trained models.
        revive, watch: Operands; by default O_PT is revived and O_FT watched.
        contrast: What is asked; by default what the last model was fine-tuned on.
        counts: Numbers of units removed.
        random_draws: Random orders in the control.
        score_size, test_size: Strings to score on, and of each task to measure on.
        seed: Seed of the strings and the random orders.
        scores, unit, mode, base, iterative: As in ``mechft.analysis.pruning.prune_curve``.

    Returns:
        One row a model, number removed, score and task (``mechft.analysis.pruning.PruneCurve`` lists the
        columns).

    Raises:
        ConfigError: If models share a name or answer different tasks; else as
            ``mechft.analysis.pruning.prune_curve``.

    Source: Jain et al. (2024), Fig. 7 and App. D.

    Cost: per model, one gradient pass and (1 + random_draws) evaluations a K and task.

    Example:
        >>> import mechft as mf
        >>> ft = mf.load("pcfg-tiny-low-to-b")
        >>> curve = mf.prune_curve(ft, counts=[0, 15], random_draws=1, score_size=200, test_size=100)
        >>> found = curve.frame.query("task == 'acc_pt' and score != 'random'")["accuracy"].tolist()
        >>> found[1] > found[0] + 0.2  # with 15 neurons removed it counts a again, at least in part
        True
    """
    named, contrast = together(models, contrast)
    contrast = _between(contrast, revive, watch)
    results = [
        pruning.prune_curve(
            trained.model,
            _to_revive(trained, contrast, score_size, seed, "prune", "score"),
            behaviour(trained, contrast, test_size, seed),
            scores=scores,
            unit=unit,
            counts=counts,
            mode=mode,
            base=base,
            iterative=iterative,
            random_draws=random_draws,
            seed=seed,
            name=name,
        )
        for name, trained in named.items()
    ]
    rankings = {key: found for result in results for key, found in result.rankings.items()}
    hits = {key: found for result in results for key, found in result.hits.items()}
    commonest = {key: share for result in results for key, share in result.commonest.items()}
    return replace(joined(results), rankings=rankings, hits=hits, commonest=commonest)


def learn_mask(
    trained: Trained,
    *,
    revive: str | None = None,
    watch: str | None = None,
    keep: bool = False,
    contrast: Contrast | None = None,
    train_size: int = 1000,
    test_size: int = 500,
    unit: str = "neuron",
    mode: Mode = "zero",
    base: Trained | None = None,
    l0: float | Sequence[float] = 0.05,
    steps: int = 150,
    target: float | None = None,
    random_draws: int = 3,
    seed: int = 0,
) -> learned_masks.LearnedMask:
    """Learn the smallest set of neurons whose removal brings r(x, revive) back, beside the greedy set.

    Args:
        trained: The fine-tuned model.
        revive, watch: Operands; by default O_PT is revived and O_FT watched.
        keep: Whether r(x, watch) with the correlation is to stay right as well.
        contrast: What to ask; the model's own if None.
        train_size, test_size: Strings to learn on (of each operand), and to measure on.
        unit, mode, base, l0, steps, target, random_draws, seed: As
            ``mechft.analysis.learned_masks.learn_mask``.

    Cost: about a minute at tiny on one core; with a target several.

    Returns:
        One row a set of units and task, and ``mask``, the learned set
        (``mechft.analysis.learned_masks.LearnedMask`` lists the columns).

    Raises:
        ConfigError, UnknownNameError: As ``mechft.analysis.learned_masks.learn_mask``.

    Source: Louizos et al. (2018), L0 regularisation.

    Example:
        >>> import mechft as mf
        >>> ft = mf.load("pcfg-tiny-low-to-b")
        >>> found = mf.learn_mask(ft, steps=2, train_size=100, test_size=50, random_draws=1)
        >>> found.frame.query("mask == 'learned'")["k"].unique().tolist() == [len(found.mask)]
        True
    """
    _, contrast = together((trained,), contrast)
    contrast = _between(contrast, revive, watch)
    kept = trained.task.query(
        contrast.family, contrast.finetuning_operand, contrast.correlation(1.0)
    ).sample(train_size, generator(seed, "learn mask", "keep"))
    return learned_masks.learn_mask(
        trained.model,
        _to_revive(trained, contrast, train_size, seed, "learn mask", "revive"),
        behaviour(trained, contrast, test_size, seed),
        keep=kept if keep else None,
        unit=unit,
        mode=mode,
        base=base,
        l0=l0,
        steps=steps,
        target=target,
        random_draws=random_draws,
        seed=seed,
        name=trained.name,
    )


def predicted_answers(
    *models: Trained,
    revive: str | None = None,
    contrast: Contrast | None = None,
    counts: Sequence[int] = (15,),
    score: str = "gradient×weight",
    unit: str = "neuron",
    mode: Mode = "zero",
    base: Trained | None = None,
    score_size: int = 1000,
    test_size: int = 500,
    seed: int = 0,
) -> answers.PredictedAnswers:
    """Which answers are given to r(x, revive), before and after removing the highest-scoring neurons?

    Args:
        models: Fine-tuned models.
        revive: Operand asked for; by default O_PT.
        contrast: What to ask; the last model's if None.
        counts: Numbers of units removed, each a histogram.
        score, unit, mode, base: As ``scores`` and the others of ``mechft.analysis.pruning.prune_curve``.
        score_size, test_size: Strings to score on and to answer.
        seed: Seed of the strings.

    Cost: per model, one gradient pass and an evaluation a count.

    Returns:
        One row a model, removal and answer (``mechft.analysis.predicted_answers.PredictedAnswers`` lists the
        columns).

    Raises:
        ConfigError: If models share a name or answer different tasks; else as ``mechft.prune_curve``.

    Example:
        >>> import mechft as mf
        >>> ft = mf.load("pcfg-tiny-low-to-b")
        >>> found = mf.predicted_answers(ft, counts=(15,), score_size=200, test_size=100)
        >>> found.frame.groupby("removal")["predicted"].sum().to_dict()
        {'15 removed': 100, 'none': 100}
    """
    named, contrast = together(models, contrast)
    contrast = _between(contrast, revive, None)
    results = []
    for name, trained in named.items():
        rows = _to_revive(trained, contrast, score_size, seed, "prune", "score")
        (ranked,) = rank_units(trained, rows, score, unit=unit, mode=mode, base=base).values()
        results.append(
            answers.predicted_answers(
                trained.model,
                behaviour(trained, contrast, test_size, seed)["acc_pt"],
                {f"{count} removed": ranked.top(count) for count in counts},
                mode=mode,
                base=base,
                token_names=trained.task.answer_vocabulary.names,
                name=name,
            )
        )
    return joined(results)


def _between(contrast: Contrast, revive: str | None, watch: str | None) -> Contrast:
    """The contrast between two other operands, where some are named."""
    return replace(
        contrast,
        pretraining_operand=revive or contrast.pretraining_operand,
        finetuning_operand=watch or contrast.finetuning_operand,
    )


def _to_revive(
    trained: Trained, contrast: Contrast, size: int, seed: int, *stream: str
) -> TokenBatch:
    """Rows of the capability to revive, without the correlation, from a stream of their own."""
    query = trained.task.query(
        contrast.family, contrast.pretraining_operand, contrast.correlation(0.0)
    )
    return query.sample(size, generator(seed, *stream))
