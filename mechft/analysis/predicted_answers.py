"""Which answers does a model give before and after units are removed?

A capability that is back gives many different answers, as the task does; a model that is merely broken
repeats a few. Accuracy alone does not tell them apart where the answers are concentrated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Int
from torch import Tensor

from mechft.analysis.batches import Data, one_batch
from mechft.analysis.result import Result
from mechft.analysis.units.editing import check_fits
from mechft.analysis.units.masks import UnitMask
from mechft.analysis.units.ranking import Mode, replacement_model
from mechft.analysis.units.weight_edit import editing
from mechft.errors import require
from mechft.models.hook_points import ModelLike, as_model
from mechft.statistics import proportion
from mechft.training.evaluation import predictions

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class PredictedAnswers(Result):
    """How often each answer is given, before and after units are removed.

    Columns: model, removal ("none", then the masks' names), k (units removed), token (its id), answer (its
    name), predicted (rows answered so), share (of all rows), ci_low, ci_high (95%, Wilson, of share),
    right (rows answered so where that is right), true (rows whose answer it is), n (rows). Answers that are
    neither given nor right in any row are left out.
    """

    def spread(self) -> pd.DataFrame:
        """Over how many answers the predictions spread.

        Returns:
            Columns: model, removal, k, accuracy, answers (different ones given), effective_answers (exp of
            the entropy of the predictions, in nats: m for m equally frequent answers), true_answers and
            effective_true_answers (the same for the right answers), n. Entropies are of the observed
            shares, hence somewhat too small for few rows.
        """
        import pandas as pd

        rows = []
        for (model, removal), here in self.frame.groupby(["model", "removal"], sort=False):
            rows.append(
                {
                    "model": model,
                    "removal": removal,
                    "k": int(here["k"].iloc[0]),
                    "accuracy": here["right"].sum() / here["n"].iloc[0],
                    "answers": int((here["predicted"] > 0).sum()),
                    "effective_answers": effective_number(here["predicted"]),
                    "true_answers": int((here["true"] > 0).sum()),
                    "effective_true_answers": effective_number(here["true"]),
                    "n": int(here["n"].iloc[0]),
                }
            )
        return pd.DataFrame(rows)


def predicted_answers(
    model: ModelLike,
    data: Data,
    masks: Mapping[str, UnitMask],
    *,
    mode: Mode = "zero",
    base: ModelLike | None = None,
    token_names: Sequence[str] | None = None,
    name: str = "model",
) -> PredictedAnswers:
    """Count the answers a model gives with nothing removed, and with each mask's units removed.

    Args:
        model: The model; unchanged afterwards.
        data: Rows to answer.
        masks: Sets of units by name, such as ``{"10 removed": scores.top(10)}``; may be empty.
        mode, base: What becomes of a removed unit, as in ``prune_curve``.
        token_names: Names of all tokens by id; their ids if None.
        name: What the frame calls the model.

    Raises:
        ConfigError: If the batch is empty, or a mask is called "none" or was made for another model.

    Source: Jain et al. 2024, App. (Tracr: histogram of predictions after removing one weight).
    Cost: one evaluation a mask, and one.
    """
    batch = one_batch(data)
    require("none" not in masks, 'A mask needs another name than "none", which is the whole model.')
    model = as_model(model)
    replacement = replacement_model(model, mode, base)
    for mask in masks.values():
        check_fits(model, mask)
    given = {"none": predictions(model, batch).cpu()}
    for removal, mask in masks.items():
        with editing(model, mask.layout, replacement) as edit:
            edit.replace(mask)
            given[removal] = predictions(model, batch).cpu()
    sizes = {"none": 0} | {removal: len(mask) for removal, mask in masks.items()}
    rows = [
        {"model": name, "removal": removal, "k": sizes[removal]} | counted
        for removal, tokens in given.items()
        for counted in _counts(tokens, batch.answer.cpu(), token_names)
    ]
    import pandas as pd

    return PredictedAnswers(pd.DataFrame(rows))


def _counts(
    given: Int[Tensor, " row"], true: Int[Tensor, " row"], names: Sequence[str] | None
) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for token in torch.cat([given, true]).unique().tolist():
        share = proportion(int((given == token).sum()), len(given))
        rows.append(
            {
                "token": token,
                "answer": str(token) if names is None else names[token],
                "predicted": int((given == token).sum()),
                "share": share.value,
                "ci_low": share.low,
                "ci_high": share.high,
                "right": int(((given == token) & (true == token)).sum()),
                "true": int((true == token).sum()),
                "n": len(given),
            }
        )
    return rows


def effective_number(counts: Sequence[int] | pd.Series) -> float:
    """Exp of the entropy of shares: how many equally frequent kinds would be as diverse."""
    values = torch.as_tensor(list(counts), dtype=torch.float64)
    shares = values[values > 0] / values.sum()
    return float((-(shares * shares.log()).sum()).exp())
