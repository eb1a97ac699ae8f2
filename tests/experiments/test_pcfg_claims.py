"""Claims: each rule gives yes, no and unclear where it should."""

from __future__ import annotations

from itertools import product
from typing import Any

import pandas as pd
import pytest

from mechft.experiments.checks import Check
from mechft.experiments.paper_tables import table5
from mechft.experiments.pcfg.claims import study_checks
from mechft.experiments.pcfg.claims.evidence import above, all_of
from mechft.experiments.pcfg.claims.revival import steps_to_revival
from mechft.experiments.pcfg.comparison import against_table5, rank_correlation
from mechft.experiments.pcfg.config import SCALES, Main
from mechft.experiments.pcfg.result import StudyResult
from mechft.statistics import Estimate
from mechft.tasks.pcfg_config import OPERAND_PRIORS

SCALE = SCALES["tiny"]
SEEDS = (0, 1, 2)


def result(**tables: list[dict[str, Any]]) -> StudyResult:
    frames = {name: pd.DataFrame(rows) for name, rows in tables.items()}
    return StudyResult(Main(), SCALE, frames, (), (), {})


def check(found: StudyResult, beginning: str) -> Check:
    (one,) = [c for c in study_checks(found) if c.claim.startswith(beginning)]
    return one


def cells(value: Any) -> list[dict[str, Any]]:
    """A row a cell of the grid; ``value`` from (prior, rate, c_tr, evaluation, seed)."""
    return [
        {
            "prior": prior, "rate": rate, "c_tr": c_tr, "seed": seed, "evaluation": evaluation,
            "accuracy": value(prior, rate, c_tr, evaluation, seed), "step": 400, "n": 1000,
        }
        for prior, rate, c_tr, seed, evaluation in product(
            SCALE.priors, SCALE.rate, SCALE.correlations, SEEDS,
            ("acc_pt_cte0", "acc_pt_cte1", "acc_ft_cte0", "acc_ft_cte1"),
        )
    ]  # fmt: skip


def paper(prior: str, rate: str, c_tr: float, evaluation: str, seed: int) -> float:
    return table5()[rate, OPERAND_PRIORS[prior][0], c_tr][evaluation] + 0.001 * seed


def test_the_papers_own_numbers() -> None:
    found = result(finetuning=cells(paper), finetuning_final=cells(paper))
    assert check(found, "Fig. 5: with the low prior").holds is True
    assert check(found, "Fig. 5: with the high prior").holds is True
    assert check(found, "Table 5").holds is True
    compared = against_table5(found)
    assert len(compared) == 3 * 3 * 4 * 4
    assert compared["difference"].abs().max() < 0.0011
    assert table5("1k")["L", 0.9, 1.0]["acc_ft_cte1"] == pytest.approx(0.061)  # as printed


def test_a_study_that_finds_the_opposite() -> None:
    def opposite(*cell: Any) -> float:
        return 1.0 - paper(*cell) if cell[3] != "acc_ft_cte1" else 0.95

    found = result(finetuning=cells(opposite), finetuning_final=cells(opposite))
    assert check(found, "Fig. 5: with the low prior").holds is False
    assert check(found, "Fig. 5: with the high prior").holds is False
    assert check(found, "Table 5").holds is False


@pytest.mark.parametrize(
    ("gap", "noise", "holds"), [(0.3, 0.01, True), (-0.3, 0.01, False), (0.05, 0.3, None)]
)
def test_prior_protects(gap: float, noise: float, holds: bool | None) -> None:
    def value(prior: str, rate: str, c_tr: float, evaluation: str, seed: int) -> float:
        return 0.5 + (gap if prior == "high" else 0.0) + noise * (seed - 1) * (prior == "high")

    found = result(finetuning=cells(value), finetuning_final=cells(paper))
    assert check(found, "Fig. 6: at C_Tr = 1").holds is holds


def curve(
    before: float, after: float, random: float, ft: float, prior: str
) -> list[dict[str, Any]]:
    return [
        {
            "prior": prior, "rate": rate, "c_tr": 1.0, "seed": seed, "k": k, "score": score, "task": task,
            "accuracy": (
                {"acc_pt": before, "acc_ft_cte1": 1.0}[task]
                if k == 0
                else random * (task == "acc_pt") + (task != "acc_pt")
                if score == "random"
                else {"acc_pt": after, "acc_ft_cte1": ft}[task]
            ),
        }
        for rate in SCALE.rate for seed in SEEDS for k in (0, 5, 10, 15, 50)
        for score in ("gradient×weight", "random") for task in ("acc_pt", "acc_ft_cte1")
    ]  # fmt: skip


BASES = [
    {"prior": prior, "seed": seed, "step": step, "evaluation": "C(a)", "accuracy": step / 2000}
    for prior in SCALE.priors for seed in SEEDS for step in (0, 2000)
]  # fmt: skip


