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


BASES = [
    {
        "prior": prior, "variant": "", "pretraining_steps": 2000, "seed": seed, "step": step,
        "evaluation": question, "accuracy": step / 2000,
    }
    for prior in (*SCALE.priors, "never_a") for seed in SEEDS for step in (0, 2000)
    for question in ("C(a)", "C(b)")
]  # fmt: skip


def result(**tables: list[dict[str, Any]]) -> StudyResult:
    frames = {name: pd.DataFrame(rows) for name, rows in {"pretraining": BASES, **tables}.items()}
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
    assert (
        check(found, "Fig. 6: with the low prior").holds is not False
    )  # 9 points, over two spaced looks
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
    ("gap", "noise", "holds"),
    [(0.3, 0.01, True), (-0.3, 0.01, False), (0.05, 0.3, None), (0.0, 0.0, None)],
)
def test_prior_protects(gap: float, noise: float, holds: bool | None) -> None:
    def value(prior: str, rate: str, c_tr: float, evaluation: str, seed: int) -> float:
        return 0.5 + (gap if prior == "high" else 0.0) + noise * (seed - 1) * (prior == "high")

    found = result(finetuning=cells(value), finetuning_final=cells(paper))
    assert check(found, "Fig. 6: at C_Tr = 1").holds is holds


def curve(
    before: float, after: float, random: float, ft: float, prior: str, c_tr: float = 1.0
) -> list[dict[str, Any]]:
    """A pruning curve for every rate and seed; always naming one count would get 30%."""
    return [
        {
            "prior": prior, "rate": rate, "c_tr": c_tr, "seed": seed, "k": k, "score": score, "task": task,
            "commonest": 0.3,
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


@pytest.mark.parametrize(
    ("numbers", "back", "falls"),
    [
        ((0.1, 0.7, 0.1, 0.2), True, True),
        ((0.1, 0.2, 0.1, 0.2), False, True),
        ((0.1, 0.7, 0.6, 0.95), False, False),  # random neurons do it, too; O_FT stays
        ((0.0, 0.34, 0.0, 0.2), False, True),  # no more than a constant answer
        ((0.9, 0.9, 0.9, 0.2), None, None),  # nothing was gone
    ],
)
def test_pruning(
    numbers: tuple[float, float, float, float], back: bool | None, falls: bool | None
) -> None:
    found = result(
        pruning=curve(*numbers, "low") + curve(0.1, 0.5, 0.1, 0.5, "high", 0.0),
        finetuning=cells(paper),
        finetuning_final=cells(paper),
    )
    assert check(found, "Fig. 7: with the low prior").holds is back
    assert check(found, "Fig. 7: the same removal").holds is falls


@pytest.mark.parametrize(
    ("before", "after", "learned", "holds"),
    [
        (0.1, 0.5, 1.0, True),
        (0.1, 0.97, 1.0, False),
        (0.1, 0.1, 1.0, False),
        (0.8, 0.9, 1.0, None),  # nothing was gone
        (0.1, 0.5, 0.2, None),  # b is not what it learned to answer
    ],
)
def test_inhibitor(before: float, after: float, learned: float, holds: bool | None) -> None:
    rows = curve(0.1, 0.7, 0.1, 0.2, "low") + curve(before, after, 0.1, 0.5, "high", 0.0)
    final = cells(lambda *cell: learned)
    found = result(pruning=rows, finetuning=final, finetuning_final=final)
    assert check(found, "Figs. 86-89").holds is holds


def test_nothing_is_judged_where_the_base_knows_nothing() -> None:
    ignorant = [{**row, "accuracy": 0.3} for row in BASES]
    found = result(pretraining=ignorant, finetuning=cells(paper), finetuning_final=cells(paper))
    first, *others = study_checks(found)
    assert first.holds is False and others and all(check.holds is None for check in others)


def probes(read: dict[tuple[str, str, int], float]) -> StudyResult:
    """Probes by (who, rate, block); who is a prior, never_a or untrained, and rate "" for base models."""
    rows = [
        {
            "prior": who, "rate": rate, "c_tr": 1.0 if rate else float("nan"), "seed": seed,
            "stage": "fine-tuned" if rate else "base", "block": block, "control": "none",
            "accuracy": value, "majority": 0.4,
        }
        for (who, rate, block), value in read.items() for seed in SEEDS
    ]  # fmt: skip
    return result(probing=rows)


@pytest.mark.parametrize(
    ("untrained", "low_m", "others", "tells", "same"),
    [
        (0.5, 0.6, 1.0, True, True),
        (0.5, 1.0, 1.0, True, False),  # low prior with M should have lost it
        (0.5, 0.6, 0.6, True, False),  # the others should not
        (0.99, 0.6, 1.0, False, None),  # an untrained model is read as well
    ],
)
def test_probing(
    untrained: float, low_m: float, others: float, tells: bool, same: bool | None
) -> None:
    read = {("never_a", "", 0): 0.5, ("untrained", "", 0): untrained}
    for prior, rate in product(SCALE.priors, ("", *SCALE.probed_rates)):
        lost = low_m if (prior, rate) == ("low", "M") else others
        read[prior, rate, 0] = lost if rate else 1.0
    found = probes(read)
    assert check(found, "What the reading of Fig. 8").holds is tells
    assert check(found, "Fig. 8").holds is same


@pytest.mark.parametrize(
    ("c", "j1", "middle", "still", "kept"),
    [
        (0.1, 0.99, 0.98, True, True),
        (0.1, 0.4, 0.98, False, True),
        (0.1, 0.99, 0.5, True, False),
        (0.9, 0.99, 0.98, None, None),  # C still counts a: no jailbreak to speak of
    ],
)
def test_jailbreak(
    c: float, j1: float, middle: float, still: bool | None, kept: bool | None
) -> None:
    asked, probed = [], []
    for seed, stage in product(SEEDS, ("base", "fine-tuned")):
        tuned = stage == "fine-tuned"
        labels = {
            "prior": "high", "rate": "M" if tuned else "", "c_tr": 1.0 if tuned else float("nan"),
            "seed": seed, "stage": stage,
        }  # fmt: skip
        asked += [
            {**labels, "token": token, "accuracy": value if tuned else 1.0}
            for token, value in (("C", c), ("J1", j1), ("J2", 0.99))
        ]
        probed += [
            {
                **labels,
                "token": "C",
                "block": block,
                "control": "none",
                "majority": 0.4,
                "accuracy": v,
            }
            for block, v in ((0, 0.4), (1, middle if tuned else 1.0), (2, 1.0))
        ]
    found = result(jailbreak=asked, jailbreak_probing=probed)
    assert check(found, "Fig. 24").holds is still
    assert check(found, "Fig. 25").holds is kept


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
        (64, 4, 128, True, True),
        (128, 4, 64, False, True),
        (4, 128, 128, False, False),
        (1e9, 4, 128, False, True),  # reFT never got there, the control did
        (32, 4, 1e9, True, True),
        (256, 256, 1e9, None, True),  # the control's 400 steps are too few to tell a factor of two
        (1e9, 1e9, 1e9, None, None),
    ],
)
def test_reversal(
    low: float, high: float, control: float, faster: bool | None, order: bool | None
) -> None:
    found = reversal({"low": low, "high": high}, control)
    assert check(found, "Fig. 9: where C_Tr = 1").holds is faster
    assert check(found, "Fig. 9: with the high prior").holds is order


