"""The sections of a study's report on figs. 5 to 9 and Table 5, and which tables make which section."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mechft.experiments.pcfg.claims.evidence import rows_of
from mechft.experiments.pcfg.claims.inside import FEW
from mechft.experiments.pcfg.claims.revival import steps_to_revival
from mechft.experiments.pcfg.comparison import against_table5
from mechft.experiments.pcfg.result import StudyResult
from mechft.plots import study as plots
from mechft.plots.study_style import STRINGS, question_name
from mechft.report.render import Section
from mechft.report.study_tables import base_table, final_table, revival_table, table5_table
from mechft.report.study_variants import indexer, jailbreak, mixing, pretraining_steps, randft
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
    options,
)

if TYPE_CHECKING:
    import pandas as pd


_O_PT = ("acc_pt_cte0", "acc_pt_cte1")


def part_sections(result: StudyResult) -> list[Section]:
    """The sections of the parts that a result has tables of, in the paper's order."""
    return [
        make(result)
        for table, makers in _SECTIONS.items()
        if len(result.tables.get(table, ()))
        for make in makers
    ]


def _fig5(result: StudyResult) -> Section:
    final = result.tables["finetuning_final"]
    strongest = max(result.scale.correlations)
    return Section(
        "Fig. 5: counting b, learned or guessed from a",
        [
            "A model that learned to count b is right on all test strings. One that answers count(a) + 1 "
            "is right with the correlation (solid) and wrong without it (dashed).",
            listed(
                f"After all steps, C<sub>Tr</sub> = {strongest:g}, by learning rate, on test strings with "
                "the correlation and without:",
                {
                    f"{prior} prior": behaviour_words(final, prior=prior, c_tr=strongest)
                    for prior in ends(result)
                },
            ),
        ],
        [plots.finetuning_curves(result.tables["finetuning"], O_FT)],
        final_table(final),
        "finetuning.csv, finetuning_final.csv",
        code(result, "fig5", ["finetuning"], [f"finetuning_curves(finetuning, {O_FT})"]),
        captions=[GUESSED],
    )


def _fig6(result: StudyResult) -> Section:
    final = rows_of(result.tables["finetuning_final"], evaluation="acc_pt_cte0")
    words = {
        f"{prior} prior, C<sub>Tr</sub> = {c_tr:g}": ", ".join(
            f"{rate} {cell(final, prior=prior, rate=rate, c_tr=c_tr)}"
            for rate in dict.fromkeys(final["rate"])
        )
        for prior in ends(result)
        for c_tr in (min(result.scale.correlations), max(result.scale.correlations))
    }
    return Section(
        "Fig. 6: counting a, while b is taught",
        [
            "Nothing in fine-tuning asks about a. The faster these curves fall, the more of the "
            "pretrained behaviour is lost; the sections below ask whether the capability is. Step 0 is the "
            "base.",
            listed("Counting a on uncorrelated strings after all steps, by learning rate:", words),
        ],
        [plots.finetuning_curves(result.tables["finetuning"], (question,)) for question in _O_PT],
        base_table(result.tables["pretraining"]) if "pretraining" in result.tables else None,
        "pretraining.csv, the base models; the curves: finetuning.csv",
        code(
            result,
            "fig6",
            ["finetuning"],
            [f"finetuning_curves(finetuning, {(question,)})" for question in _O_PT],
        ),
        captions=[f"{KEPT}, on {STRINGS[question[-1]]}." for question in _O_PT],
    )


def _table5(result: StudyResult) -> Section:
    compared = against_table5(result)
    words = "; ".join(
        f"{question_name(question)} {100 * rows['difference'].abs().mean():.1f}"
        for question, rows in compared.groupby("evaluation", sort=False)
    )
    return Section(
        "Table 5, beside the paper's",
        [
            "All cells in percent, rates matched by name. The paper's models had 200,000 steps of "
            "pretraining and 10,000 of fine-tuning.",
            f"{len(compared)} numbers are in both. Mean absolute difference, in points: {words}."
            if len(compared)
            else "No cell is in both.",
        ],
        [plots.against_paper(compared)] if len(compared) else [],
        table5_table(result, compared),
        "finetuning_final.csv",
        f"# mechft reproduce table5{options(result)}\n# Then, in the folder of its results:\n"
        "from mechft.experiments.pcfg.comparison import against_table5\n"
        "from mechft.experiments.pcfg.result import read_result\n"
        "from mechft.plots.study import against_paper\n"
        'against_paper(against_table5(read_result("."))).show()',
        True,
        captions=[
            "A point on the dotted line is as often right here as in the paper, one above it more often."
        ]
        * bool(len(compared)),
    )


def _pruned(rows: pd.DataFrame, task: str, *, random: bool = False) -> str:
    """Accuracy of the whole model and with a few neurons removed, in words."""
    rows = rows[(rows["task"] == task) & ((rows["score"] == "random") == random)]
    after = cell(rows[rows["k"].between(*FEW)])
    return after if random else f"{cell(rows[rows['k'] == 0])} → {after}"


