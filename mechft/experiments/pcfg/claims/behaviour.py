"""Claims about what fine-tuned models answer (PAPER.md 1, 2 and 7: Figs. 5, 6, 18-23, Table 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mechft.experiments.checks import Check
from mechft.experiments.paper_tables import table5
from mechft.experiments.pcfg.claims.evidence import (
    above,
    all_of,
    by_seed,
    estimate,
    paired,
    percent,
    points,
    rows_of,
)
from mechft.experiments.pcfg.comparison import against_table5, rank_correlation
from mechft.experiments.pcfg.result import StudyResult

if TYPE_CHECKING:
    import pandas as pd

RIGHT, WRONG = 0.8, 0.5  # with the correlation at least, without it at most
BOTH = 0.9


def behaviour_claims(result: StudyResult) -> list[Check]:
    """Figs. 5 and 6 and Table 5."""
    table, history = result.tables["finetuning_final"], result.tables["finetuning"]
    low, high = result.scale.priors[0], result.scale.priors[-1]
    checks = [
        _shortcut(
            table, f"Fig. 5: with the {low} prior and C_Tr = 1 every rate that teaches b", prior=low
        ),
        _both(result, high),
        _prior_protects(history, low, high),
        _correlation_harms(history, low),
    ]
    if result.scale.preset == "paper" or set(result.scale.correlations) >= {0.0, 0.5, 0.8, 1.0}:
        checks.append(_ordering(result))
    return checks


def _shortcut(table: pd.DataFrame, who: str, **labels: Any) -> Check:
    verdicts, words = {}, []
    for rate in dict.fromkeys(table["rate"]):
        with_, without = (
            estimate(by_seed(table, evaluation=name, rate=rate, c_tr=1.0, **labels))
            for name in ("acc_ft_cte1", "acc_ft_cte0")
        )
        if with_ is None or without is None:
            continue
        words.append(f"{rate}: {percent(with_)} with, {percent(without)} without")
        if with_.value >= RIGHT:
            verdicts[rate] = _not(above(without, WRONG))
    return Check(
        f"{who} is right with the correlation (at least {RIGHT:.0%}) and wrong without (at most "
        f"{WRONG:.0%})",
        "; ".join(words),
        all_of(verdicts),
    )


def _not(value: bool | None) -> bool | None:
    return None if value is None else not value


def _both(result: StudyResult, prior: str) -> Check:
    table = result.tables["finetuning_final"]
    strongest = max((c for c in result.scale.correlations if c < 1), default=None)
    verdicts, words = {}, []
    for rate in result.scale.rate:
        for name in ("acc_ft_cte1", "acc_ft_cte0"):
            value = estimate(
                by_seed(table, evaluation=name, rate=rate, prior=prior, c_tr=strongest)
            )
            verdicts[rate, name] = above(value, BOTH)
            words.append(f"{rate}, C_Te = {name[-1]}: {percent(value)}")
    return Check(
        f"Fig. 5: with the {prior} prior models are right with the correlation and without (at least "
        f"{BOTH:.0%}) even at C_Tr = {strongest:g}"
        if strongest is not None
        else f"Fig. 5: the {prior} prior at C_Tr < 1 (not run)",
        "; ".join(words),
        all_of(verdicts),
    )


def _over_training(history: pd.DataFrame, **labels: Any) -> pd.Series[float]:
    """O_PT without the correlation, the mean of all evaluations of a fine-tuning, by seed.

    Evaluations are spaced geometrically: early steps count as much as late ones.
    """
    return by_seed(rows_of(history, evaluation="acc_pt_cte0"), **labels)


def _prior_protects(history: pd.DataFrame, low: str, high: str) -> Check:
    verdicts, words = {}, []
    for rate in dict.fromkeys(history["rate"]):
        gap = paired(
            _over_training(history, rate=rate, c_tr=1.0, prior=high),
            _over_training(history, rate=rate, c_tr=1.0, prior=low),
        )
        verdicts[rate] = above(gap, 0.0)
        words.append(f"{rate}: {points(gap)}")
    return Check(
        f"Fig. 6: at C_Tr = 1 counting a falls faster with the {low} prior than with the {high} one "
        "(accuracy over fine-tuning, paired by seed, at every rate)",
        f"{high} minus {low}, points: " + "; ".join(words),
        all_of(verdicts),
    )


def _correlation_harms(history: pd.DataFrame, low: str) -> Check:
    verdicts, words = {}, []
    for rate in dict.fromkeys(history["rate"]):
        gap = paired(
            _over_training(history, rate=rate, c_tr=0.0, prior=low),
            _over_training(history, rate=rate, c_tr=1.0, prior=low),
        )
        verdicts[rate] = above(gap, 0.0)
        words.append(f"{rate}: {points(gap)}")
    return Check(
        f"Fig. 6: with the {low} prior counting a falls faster at C_Tr = 1 than at C_Tr = 0 (the same, at "
        "every rate)",
        "C_Tr 0 minus 1, points: " + "; ".join(words),
        all_of(verdicts),
    )


def _ordering(result: StudyResult) -> Check:
    compared = against_table5(result)
    verdicts, words = {}, []
    for question, rows in compared.groupby("evaluation", sort=False):
        value, low, high = rank_correlation(rows["accuracy"], rows["paper"])
        verdicts[question] = None if low <= 0 < high and value > 0 else low > 0
        words.append(f"{question}: {value:.2f} [{low:.2f}, {high:.2f}] over {len(rows)} cells")
    return Check(
        "Table 5: cells are ordered as the paper's (Spearman's rank correlation above 0, for each question, "
        "after all steps)",
        "; ".join(words)
        if len(compared)
        else f"no cell in common with {len(table5())} of the paper's",
        all_of(verdicts),
    )


def mixing_claims(result: StudyResult) -> list[Check]:
    """Figs. 18-23: the same with pretraining data mixed in."""
    table = result.tables["mixing_final"]
    low = result.scale.priors[0]
    return [
        _shortcut(
            rows_of(table, share=share),
            f"Figs. 18-23: with {share:.1%} of pretraining data mixed in, the {low} prior and C_Tr = 1, "
            "every rate that teaches b",
            prior=low,
        )
        for share in result.scale.mixing_shares
    ]
