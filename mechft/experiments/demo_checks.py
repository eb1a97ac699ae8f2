"""What the paper leads one to expect of the demo, put to its numbers."""

from __future__ import annotations

from mechft.experiments.checks import Check
from mechft.experiments.demo_result import (
    BASE,
    CONTROL,
    REFT,
    THRESHOLD,
    WITH,
    DemoResult,
    best_removal,
    prune_table,
)


def in_steps(bracket: tuple[int, int | None]) -> str:
    """A bracket from ``Revival.brackets`` in words."""
    before, step = bracket
    return f"not within {before} steps" if step is None else f"{step} steps (not yet at {before})"


def demo_checks(result: DemoResult) -> tuple[Check, ...]:
    """What the paper leads one to expect of this run, put to its numbers."""
    base = result.behaviour[BASE]["acc_pt_cte0"]
    c1 = result.behaviour[WITH]
    table = prune_table(result.prune, WITH)
    before, best = table[0]["acc_pt"], best_removal(table)
    random_best = max(row["random_acc_pt_highest"] for row in table if 0 < row["k"] <= 15)
    brackets = result.revival.brackets(THRESHOLD)
    reft, control = brackets[REFT][1], brackets[CONTROL][1]
    return (
        Check("The base model counts a: at least 97%", str(base), base.value >= 0.97),
        Check(
            "After fine-tuning with C_Tr = 1, count a on uncorrelated strings is at most 50%",
            str(c1["acc_pt_cte0"]),
            c1["acc_pt_cte0"].value <= 0.5,
        ),
        Check(
            "It answers for b with the correlation (at least 95%) but not without it (at most 30%)",
            f"with: {c1['acc_ft_cte1']}; without: {c1['acc_ft_cte0']}",
            c1["acc_ft_cte1"].value >= 0.95 and c1["acc_ft_cte0"].value <= 0.3,
        ),
        Check(
            "Removing at most 15 neurons returns at least 30 points of count a",
            f"{before:.1%} with none removed, {best['acc_pt']:.1%} [{best['acc_pt_low']:.1%}, "
            f"{best['acc_pt_high']:.1%}] without {best['k']} neurons (n={best['n']})",
            best["acc_pt"] - before >= 0.3,
        ),
        Check(
            "Removing at most 15 random neurons does not (less than 30 points in any draw)",
            f"{before:.1%} with none removed, at best {random_best:.1%} (n={best['n']})",
            random_best - before < 0.3,
        ),
        Check(
            "reFT passes 95% of count a in fewer steps than Scr.+FT, which never counted a",
            f"reFT: {in_steps(brackets[REFT])}; Scr.+FT: {in_steps(brackets[CONTROL])}",
            reft is not None and (control is None or reft < control),
        ),
    )
