"""The sections of a Tracr reproduction's report: claims, the grid, what is inside, what comes back."""

from __future__ import annotations

import html
import shlex
from dataclasses import replace
from typing import TypeVar

from mechft import plots
from mechft.analysis.result import Result
from mechft.experiments.tracr_config import TracrMaxConfig
from mechft.experiments.tracr_looks import single_gains
from mechft.experiments.tracr_result import REVIVED, TracrResult
from mechft.plots.style import TASK_NAMES
from mechft.report.render import Section, checks_table
from mechft.training.densify import COMPILED_NOISE
from mechft.training.trained import package_versions

ResultT = TypeVar("ResultT", bound=Result)


def all_sections(result: TracrResult) -> list[Section]:
    """The report's sections, in its order."""
    return [
        _claims(result),
        _grid(result),
        _attention(result),
        _neurons(result),
        _pruning(result),
        _reversal(result),
        _provenance(result),
    ]


def _shown(result: TracrResult, analysis: ResultT) -> ResultT:
    """An analysis of the models whose maps are drawn: a figure has no room for the whole grid."""
    drawn = set(result.maps.frame["model"])
    return replace(analysis, frame=analysis.frame[analysis.frame["model"].isin(drawn)])


def operand_words(result: TracrResult, which: str) -> str:
    """What is asked, of "pt" or "ft", in words."""
    counter = result.config.program == "counter"
    if which == "pt":
        return "counting a" if counter else "the fifth largest letter"
    places = {"6": "sixth", "7": "seventh"}
    operand = result.config.finetuning_operand
    return f"counting {operand}" if counter else f"the {places[operand]} largest"


def _load(result: TracrResult) -> str:
    return f'base = mf.densify(mf.load("{result.config.base}"), seed={result.config.seed})\n'


def _finetune(result: TracrResult) -> str:
    config = result.config
    return _load(result) + (
        f'ft = mf.finetune(base, "{config.finetuning_operand}", offset={config.offset}, '
        f'train_correlation=1.0, learning_rate="M", steps={result.scale.steps}, seed={config.seed})\n'
    )


def _claims(result: TracrResult) -> Section:
    return Section(
        "The paper's claims, and what was found",
        [
            "Each rule is fixed in the code, not chosen by a result. Brackets are 95% Wilson intervals "
            "over test strings: they say how precisely this one model was measured, not how "
            "another training would come out. A claim that does not hold here may hold under "
            "settings the paper does not give (the last section lists what had to be chosen).",
            checks_table(result.checks, "Claim"),
        ],
        data="claims.csv",
    )


def _grid(result: TracrResult) -> Section:
    table = result.grid.against_paper()
    paper = bool((table["cells"] > 0).any())
    words = "; ".join(
        f"{TASK_NAMES[str(row.question)]} {row.mean_absolute_difference:.1f} points"
        for row in table[table["rate"] == "all"].itertuples()
    )
    return Section(
        "Table 3: what the fine-tuned models answer",
        [
            "Four accuracies a model: O_PT and O_FT, each on fresh strings with the correlation "
            "and without. A model that learned the shortcut is right about O_FT with the "
            "correlation only.",
            f"Mean absolute difference from the paper's table, in points: {words}. {_farthest(result)}"
            if paper
            else "The paper prints no such table for this pair of operands.",
        ],
        [plots.plot(result.grid)],
        result.grid.wide(),
        "table3.csv, table3_against_paper.csv",
        _finetune(result) + "mf.plot(ft)  # one cell's history",
        captions=[
            "Lines of O_FT that part as C_Tr grows: the shortcut is learned. Dotted: the paper's, where it "
            "has them."
        ],
    )


def _farthest(result: TracrResult) -> str:
    """Where the grid is farthest from the paper's, in words."""
    table = result.grid.against_paper()
    rates = table[(table["rate"] != "all") & (table["cells"] > 0)]
    mean = rates.groupby("rate", sort=False)["mean_absolute_difference"].mean()
    by_rate = ", ".join(f"{rate} {value:.1f}" for rate, value in mean.items())
    return f"By rate, over the four: {by_rate} (table3_against_paper.csv has each)."


def _attention(result: TracrResult) -> Section:
    counter = result.config.program == "counter"
    what = (
        "The compiled Counter attends to the letters a (and $, where there is none) in block 1; "
        "block 2 looks at the position itself."
        if counter
        else "The compiled Max-identifier attends from each letter to those before it in the alphabet in "
        "block 0 (it sorts), and reads the chosen letter in block 2."
    )
    return Section(
        "Attention before and after",
        [
            what
            + " The attending token is down, the attended one across; one string. Below, how far each "
            "block's pattern moved in every model, as Jensen-Shannon divergence from the base's.",
        ],
        [plots.plot(result.maps), plots.plot(_shown(result, result.attention))]
        + ([plots.plot(_shown(result, result.attention.mass))] if counter else []),
        result.attention.frame,
        "attention.csv, attention_mass.csv",
        _finetune(result)
        + 'mf.plot(mf.attention_maps(base, ft))\nmf.plot(mf.diff_attention(base, ft, query="all"))',
        captions=[
            "A column a model: where a map looks like the base's, that part of the program was left alone.",
            "The brighter a cell, the more that block's attention moved.",
            *["How much attention goes to the tokens that the program reads."] * counter,
        ],
    )


