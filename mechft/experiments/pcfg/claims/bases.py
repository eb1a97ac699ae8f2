"""What everything else rests on: base models that can do what fine-tuning is to hide."""

from __future__ import annotations

from mechft.experiments.checks import Check
from mechft.experiments.pcfg.claims.evidence import all_of, by_seed, estimate, percent, rows_of
from mechft.experiments.pcfg.result import StudyResult

KNOWS = 0.95


def base_claims(result: StudyResult) -> list[Check]:
    """Whether base models count what their prior had them asked for: a with every one, b with the highest."""
    table = result.tables["pretraining"]
    verdicts: dict[object, bool | None] = {}
    words = []
    for variant, rows in table.groupby(
        ["prior", "variant", "pretraining_steps"], sort=False, dropna=False
    ):
        prior, kind, steps = ("" if part != part else str(part) for part in variant)
        last = rows[rows["step"] == rows["step"].max()]
        asked = ["C(b)"] if prior == "never_a" else ["C(a)"]
        if prior == result.scale.priors[-1]:
            asked = ["C(a)", "C(b)"]
        for question in asked:
            values = by_seed(rows_of(last, evaluation=question))
            which = f"{prior} ({kind})" if kind else prior
            words.append(f"{which}, {steps} steps, {question}: {percent(estimate(values))}")
            if kind != "shorter":  # that these know less is what they are for
                verdicts[which, question] = bool((values >= KNOWS).all()) if len(values) else None
    return [
        Check(
            f"Base models count what they were asked for in pretraining (at least {KNOWS:.0%} for each "
            "seed); if not, no other claim is judged",
            "; ".join(words),
            all_of(verdicts),
        )
    ]
