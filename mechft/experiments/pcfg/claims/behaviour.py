"""Claims about what fine-tuned models answer (PAPER.md 1, 2 and 7: Figs. 5, 6, 18-23, Tables 5 and 7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mechft.experiments.checks import Check
from mechft.experiments.pcfg.claims.evidence import (
    RIGHT,
    above,
    all_of,
    by_seed,
    estimate,
    not_,
    paired,
    percent,
    points,
    rows_of,
)
from mechft.experiments.pcfg.comparison import against_table5, rank_correlation
from mechft.experiments.pcfg.result import StudyResult

if TYPE_CHECKING:
    import pandas as pd

WRONG = 0.5
BOTH = 0.9
UNHARMED = 0.9


def behaviour_claims(result: StudyResult) -> list[Check]:
    """Figs. 5 and 6 and Table 5."""
    table, history = result.tables["finetuning_final"], result.tables["finetuning"]
    low, high = result.scale.priors[0], result.scale.priors[-1]
    return [
        _shortcut(table, "Fig. 5", low),
        _both(table, result, "Fig. 5", high),
        _prior_protects(history, low, high),
        _correlation_harms(history, low),
        _ordering(result),
    ]


def indexer_claims(result: StudyResult) -> list[Check]:
    """Table 7: the Indexer as the Counter."""
    table = result.tables["indexer_final"]
    return [
        _shortcut(table, "Table 7 (Indexer)", result.scale.priors[0]),
        _both(table, result, "Table 7 (Indexer)", result.scale.priors[-1]),
    ]


def mixing_claims(result: StudyResult) -> list[Check]:
    """Figs. 18-23: the same with pretraining data mixed in."""
    table, low = result.tables["mixing_final"], result.scale.priors[0]
    return [
        _shortcut(
            rows_of(table, share=share),
            f"Figs. 18-23, {share:.1%} of pretraining data mixed in",
            low,
        )
        for share in result.scale.mixing_shares
    ]


def _shortcut(table: pd.DataFrame, where: str, prior: str) -> Check:
    verdicts, words = {}, []
    for rate in dict.fromkeys(table["rate"]):
        with_, without = (
            estimate(by_seed(table, evaluation=name, rate=rate, c_tr=1.0, prior=prior))
            for name in ("acc_ft_cte1", "acc_ft_cte0")
        )
        if with_ is None or without is None:
            continue
        words.append(f"{rate}: {percent(with_)} with, {percent(without)} without")
        if with_.value >= RIGHT:
            verdicts[rate] = not_(above(without, WRONG))
    return Check(
        f"{where}: with the {prior} prior and C_Tr = 1, every rate that teaches O_FT makes models right with "
        f"the correlation (at least {RIGHT:.0%}) and wrong without (at most {WRONG:.0%})",
        "; ".join(words),
        all_of(verdicts),
    )


def _both(table: pd.DataFrame, result: StudyResult, where: str, prior: str) -> Check:
    strongest = max((c for c in result.scale.correlations if c < 1), default=0.0)
    verdicts, words = {}, []
    for rate in result.scale.rate:
        for name in ("acc_ft_cte1", "acc_ft_cte0"):
            value = estimate(
                by_seed(table, evaluation=name, rate=rate, prior=prior, c_tr=strongest)
            )
            verdicts[rate, name] = above(value, BOTH)
            words.append(f"{rate}, C_Te = {name[-1]}: {percent(value)}")
    return Check(
        f"{where}: with the {prior} prior models are right about O_FT with the correlation and without (at "
        f"least {BOTH:.0%}) even at C_Tr = {strongest:g}, at every rate",
        "; ".join(words),
        all_of(verdicts),
    )


def _over_training(history: pd.DataFrame, **labels: Any) -> pd.DataFrame:
    """O_PT without the correlation: the mean of a fine-tuning's evaluations, seeds by rates.

    Evaluations are spaced geometrically: early steps count as much as late ones.
    """
    rows = rows_of(history, evaluation="acc_pt_cte0", **labels)
    found: pd.DataFrame = rows.groupby(["seed", "rate"])["accuracy"].mean().unstack("rate")
    return found


def _harm(less: pd.DataFrame, more: pd.DataFrame, claim: str, words: str) -> Check:
    """Whether ``more`` harms more than ``less``, the mean over the rates at which anything is harmed."""
    harmed = [rate for rate in more if float(more[rate].mean()) < UNHARMED]
    gap = paired(less[harmed].mean(axis=1), more[harmed].mean(axis=1)) if harmed else None
    by_rate = "; ".join(f"{rate}: {points(paired(less[rate], more[rate]))}" for rate in harmed)
    return Check(
        f"{claim} (accuracy over fine-tuning, mean of the rates that harm it at all, paired by seed)",
        f"{words}, points: {points(gap)}; {by_rate}" if harmed else "it falls at no rate",
        above(gap, 0.0),
    )


def _prior_protects(history: pd.DataFrame, low: str, high: str) -> Check:
    return _harm(
        _over_training(history, c_tr=1.0, prior=high),
        _over_training(history, c_tr=1.0, prior=low),
        f"Fig. 6: at C_Tr = 1 counting a falls faster with the {low} prior than with the {high} one",
        f"{high} minus {low}",
    )


def _correlation_harms(history: pd.DataFrame, low: str) -> Check:
    return _harm(
        _over_training(history, c_tr=0.0, prior=low),
        _over_training(history, c_tr=1.0, prior=low),
        f"Fig. 6: with the {low} prior counting a falls faster at C_Tr = 1 than at C_Tr = 0",
        "C_Tr 0 minus 1",
    )


def _ordering(result: StudyResult) -> Check:
    compared = against_table5(result)
    verdicts, words = {}, []
    for question, rows in compared.groupby("evaluation", sort=False):
        value, low, high = rank_correlation(rows["accuracy"], rows["paper"])
        verdicts[question] = True if low > 0 else False if high < 0 else None
        off = 100 * float(rows["difference"].abs().mean())
        words.append(
            f"{question}: {value:.2f} [{low:.2f}, {high:.2f}] over {len(rows)} cells, {off:.1f} points off "
            "on average"
        )
    return Check(
        "Table 5: cells are ordered as the paper's (Spearman's rank correlation above 0, for each question, "
        "after all steps; the interval takes cells as independent)",
        "; ".join(words) or "no cell in common with the paper's",
        all_of(verdicts),
    )