def _fig7(result: StudyResult) -> Section:
    table = result.tables["pruning"]
    strengths = sorted(set(table["c_tr"]), reverse=True)
    words = {
        f"{prior} prior, {rate}": f"O_PT {_pruned(rows, 'acc_pt')}, O_FT {_pruned(rows, 'acc_ft_cte1')}; "
        f"O_PT with random ones removed {_pruned(rows, 'acc_pt', random=True)}"
        for prior in ends(result)
        for rate, rows in rows_of(table, prior=prior, c_tr=strengths[0]).groupby("rate", sort=False)
    }
    return Section(
        "Fig. 7: does removing a few neurons bring it back?",
        [
            "Neurons are ranked once by gradient × weight of the loss on O_PT, on strings of their own, and "
            "the K that most hurt it are set to zero. A capability behind a wrapper comes back while O_FT "
            "falls; random neurons (dotted) do neither. With the high prior and rate L (figs. 86-89, "
            "inhibitor) the paper finds it back in part only.",
            listed(
                f"C<sub>Tr</sub> = {strengths[0]:g}, whole model → mean over K = {FEW[0]} to {FEW[1]} "
                "(shaded; no K is chosen by its result):",
                words,
            ),
        ],
        [plots.pruning_curves(table, c_tr, marked=FEW) for c_tr in strengths],
        data="pruning.csv",
        code=code(
            result,
            "fig7",
            ["pruning"],
            [f"pruning_curves(pruning, {c_tr:g}, marked={FEW})" for c_tr in strengths],
        ),
        captions=[f"After C<sub>Tr</sub> = {c_tr:g}. {REVIVED}" for c_tr in strengths],
    )


def _fig8(result: StudyResult) -> Section:
    table = result.tables["probing"]
    table = table[table["control"] == "none"] if "control" in table else table
    last = table[table["block"] == table["block"].max()]
    base = rows_of(last, stage="base")
    controls = {"never_a": "never asked for a", "untrained": "never trained"}
    words = {f"base, {prior} prior": cell(base, prior=prior) for prior in result.scale.priors}
    words |= {name: cell(base, prior=prior) for prior, name in controls.items()}
    for (prior, c_tr), rows in rows_of(last, stage="fine-tuned").groupby(
        ["prior", "c_tr"], sort=False
    ):
        words[f"fine-tuned, {prior} prior, C<sub>Tr</sub> = {c_tr:g}"] = ", ".join(
            f"{rate} {cell(rows, rate=rate)}" for rate in dict.fromkeys(rows["rate"])
        )
    words["always naming the commonest count"] = f"{last['majority'].mean():.1%}"
    return Section(
        "Fig. 8: is the count of a still there to be read?",
        [
            "A linear probe on the residual stream after each block, where the answer is read from, on "
            "strings it was not fitted to. Two controls say what a readable count is worth: a model of "
            "the same training that was never asked for a, and one never trained. Where these are read as "
            "well as the base, the probe shows that the text is in the stream, not the capability.",
            listed("Held-out accuracy after the last block:", words),
        ],
        [plots.probing_curves(table)],
        data="probing.csv",
        code=code(result, "fig8", ["probing"], ["probing_curves(probing)"]),
        captions=[
            "What a line has above those of the controls, and above the dotted one, is what speaks "
            "for the capability."
        ],
    )


def _fig9(result: StudyResult) -> Section:
    table = result.tables["reversal"]
    found = steps_to_revival(table)
    figures = [plots.reversal_curves(table)] if "reFT" in set(table["kind"]) else []
    words = "; ".join(
        f"{kind}: {int(runs['steps'].notna().sum())} of {len(runs)} runs"
        for kind, runs in found.groupby("kind", sort=False)
    )
    return Section(
        "Fig. 9: how fast does it come back?",
        [
            "Fine-tuned models are trained to count a again, at smaller rates (reFT). Scr.+FT, the same "
            "training of a model that counts but was never asked for a, says what learning it costs; "
            "Scr. starts from nothing at the rate of pretraining.",
            f"Back is the first evaluated step from which O_PT stays at 95% (dotted line). Back within "
            f"{result.scale.reverse_steps:,} steps: {words}. The table has the median step over seeds.",
        ],
        figures,
        revival_table(found),
        "reversal.csv",
        code(result, "fig9", ["reversal"], ["reversal_curves(reversal)"]),
        captions=[
            "Where reFT reaches the dotted 95% long before Scr.+FT does, something was still there."
        ]
        * len(figures),
    )


_SECTIONS: dict[str, tuple[Callable[[StudyResult], Section], ...]] = {
    "finetuning": (_fig5, _fig6, _table5),
    "pruning": (_fig7,),
    "probing": (_fig8,),
    "reversal": (_fig9,),
    "mixing": (mixing,),
    "jailbreak": (jailbreak,),
    "randft": (randft,),
    "indexer": (indexer,),
    "steps": (pretraining_steps,),
}
"""The sections that each table of the study makes."""
