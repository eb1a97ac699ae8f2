"""The study's cells beside the paper's Table 5."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from mechft.experiments.paper_tables import table5
from mechft.experiments.pcfg.result import StudyResult
from mechft.randomness import generator
from mechft.tasks.pcfg_config import OPERAND_PRIORS

if TYPE_CHECKING:
    import pandas as pd


def against_table5(result: StudyResult) -> pd.DataFrame:
    """Cells that both have: prior, rate, c_tr, evaluation, accuracy (mean over seeds), paper, difference.

    Learning rates are matched by name (L, M, S), ours after all steps with the paper's after 10K. The cell
    that looks misprinted is one after 1K and not among them.
    """
    import pandas as pd

    means = (
        result.tables["finetuning_final"]
        .groupby(["prior", "rate", "c_tr", "evaluation"], sort=False)["accuracy"]
        .mean()
    )
    paper = table5()
    rows = []
    for (prior, rate, c_tr, evaluation), value in means.items():
        key = (rate, OPERAND_PRIORS[prior][0], float(c_tr))
        if key in paper and evaluation in paper[key]:
            theirs = paper[key][evaluation]
            rows.append(
                {
                    "prior": prior,
                    "rate": rate,
                    "c_tr": c_tr,
                    "evaluation": evaluation,
                    "accuracy": value,
                    "paper": theirs,
                    "difference": value - theirs,
                }
            )
    columns = ["prior", "rate", "c_tr", "evaluation", "accuracy", "paper", "difference"]
    return pd.DataFrame(rows, columns=columns)


def rank_correlation(
    first: pd.Series[float], second: pd.Series[float], *, draws: int = 500, seed: int = 0
) -> tuple[float, float, float]:
    """Spearman's rank correlation with a 95% percentile bootstrap interval over cells.

    Returns:
        The correlation and the interval's ends; NaN where all cells of a side are equal. Resamples in
        which that happens are left out.
    """
    random = generator(seed, "rank correlation")
    found = []
    for _ in range(draws):
        rows = torch.randint(len(first), (len(first),), generator=random).numpy()
        value = _spearman(first.iloc[rows], second.iloc[rows])
        if value == value:
            found.append(value)
    found.sort()
    if not found:
        return float("nan"), float("nan"), float("nan")
    last = len(found) - 1
    return _spearman(first, second), found[round(0.025 * last)], found[round(0.975 * last)]


def _spearman(first: pd.Series[float], second: pd.Series[float]) -> float:
    one, other = first.rank().to_numpy(), second.rank().to_numpy()
    one, other = one - one.mean(), other - other.mean()
    scale = float((one @ one) * (other @ other)) ** 0.5
    return float(one @ other) / scale if scale else float("nan")
