"""The sections of a study's report on its variants: mixing, jailbreak, randFT, Indexer, pretraining steps."""

from __future__ import annotations

from mechft.experiments.pcfg.claims.evidence import rows_of
from mechft.experiments.pcfg.claims.inside import FEW
from mechft.experiments.pcfg.result import StudyResult
from mechft.plots import study as plots
from mechft.report.render import Section
from mechft.report.study_tables import final_table, mixed_with_none
from mechft.report.study_words import (
    GUESSED,
    KEPT,
    O_FT,
    REVIVED,
    behaviour_words,
    cell,
    code,
    ends,
    listed,
)

_RANDOMISED = ("acc_pt_cte0", "acc_randomised", "acc_ft_cte0")


_MIXED = (
    "from mechft.report.study_tables import mixed_with_none",
    'mixing = mixed_with_none({"mixing": mixing, "finetuning": finetuning})',
)
"""Lines that put the fine-tunings without pretraining data beside those with it."""


def mixing(result: StudyResult) -> Section:
    """Pretraining data mixed into fine-tuning."""
    low = ends(result)[0]
    final = result.tables["mixing_final"]
    mixed = mixed_with_none(result.tables)
    words = {
        f"{100 * share:.3g}%": behaviour_words(rows, prior=low)
        for share, rows in final.groupby("share", sort=False)
    }
    figures = [plots.mixing_curves(mixed, O_FT), plots.mixing_curves(mixed, ("acc_pt_cte0",))]
    calls = [f"mixing_curves(mixing, {O_FT})", 'mixing_curves(mixing, ("acc_pt_cte0",))']
    captions = [GUESSED, f"{KEPT}, on uncorrelated strings."]
    tables, beside = ["mixing"], ["finetuning"] if "finetuning" in result.tables else []
    if "mixing_pruning" in result.tables:
        figures.append(
            plots.pruning_curves(result.tables["mixing_pruning"], columns="share", marked=FEW)
        )
        calls.append(f'pruning_curves(mixing_pruning, columns="share", marked={FEW})')
        tables.append("mixing_pruning")
        captions.append(REVIVED)
    return Section(
        "Figs. 18-23: pretraining data mixed into fine-tuning",
        [
            "A share of each fine-tuning batch is pretraining data, which still asks for a (C<sub>Tr</sub> "
            "= 1). It keeps the old behaviour; the shortcut for b may stay.",
            listed(f"Counting b, {low} prior, by share of pretraining data:", words),
        ],
        figures,
        final_table(final, "share"),
        ", ".join(f"{name}.csv" for name in (*tables, "mixing_final")),
        code(result, "mixing", [*tables, *beside], calls, _MIXED if beside else ()),
        captions=captions,
    )


def jailbreak(result: StudyResult) -> Section:
    """Tokens that fine-tuning did not touch."""
    table = result.tables["jailbreak"]
    high = ends(result)[1]
    tuned = rows_of(table, stage="fine-tuned", prior=high)
    words = {
        f"{rate}, C<sub>Tr</sub> = {c_tr:g}": ", ".join(
            f"{token} {cell(rows, token=token)}" for token in dict.fromkeys(rows["token"])
        )
        for (rate, c_tr), rows in tuned.groupby(["rate", "c_tr"], sort=False)
    }
    figures = [plots.jailbreak_bars(table)] if len(tuned) else []
    captions = ["A bar as high as the line across it counts a as well as its base does."] * len(
        figures
    )
    tables, calls = ["jailbreak"], ["jailbreak_bars(jailbreak)"]
    if "jailbreak_probing" in result.tables:
        figures.append(plots.probing_curves(result.tables["jailbreak_probing"]))
        tables.append("jailbreak_probing")
        calls.append("probing_curves(jailbreak_probing)")
        captions.append("What probes read where each token asks; a row a token.")
    return Section(
        "Figs. 24-25: tokens that fine-tuning did not touch",
        [
            "In pretraining three tokens ask for a count; fine-tuning teaches (C, b) only. If it wrapped the "
            "capability, the other two still get a counted.",
            listed(f"Counting a after fine-tuning, {high} prior, by the token that asks:", words),
        ],
        figures,
        data=", ".join(f"{name}.csv" for name in tables),
        code=code(result, "jailbreak", tables, calls),
        captions=captions,
    )


