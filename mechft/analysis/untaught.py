"""Does a capability come back when the training says nothing about it?

Reverse fine-tuning needs a model that never had the capability to be held against, and of most pairs there is
none. Here the model is trained on the same prompts with the answers dealt out among them anew. Which answers
there are can be learned from that, and their form; which prompt has which cannot. So what a model then gets
right on other prompts, above always giving the commonest answer, it must have had.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool
from torch import Tensor

from mechft.analysis.batches import Data, each_batch
from mechft.analysis.result import Result
from mechft.errors import require
from mechft.models.hook_points import ModelLike
from mechft.randomness import generator
from mechft.statistics import proportion
from mechft.tasks.batch import TokenBatch
from mechft.training.evaluation import commonest_answer
from mechft.training.rows import finetune_rows

if TYPE_CHECKING:
    import pandas as pd

_TEST = "untaught"


@dataclass(frozen=True)
class UntaughtReturn(Result):
    """Accuracy on prompts that were not trained on, over steps of training on shuffled answers.

    Columns: model, step, train_loss (nats), accuracy, ci_low, ci_high (95% Wilson, over rows), n, commonest
    (what always giving the commonest right answer would score).

    Attributes:
        hits: Which rows were answered right, for each (model, step). Bool["row"].
    """

    hits: Mapping[tuple[str, int], Bool[Tensor, " row"]] = field(repr=False)

    def best(self) -> pd.DataFrame:
        """The best step, chosen on every other row and measured on the rows between.

        Returns:
            A row a model: model, step, chosen_accuracy (on the rows the step was chosen on: optimistic),
            accuracy, ci_low, ci_high, n (on the others), untouched (before any step, on those), commonest.

        Raises:
            ConfigError: If there is one row only.
        """
        import pandas as pd

        rows = []
        for model in dict.fromkeys(model for model, _ in self.hits):
            here = {step: right for (name, step), right in self.hits.items() if name == model}
            require(len(here[0]) > 1, "Choosing and testing takes two rows.")
            step = max(here, key=lambda step: int(here[step][::2].sum()))
            measured = here[step][1::2]
            share = proportion(int(measured.sum()), len(measured))
            rows.append(
                {"model": model, "step": step}
                | {"chosen_accuracy": float(here[step][::2].double().mean())}
                | {
                    "accuracy": share.value,
                    "ci_low": share.low,
                    "ci_high": share.high,
                    "n": share.n,
                }
                | {"untouched": float(here[0][1::2].double().mean())}
                | {"commonest": float(self.frame["commonest"].iloc[0])}
            )
        return pd.DataFrame(rows)


def untaught_return(
    models: Mapping[str, ModelLike],
    train: Data,
    test: Data,
    *,
    steps: int = 55,
    learning_rate: float,
    batch_size: int = 16,
    seed: int = 0,
) -> UntaughtReturn:
    """Train models on prompts with shuffled answers, and ask them other prompts.

    Give the fine-tuned model, and one that never had the capability if there is one: what it rises to is no
    evidence of having had it.

    Args:
        models: Models by name; unchanged.
        train: Prompts to train on; their answers are dealt out among them anew, the same way for every model.
            Batches may differ in length.
        test: Other prompts, with their right answers.
        steps: Optimiser steps.
        learning_rate: Of AdamW; about how far a weight moves in a step. ``mf.compare`` takes a tenth of the
            root mean square of what fine-tuning moved weights by.
        batch_size: Rows a step at most.
        seed: Seed of the shuffling and of the rows' order.

    Raises:
        ConfigError: If there is no model, or as ``mf.finetune_rows``.
        TrainingDivergedError: If a loss is not finite.

    Source: ours. Training on data that say nothing of what was deleted is a "benign relearning" attack (Hu et
    al. 2024, arXiv 2406.13356); shuffled answers make it a control (compare Hewitt & Liang 2019).

    Cost: ``mf.finetune_rows`` a model.

    Example:
        >>> import mechft as mf
        >>> ft, never = mf.load("pcfg-tiny-low-to-b"), mf.load("pcfg-tiny-never-a")
        >>> rows = ft.task.query("C", "a", mf.Correlation(0.0)).sample(400, mf.generator(0))
        >>> train, test = rows.rows(slice(0, 200)), rows.rows(slice(200, 400))
        >>> found = mf.untaught_return({"ft": ft, "never": never}, train, test, steps=21, learning_rate=1e-4)
        >>> ft_row, never_row = found.best().to_dict("records")
        >>> ft_row["accuracy"] > ft_row["commonest"] + 0.1 > never_row["accuracy"]
        True
    """
    require(bool(models), "Give at least one model, by name.")
    shuffled = shuffled_answers(list(each_batch(train)), seed)
    asked = list(each_batch(test))
    import pandas as pd

    frames: list[pd.DataFrame] = []
    hits: dict[tuple[str, int], Tensor] = {}
    for name, model in models.items():
        run = finetune_rows(
            model,
            shuffled,
            {_TEST: asked},
            steps=steps,
            learning_rate=learning_rate,
            batch_size=batch_size,
            seed=seed,
        )
        frames.append(run.history.drop(columns=["evaluation", "batch_size"]).assign(model=name))
        hits |= {(name, step): right for (step, _), right in run.hits.items()}
    frame = pd.concat(frames, ignore_index=True).assign(commonest=commonest_answer(*asked))
    return UntaughtReturn(frame[["model", *frame.columns.drop("model")]], hits)


def shuffled_answers(batches: Sequence[TokenBatch], seed: int) -> list[TokenBatch]:
    """The same prompts with their answers dealt out among all of them anew.

    Args:
        batches: Rows; batches may differ in length.
        seed: Seed of the permutation.
    """
    answers = torch.cat([batch.answer for batch in batches])
    order = torch.randperm(len(answers), generator=generator(seed, "shuffled answers"))
    dealt = answers[order.to(answers.device)].split([len(batch) for batch in batches])
    return [replace(batch, answer=answer) for batch, answer in zip(batches, dealt, strict=True)]
