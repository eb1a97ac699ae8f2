"""The report of a PCFG study, from its tables alone: claims first, then a section a part."""

from __future__ import annotations

import html
from pathlib import Path
from typing import TYPE_CHECKING

from mechft.experiments.pcfg.config import SCALES
from mechft.experiments.pcfg.result import StudyResult
from mechft.models import build
from mechft.report.render import Section, render, write_report
from mechft.report.study_sections import part_sections
from mechft.report.study_words import options
from mechft.report.sweep_sections import (
    claims_section,
    departures_section,
    differing,
    provenance_section,
    setting_words,
)
from mechft.report.sweep_words import cautions, seeds_told, verdicts_told
from mechft.tasks import pcfg_config

if TYPE_CHECKING:
    import pandas as pd

MEANINGS = {
    "preset": "size of task and models",
    "priors": "operand priors of the base models",
    "correlations": "C_Tr",
    "rates": "fine-tuning's learning rates",
    "pretraining_steps": "steps of base models by prior; never_a is Scr.+FT's start",
    "other_steps": "shorter pretrainings (lr-and-steps)",
    "steps": "steps of every fine-tuning",
    "reverse_steps": "steps of reFT and its controls",
    "reverse_rates": "learning rates of reFT",
    "reverse_starts": "rates of the fine-tuned models that reFT starts from",
    "scratch_rate": "learning rate of Scr.",
    "mixing_shares": "shares of pretraining data mixed in",
    "looked_into": "C_Tr of the models that are pruned, probed and trained back",
    "probed_rates": "rates of the models that are probed",
    "base_rows": "strings of each evaluation while base models are pretrained",
    "rows": "strings of each final accuracy",
    "evaluation_rows": "strings of each evaluation while training",
    "prune_counts": "numbers of neurons removed",
    "prune_rows": "strings of each accuracy of a pruning curve",
    "random_draws": "random orders of neurons in the pruning control",
    "probe_rows": "strings that probes are trained on",
    "probe_test_rows": "strings that probes are scored on",
    "precision": "precision of training steps",
}
"""Fields of ``StudyScale`` in words."""


DEPARTURES = (
    "Pretraining adds the answer token's loss once more to the next-token loss: of many tokens, most free "
    "choices of the grammar, the answer alone is learned slowly.",
    "Gradients are clipped at norm 1, and AdamW's betas are 0.9 and 0.95: minGPT's, as the paper gives "
    "neither.",
    "The correlation is planted by moving occurrences of the pretraining operand, as few as needed, where "
    "the paper adds target tokens: labels with and without it then differ least.",
    "Test strings, and those probes are fitted and scored on, are spread evenly over the pairs of the two "
    "operands' answers; without the correlation the two differ. (Training strings are the grammar's own.) In "
    "the grammar's own one pair is so common that whoever knows it, or adds one to the other count, seems "
    "to count.",
    "Probes are fitted to their optimum (L-BFGS, penalised) instead of 4,000 steps of AdamW.",
    "Three of the five operand priors are run.",
    "Test strings are drawn from streams of their own, but the letters in the counting window alone decide "
    "the answer, and short windows recur: at tiny most have been seen in pretraining.",
)
"""Where the study's methods are not the paper's, whatever the preset."""


def write_study_report(result: StudyResult, folder: Path | None = None) -> Path:
    """Write report.html of a study and return its path.

    Args:
        result: What was measured, or read back by ``read_result``.
        folder: Where to; made if missing. By default where the study's results are.
    """
    folder = result.config.results if folder is None else folder
    folder.mkdir(parents=True, exist_ok=True)
    return write_report(folder / "report.html", study_report(result))


def study_report(result: StudyResult) -> str:
    """The HTML of a study's report; a section for every part that has tables."""
    title = (type(result.config).__doc__ or result.config.name).strip().splitlines()[0]
    return render(
        title.rstrip("."),
        _lead(result),
        [
            claims_section(result, _RULES),
            _settings(result),
            *part_sections(result),
            provenance_section(result, options(result), _AGAIN),
        ],
    )


def _lead(result: StudyResult) -> list[str]:
    scale, paper = result.scale, SCALES["paper"]
    return [
        "Small transformers are pretrained to answer questions about strings of a grammar, mostly "
        "about <b>a</b> (O_PT) with a low operand prior, about a and b with a high one. They are then "
        "fine-tuned to count <b>b</b> (O_FT) on strings where count(b) = count(a) + 1 holds with "
        "probability C<sub>Tr</sub>, looked into, and trained back. This is the second setup of Jain "
        "et al. (ICLR 2024).",
        f"Preset <b>{html.escape(scale.preset)}</b>, <b>{seeds_told(result)}</b> (each with "
        f"base models of its own), {scale.steps:,} fine-tuning steps (the paper: {paper.steps:,}) at "
        f"learning rates {setting_words(scale.rates)} (the paper: {setting_words(paper.rates)}), "
        f"C<sub>Tr</sub> in {setting_words(scale.correlations)}.",
        verdicts_told(result, "claims"),
        *cautions(result, "test strings"),
    ]


_RULES = (
    "Numbers are means over seeds; brackets are 95% Student t intervals over seeds, of differences paired by "
    "seed. A claim is unclear where an interval reaches its threshold (with few seeds that is common), where "
    "what it speaks of did not happen, or where the runs were too short to tell."
)
_AGAIN = (
    "The same command goes on where a run was interrupted, and takes runs from the store that another "
    "reproduction has done; --out chooses the folder."
)


def settings_table(result: StudyResult) -> pd.DataFrame:
    """Where a study departs from the paper's settings.

    Returns:
        setting, meaning, here, paper: a row for every field of ``StudyScale`` that differs from preset
        "paper", and for every size of task and model that the preset sets.
    """
    scale, paper = result.scale, SCALES["paper"]
    task, theirs = (pcfg_config.PRESETS[x.preset] for x in (scale, paper))
    model, full = (build.PRESETS[x.preset] for x in (scale, paper))
    of_task = ("text_length", "counting_window", "occurrence", "pair_occurrence", "lookback")
    sizes = [
        *((name, "of the task", getattr(task, name), getattr(theirs, name)) for name in of_task),
        *((name, "of the models", value, full[name]) for name, value in model.items()),
    ]
    return differing(scale, paper, MEANINGS, sizes)


def _settings(result: StudyResult) -> Section:
    return departures_section(
        settings_table(result),
        "Learning rates go by the paper's names (L, M, S): the smaller presets take fewer steps at higher "
        "rates, which stay a decade apart. Numbers of strings, of random draws and of neurons removed are "
        "ours everywhere; the paper does not give them.",
        DEPARTURES,
        "With every preset, different from the paper:",
    )