def test_what_was_not_gone_does_not_come_back() -> None:
    found = reversal({"low": 0, "high": 0}, 128)
    assert check(found, "Fig. 9: where C_Tr = 1").holds is None


@pytest.mark.parametrize(
    ("control", "slow", "holds"), [(64, 1e9, True), (64, 64, False), (1e9, 1e9, None)]
)
def test_control_needs_the_larger_rate(control: float, slow: float, holds: bool | None) -> None:
    found = reversal({"low": 8, "high": 8}, control, slow)
    assert check(found, "Fig. 9: Scr.+FT").holds is holds


@pytest.mark.parametrize(
    ("wrong", "taught", "holds"), [(8, 0.9, True), (64, 0.9, False), (8, 0.5, None), (0, 0.9, None)]
)
def test_randft(wrong: float, taught: float, holds: bool | None) -> None:
    plain = reversal({"low": 8}, 64).tables["reversal"].to_dict("records")
    rows = [row for seed in SEEDS for row in history("randFT", wrong, seed, c_tr=float("nan"))]
    final = [
        {"prior": "low", "rate": "L", "seed": s, "evaluation": "acc_randomised", "accuracy": taught}
        for s in SEEDS
    ]
    found = result(reversal=plain + rows, randft_final=final)
    assert check(found, "Figs. 28-30").holds is holds


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
    assert above(Estimate(0.53, 1, float("nan"), float("nan")), 0.5) is None
    assert above(Estimate(0.5, 3, 0.5, 0.5), 0.5) is None
    assert above(None, 0.5) is None
    assert all_of([True, None, False]) is False
    assert all_of([True, None]) is None and all_of([]) is None and all_of([True, True]) is True