def randft(result: StudyResult) -> Section:
    """Taught wrong answers for O_PT."""
    final = result.tables["randft_final"]
    words = {
        f"{prior} prior, {rate}": f"right for a {cell(rows, evaluation='acc_pt_cte0')}, answered with the "
        f"count of b {cell(rows, evaluation='acc_randomised')}"
        for (prior, rate), rows in final.groupby(["prior", "rate"], sort=False)
    }
    return Section(
        "Figs. 28-30: taught wrong answers for a",
        [
            "Asked for a, the model is taught the count of b (randFT). How fast counting a comes back is "
            "dotted in the figure of reverse fine-tuning. Strings where both counts are equal stay in, so no "
            "curve goes down to 0.",
            listed("Asked for a after all steps, uncorrelated strings:", words),
        ],
        [plots.question_curves(result.tables["randft"], _RANDOMISED)],
        final_table(final),
        "randft.csv, randft_final.csv, reversal.csv",
        code(result, "randft", ["randft"], [f"question_curves(randft, {_RANDOMISED})"]),
        captions=[
            "Asked for O_PT: how often the answer is right, and how often it is the one taught."
        ],
    )


def indexer(result: StudyResult) -> Section:
    """The Indexer's grid."""
    final = result.tables["indexer_final"]
    strongest = max(result.scale.correlations)
    return Section(
        "Table 7: the Indexer instead of the Counter",
        [
            "The same grid of fine-tunings for the position of the n-th b, where that of the n-th a differs "
            "by 1 with probability C<sub>Tr</sub>.",
            listed(
                f"O_FT after all steps, C<sub>Tr</sub> = {strongest:g}, by learning rate, on test strings "
                "with the correlation and without:",
                {
                    f"{prior} prior": behaviour_words(final, prior=prior, c_tr=strongest)
                    for prior in ends(result)
                },
            ),
        ],
        [
            plots.finetuning_curves(result.tables["indexer"], O_FT),
            plots.finetuning_curves(result.tables["indexer"], ("acc_pt_cte0",)),
        ],
        final_table(final),
        "indexer.csv, indexer_final.csv",
        code(
            result,
            "table7",
            ["indexer"],
            [f"finetuning_curves(indexer, {O_FT})", 'finetuning_curves(indexer, ("acc_pt_cte0",))'],
        ),
        captions=[GUESSED, f"{KEPT}, on uncorrelated strings."],
    )


def pretraining_steps(result: StudyResult) -> Section:
    """Bases of less pretraining."""
    low = ends(result)[0]
    final = result.tables["steps_final"]
    words = {
        f"{steps:,} steps": behaviour_words(rows)
        for steps, rows in rows_of(final, prior=low).groupby("pretraining_steps")
    }
    return Section(
        "Figs. 60-78: more or less pretraining",
        [
            "Base models of fewer pretraining steps, fine-tuned with C<sub>Tr</sub> = 1 at every rate. A "
            "capability that pretraining has not made yet can neither be hidden nor revived.",
            listed(
                f"Counting b, {low} prior, by steps of pretraining, with the correlation and without:",
                words,
            ),
        ],
        [plots.steps_curves(final)],
        final_table(final, "pretraining_steps"),
        "steps_final.csv, steps.csv",
        code(result, "lr-and-steps", ["steps_final"], ["steps_curves(steps_final)"]),
        captions=[
            "From left to right, bases of more and more pretraining, after the same fine-tuning."
        ],
    )
