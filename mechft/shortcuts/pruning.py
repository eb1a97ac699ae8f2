"""One-liners of pruning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mechft.analysis import pruning
from mechft.randomness import generator
from mechft.shortcuts.common import behaviour, joined, together
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
) -> pruning.PruneCurve:
    """Remove the neurons that most hurt r(x, revive); watch it come back and r(x, watch) go.

    By default O_PT is revived and O_FT watched. Scores come from strings without the correlation,
    other ones than those accuracy is measured on.

    Cost: per model, one gradient pass and (1 + random_draws) evaluations a K and task.
    """
    named, contrast = together(models, contrast)
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
