"""Fine-tunings over a grid of learning rates and correlations, beside the paper's numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mechft.analysis.result import Result
from mechft.errors import require

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class FinetuningGrid(Result):
    """What models answer after fine-tuning at each learning rate and C_Tr (Jain et al., Tables 3 and 5).

    Columns: rate (its name), learning_rate, c_tr, question ("acc_pt_cte0" and the like), accuracy, ci_low,
    ci_high (95% Wilson, over rows; all NaN where training diverged), n, paper (its accuracy, NaN where
    it has none), difference (accuracy − paper), steps, seed. One training a cell: intervals say how
    precisely that model was measured, not how another training would come out. A frame may hold several
    seeds or numbers of steps: each is a training, so a cell, of its own.
    """

    def against_paper(self) -> pd.DataFrame:
        """How far the grid is from the paper's, question by question: over all rates, then at each.

        Returns:
            Columns: rate ("all", or one), question, cells (compared), mean_absolute_difference,
            mean_difference (ours − the paper's; both in points of 0..100), spearman (rank correlation
            of the two over the cells: 1 where they order the cells alike, NaN where one of them does not
            vary). Where the paper's numbers are all near 0 a small difference says little.
        """
        import pandas as pd

        groups = {"all": self.frame, **dict(list(self.frame.groupby("rate", sort=False)))}
        rows = []
        for rate, frame in groups.items():
            for question, cells in frame.groupby("question", sort=False):
                both = cells.dropna(subset=["accuracy", "paper"])
                rows.append(
                    {
                        "rate": rate,
                        "question": question,
                        "cells": len(both),
                        "mean_absolute_difference": 100 * both["difference"].abs().mean(),
                        "mean_difference": 100 * both["difference"].mean(),
                        # Pearson's on the ranks; pandas' own "spearman" would need scipy.
                        "spearman": both["accuracy"].rank().corr(both["paper"].rank()),
                    }
                )
        return pd.DataFrame(rows)

    def wide(self) -> pd.DataFrame:
        """A row a training, in percent: rate, c_tr, steps (ours), and for each question ours and the paper's.

        Where the frame holds several seeds there is a column seed after steps, and nothing is averaged.

        Raises:
            ConfigError: If one training answers a question twice.
        """
        import pandas as pd

        keys = ["rate", "c_tr", "steps", "seed"]
        twice = self.frame[self.frame.duplicated([*keys, "question"])]
        require(
            twice.empty,
            "A training answers each question once; the frame has several rows of "
            f"{twice[[*keys, 'question']].iloc[:1].to_dict('records')}. Keep one of them.",
        )
        several = self.frame["seed"].nunique() > 1
        rows = []
        for (rate, c_tr, steps, seed), cell in self.frame.groupby(keys, sort=False):
            row: dict[str, object] = {"rate": rate, "c_tr": c_tr, "steps": int(steps)}
            row |= {"seed": int(seed)} if several else {}
            for entry in cell.itertuples():
                row[str(entry.question)] = round(100 * float(entry.accuracy), 1)
                row[f"{entry.question} (paper)"] = round(100 * float(entry.paper), 1)
            rows.append(row)
        return pd.DataFrame(rows)