@pytest.mark.parametrize(
    ("numbers", "back", "falls"),
    [
        ((0.1, 0.7, 0.1, 0.2), True, True),
        ((0.1, 0.2, 0.1, 0.2), False, True),
        ((0.1, 0.7, 0.6, 0.95), False, False),  # random neurons do it, too; O_FT stays
        ((0.9, 0.9, 0.9, 0.2), None, None),  # nothing was gone
    ],
)
def test_pruning(
    numbers: tuple[float, float, float, float], back: bool | None, falls: bool | None
) -> None:
    rows = curve(*numbers, "low")
    found = result(pruning=rows + curve(0.1, 0.5, 0.1, 0.5, prior="high"), pretraining=BASES)
    assert check(found, "Fig. 7: with the low prior").holds is back
    assert check(found, "Fig. 7: the same removal").holds is falls


@pytest.mark.parametrize(
    ("before", "after", "holds"),
    [(0.1, 0.5, True), (0.1, 0.97, False), (0.1, 0.1, False), (0.8, 0.9, None)],
)
def test_inhibitor(before: float, after: float, holds: bool | None) -> None:
    rows = curve(0.1, 0.7, 0.1, 0.2, prior="low") + curve(before, after, 0.1, 0.5, prior="high")
    assert check(result(pruning=rows, pretraining=BASES), "Figs. 86-89").holds is holds


def history(kind: str, steps: float, seed: int, **labels: Any) -> list[dict[str, Any]]:
    """Accuracy that passes 95% at a step and stays; one that dips is not there yet."""
    return [
        {
            "prior": "low", "rate": "L", "c_tr": 1.0, "reverse_rate": "M", "kind": kind, "seed": seed,
            "step": step, "evaluation": "acc_pt_cte0", "n": 250, **labels,
            "accuracy": 0.99 if step >= steps or step == 1 else 0.3,
        }
        for step in (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 400)
    ]  # fmt: skip


def reversal(reft: dict[str, float], control: float, slow: float = 1e9) -> StudyResult:
    rows = [row for s in SEEDS for p, n in reft.items() for row in history("reFT", n, s, prior=p)]
    for seed in SEEDS:
        rows += history("Scr.+FT", control, seed, prior="never_a", rate="", c_tr=float("nan"))
        rows += history(
            "Scr.+FT", slow, seed, prior="never_a", rate="", c_tr=float("nan"), reverse_rate="S"
        )
    return result(reversal=rows)


def test_steps_to_revival_asks_it_to_stay() -> None:
    table = steps_to_revival(reversal({"low": 8}, 64).tables["reversal"]).set_index(
        ["kind", "reverse_rate", "seed"]
    )
    assert table.loc[("reFT", "M", 0), "steps"] == 8
    assert table.loc[("Scr.+FT", "M", 2), "steps"] == 64
    assert pd.isna(table.loc[("Scr.+FT", "S", 1), "steps"])


@pytest.mark.parametrize(
    ("low", "high", "control", "faster", "order"),
    [
        (32, 4, 128, True, True),
        (32, 4, 32, False, True),
        (4, 32, 128, True, False),
        (1e9, 4, 128, False, True),
        (32, 4, 1e9, True, True),
    ],
)
def test_reversal(low: float, high: float, control: float, faster: bool, order: bool) -> None:
    found = reversal({"low": low, "high": high}, control)
    assert check(found, "Fig. 9: after C_Tr = 1 reFT").holds is faster
    assert check(found, "Fig. 9: with the high prior").holds is order


@pytest.mark.parametrize(
    ("control", "slow", "holds"), [(64, 1e9, True), (64, 64, False), (1e9, 1e9, False)]
)
def test_control_needs_the_larger_rate(control: float, slow: float, holds: bool) -> None:
    found = reversal({"low": 8, "high": 8}, control, slow)
    assert check(found, "Fig. 9: Scr.+FT").holds is holds


def test_rank_correlation() -> None:
    one = pd.Series([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    assert rank_correlation(one, one**3)[0] == pytest.approx(1)
    assert rank_correlation(one, -one)[0] == pytest.approx(-1)
    tied = pd.Series([1.0, 1.0, 2.0, 2.0, 3.0, 4.0])
    assert rank_correlation(one, tied)[0] == pytest.approx(one.rank().corr(tied.rank()))
    value, low, high = rank_correlation(one, one * 0)
    assert value != value and low != low and high != high


def test_verdicts_from_intervals() -> None:
    assert above(Estimate(0.6, 3, 0.55, 0.65), 0.5) is True
    assert above(Estimate(0.6, 3, 0.4, 0.8), 0.5) is None
    assert above(Estimate(0.4, 3, 0.35, 0.45), 0.5) is False
    assert above(Estimate(0.6, 1, float("nan"), float("nan")), 0.5) is True
    assert above(None, 0.5) is None
    assert all_of([True, None, False]) is False
    assert all_of([True, None]) is None and all_of([]) is None and all_of([True, True]) is True
