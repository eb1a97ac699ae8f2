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
    one, other = (torch.tensor(x.to_numpy(dtype="float64")) for x in (first, second))
    random = generator(seed, "rank correlation")
    found = []
    for _ in range(draws):
        rows = torch.randint(len(one), (len(one),), generator=random)
        value = _spearman(one[rows], other[rows])
        if value == value:
            found.append(value)
    found.sort()
    if not found:
        return float("nan"), float("nan"), float("nan")
    last = len(found) - 1
    return _spearman(one, other), found[round(0.025 * last)], found[round(0.975 * last)]


def _spearman(one: torch.Tensor, other: torch.Tensor) -> float:
    ranks = torch.stack([_ranks(one), _ranks(other)])
    ranks = ranks - ranks.mean(1, keepdim=True)
    scale = float(ranks.norm(dim=1).prod())
    return float(ranks[0] @ ranks[1]) / scale if scale else float("nan")


def _ranks(values: torch.Tensor) -> torch.Tensor:
    """Ranks from 0, ties sharing their mean."""
    below = (values[:, None] > values[None]).sum(1).double()
    same = (values[:, None] == values[None]).sum(1).double()
    return below + (same - 1) / 2
