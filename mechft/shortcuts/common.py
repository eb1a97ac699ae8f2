"""What every one-liner needs: models that can be compared, and the rows to ask them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

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


def together(
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
    first = _asked_of(models[0])
    for other in models[1:]:
        require(
            _asked_of(other) == first,
            f"Models compared answer the same task, priors aside; {models[0].name} has {first} and "
            f"{other.name} {_asked_of(other)}.",
        )
    return named, contrast or models[-1].contrast


def _asked_of(trained: Trained) -> dict[str, Any]:
    """What a model's task is, without how often pretraining asks which operand."""
    described = trained.task.to_dict()
    return {name: value for name, value in described.items() if name != "operand_prior"}


def position_labels(trained: Trained, batch: TokenBatch, row: int | None) -> list[str]:
    """What to call the positions of the prompt: the tokens of a row; without one, those all rows share.

    Raises:
        ConfigError: If the batch has no such row.
    """
    require(
        row is None or 0 <= row < len(batch),
        f"Rows of the batch are 0..{len(batch) - 1}; got {row}.",
    )
    prompt = batch.prompt if row is None else batch.prompt[row : row + 1]
    same = (prompt == prompt[0]).all(0).tolist()
    words = trained.task.vocabulary.decode(prompt[0])
    return [word if fixed else "·" for word, fixed in zip(words, same, strict=True)]
