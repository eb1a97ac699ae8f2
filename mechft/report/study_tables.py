"""Tables of a study's report: wide and in percent, from the tidy tables of the study."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mechft.experiments.pcfg.result import StudyResult
from mechft.plots.study_style import question_name

if TYPE_CHECKING:
    import pandas as pd


def final_table(frame: pd.DataFrame, *more: str) -> pd.DataFrame:
    """Accuracies after all steps, means over seeds in percent: a row a cell, a column a question.

    Args:
        frame: A table of final accuracies.
        *more: Labels besides prior, rate and c_tr that tell cells apart.
    """
    return _wide(frame, ["prior", "rate", *more, "c_tr"])


def base_table(history: pd.DataFrame) -> pd.DataFrame:
    """Accuracies of base models after their last step, means over seeds in percent, a row a prior."""
    last = history[history["step"] == history.groupby(["prior", "seed"])["step"].transform("max")]
    return _wide(last.rename(columns={"step": "steps"}), ["prior", "steps"])


def _wide(frame: pd.DataFrame, labels: list[str]) -> pd.DataFrame:
    kept = [name for name in labels if not frame[name].isna().all()]
    cells = frame.groupby([*kept, "evaluation"], sort=False)["accuracy"].mean()
    wide = (100 * cells.unstack("evaluation", sort=False)).round(1)
    wide.columns = [question_name(name) for name in wide.columns]
    return wide.reset_index().rename(columns={"c_tr": "C_Tr"})


def table5_table(result: StudyResult, compared: pd.DataFrame) -> pd.DataFrame:
    """Table 5 in percent: ours beside the paper's, which is NaN where the paper has no such cell.

    Columns of two levels: the question, and "here" or "paper"; first prior, rate and C_Tr.

    Args:
        result: The study.
        compared: As ``against_table5`` makes it.
    """
    import pandas as pd

    labels = ["prior", "rate", "c_tr"]
    ours = result.tables["finetuning_final"]
    cells = ours.groupby([*labels, "evaluation"], sort=False)["accuracy"].mean()
    here = cells.unstack("evaluation", sort=False)
    paper = compared.set_index([*labels, "evaluation"])["paper"].unstack("evaluation")
    paper = paper.reindex(index=here.index, columns=here.columns)
    wide = pd.DataFrame(
        {
            (question_name(question), of): (100 * values[question]).round(1)
            for question in here.columns
            for of, values in (("here", here), ("paper", paper))
        }
    ).reset_index()
    wide.columns = pd.MultiIndex.from_tuples(
        [*(("", name) for name in ("prior", "rate", "C_Tr")), *wide.columns[len(labels) :]]
    )
    return wide


def revival_table(found: pd.DataFrame) -> pd.DataFrame:
    """Reversals by cell: kind, prior, rate, C_Tr, rate back, seeds, back (how many got there), median step.

    Args:
        found: As ``steps_to_revival`` makes it. A run that did not get there counts as later than all
            others; where the median is such a run it is "over" the steps of the run.
    """
    import pandas as pd

    rows = []
    labels = ["kind", "prior", "rate", "c_tr", "reverse_rate"]
    for key, runs in found.groupby(labels, sort=False, dropna=False):
        middle = float(runs["steps"].fillna(math.inf).median())
        rows.append(
            {
                **dict(zip(labels, key, strict=True)),
                "seeds": len(runs),
                "back": int(runs["steps"].notna().sum()),
                "median step": f"over {runs['last'].max():,}"
                if math.isinf(middle)
                else f"{middle:,.0f}",
                "final accuracy": round(100 * float(runs["accuracy"].mean()), 1),
            }
        )
    table = pd.DataFrame(rows).replace({"rate": {"": "–"}})
    return table.rename(columns={"c_tr": "C_Tr", "reverse_rate": "rate back"})


def mixed_with_none(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Table mixing with the same fine-tunings without pretraining data (share 0), where they were run."""
    import pandas as pd

    mixing = tables["mixing"]
    if "finetuning" not in tables:
        return mixing
    plain = tables["finetuning"]
    plain = plain[(plain["c_tr"] == 1) & plain["prior"].isin(mixing["prior"])]
    return pd.concat([mixing, plain.assign(share=0.0)], ignore_index=True)
