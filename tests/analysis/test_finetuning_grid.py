"""A grid of fine-tunings against a table of the paper's."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from mechft import plots
from mechft.analysis.finetuning_grid import FinetuningGrid
from mechft.errors import ConfigError


def grid(accuracy: list[float], paper: list[float]) -> FinetuningGrid:
    """One question over four cells of one rate."""
    return FinetuningGrid(
        pd.DataFrame(
            {
                "rate": "M",
                "learning_rate": 1e-2,
                "c_tr": [0.0, 0.5, 0.8, 1.0],
                "question": "acc_pt_cte0",
                "accuracy": accuracy,
                "ci_low": accuracy,
                "ci_high": accuracy,
                "n": 100,
                "paper": paper,
                "difference": [a - b for a, b in zip(accuracy, paper, strict=True)],
                "steps": 10,
                "seed": 0,
            }
        )
    )


@pytest.mark.parametrize(
    ("ours", "paper", "spearman"),
    [
        ([0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.7, 0.9], 1.0),
        ([0.1, 0.2, 0.3, 0.4], [0.9, 0.7, 0.6, 0.5], -1.0),
        # Spearman's 1 - 6 Σd² / (n (n² - 1)) with ranks 1 2 3 4 and 2 1 4 3: 1 - 6 · 4 / 60.
        ([0.1, 0.2, 0.3, 0.4], [0.2, 0.1, 0.4, 0.3], 0.6),
    ],
)
def test_rank_correlation_is_spearmans(
    ours: list[float], paper: list[float], spearman: float
) -> None:
    row = grid(ours, paper).against_paper().iloc[0]
    assert row["spearman"] == pytest.approx(spearman)
    mean = 25 * sum(abs(a - b) for a, b in zip(ours, paper, strict=True))
    assert row["mean_absolute_difference"] == pytest.approx(mean)
    assert row["mean_difference"] == pytest.approx(25 * (sum(ours) - sum(paper)))


def test_cells_without_a_number_are_left_out_of_the_comparison() -> None:
    nan = float("nan")
    row = grid([0.1, nan, 0.3, 0.4], [0.2, 0.5, nan, 0.6]).against_paper().iloc[0]
    assert row["cells"] == 2
    assert row["mean_absolute_difference"] == pytest.approx(15)


def test_a_constant_column_has_no_rank_correlation() -> None:
    assert math.isnan(grid([0.0] * 4, [0.1, 0.2, 0.3, 0.4]).against_paper().iloc[0]["spearman"])


def test_wide_has_a_row_a_cell_and_the_figure_every_point() -> None:
    made = grid([0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.7, 0.9])
    wide = made.wide()
    assert "seed" not in wide and set(wide["steps"]) == {10}
    assert wide["acc_pt_cte0"].tolist() == [10.0, 20.0, 30.0, 40.0]
    assert wide["acc_pt_cte0 (paper)"].tolist() == [50.0, 60.0, 70.0, 90.0]
    ours, paper = plots.plot(made).data
    assert list(ours.y) == [0.1, 0.2, 0.3, 0.4]
    assert list(paper.y) == [0.5, 0.6, 0.7, 0.9]


def test_wide_keeps_trainings_apart() -> None:
    """Seeds and steps are rows of their own, whatever order they come in; none is lost or averaged."""
    paper = [0.5, 0.6, 0.7, 0.9]
    one, two = grid([0.1, 0.2, 0.3, 0.4], paper).frame, grid([0.5, 0.6, 0.7, 0.8], paper).frame
    seeds = FinetuningGrid(pd.concat([one, two.assign(seed=1)])).wide()
    assert len(seeds) == 8
    assert seeds.set_index(["c_tr", "seed"])["acc_pt_cte0"].to_dict() == {
        **dict(zip([(c, 0) for c in one["c_tr"]], [10.0, 20.0, 30.0, 40.0], strict=True)),
        **dict(zip([(c, 1) for c in one["c_tr"]], [50.0, 60.0, 70.0, 80.0], strict=True)),
    }
    steps = FinetuningGrid(pd.concat([two.assign(steps=50), one])).wide()
    assert "seed" not in steps
    assert steps.loc[steps["steps"] == 50, "acc_pt_cte0"].tolist() == [50.0, 60.0, 70.0, 80.0]
    assert steps.loc[steps["steps"] == 10, "acc_pt_cte0"].tolist() == [10.0, 20.0, 30.0, 40.0]
    with pytest.raises(ConfigError, match=r"each question once; .*'c_tr': 0\.0, 'steps': 10"):
        FinetuningGrid(pd.concat([one, two])).wide()