def _neurons(result: TracrResult) -> Section:
    return Section(
        "The first MLP before and after",
        [
            "Activations of block 0's neurons at each position of one string. Compiled, the "
            "Counter's first MLP marks the letters it counts; the Max-identifier's turns the "
            "number of letters before a letter into its rank.",
        ],
        [plots.plot(result.neurons)],
        captions=[
            "Where a fine-tuned model's map looks like the base's, this step is still computed."
        ],
        code=_finetune(result) + "mf.plot(mf.neuron_maps(base, ft))",
    )


def _pruning(result: TracrResult) -> Section:
    import pandas as pd

    removed, back = single_gains(result.prune), single_gains(result.graft)
    table = pd.DataFrame(
        [
            {"model": name, "one removed": 100 * gain, "one put back": 100 * back[name]}
            for name, gain in removed.items()
        ]
    )
    return Section(
        "Single weights: removed, or put back",
        [
            "Every weight of the blocks is ranked once by gradient × weight of the loss on O_PT, "
            "on strings of their own, and the K largest are set to zero. Grafting puts the K "
            "weights back to the base's values whose return lowers the loss most to first order "
            "(gradient × change). The control takes as many at random.",
            "The table has the points of O_PT that the first weight brings back in each model; "
            "the histograms show the answers of the two models that gain most, before and after: "
            "a revived capability gives many answers, a model that repeats the commonest one does"
            " not.",
        ],
        [
            plots.plot(part)
            for part in (
                _shown(result, result.prune),
                _shown(result, result.graft),
                result.pruned_answers,
                result.grafted_answers,
            )
        ],
        table,
        "pruning.csv, answers.csv, answers_spread.csv",
        _finetune(result) + 'mf.plot(mf.prune_curve(ft, unit="weight", counts=(0, 1, 5, 20)))\n'
        'mf.plot(mf.prune_curve(ft, unit="weight", mode="graft", base=base, scores="gradient×change"))',
        captions=[
            "Removed: where O_PT rises with the first weights, and not with random ones, these hid it.",
            "Put back: where O_PT rises with the first weights, the change to these is what mattered.",
            "Answers before and after weights are removed; the grey line is the right answers'.",
            "The same, before and after weights are put back.",
        ],
    )


def _reversal(result: TracrResult) -> Section:
    return Section(
        "Reverse fine-tuning: does it come back?",
        [
            "Fine-tuned models trained back on O_PT, at every smaller learning rate, beside "
            "Scr.+FT: the program compiled for O_FT, which never answered for O_PT, with the same"
            f" training. Back means at {REVIVED:.0%} of the base's accuracy, and staying there.",
        ],
        [plots.plot(result.curves)],
        result.reversals,
        "reft.csv, reft_curves.csv",
        _finetune(result) + f'back = mf.reverse_finetune(ft, learning_rate="VS", '
        f"steps={result.scale.reverse_steps}, seed={result.config.seed})\n"
        "mf.plot(mf.revival({'reFT': back}))",
        captions=["Where reFT is back long before Scr.+FT, something was still there."],
    )


def _provenance(result: TracrResult) -> Section:
    config, scale = result.config, result.scale
    command = f"mechft reproduce tracr-{config.program} --out {shlex.quote(str(config.out))}"
    command += f" --seed {config.seed}"
    command += f" --against {config.against}" if isinstance(config, TracrMaxConfig) else ""
    command += f" --steps {config.steps}" if config.steps != 10_000 else ""
    command += f" --reverse-steps {config.reverse_steps}" if config.reverse_steps else ""
    command += " --quick" if config.quick else ""
    versions = ", ".join(f"{name} {number}" for name, number in package_versions().items())
    base = result.base
    return Section(
        "What was run, and what had to be chosen",
        [
            f"SGD with momentum 0.9, batches of 96, {scale.steps:,} steps of which a fifth warm "
            f"up, cosine to 1/100; noise of standard deviation {COMPILED_NOISE:g} on the compiled weights; "
            "gradients clipped at norm 1; the unembedding, which reads the program's output "
            f"channels and is no weight of Tracr's, stays as it is. {scale.rows:,} strings an "
            f"accuracy. Base: {html.escape(str(base['compiled']))} compiled, "
            f"{html.escape(str(base['densified']))} with noise. Versions: {versions}.",
            "The paper does not say: the momentum; whether gradients were clipped (without, both "
            "programs run away at L and M within 30 steps); the strings' exact lengths; whether "
            "its noise of 0.001 is a variance or a deviation (either costs these programs their "
            "accuracy); the position an answer is read at (the last here).",
        ],
        code=command,
    )
