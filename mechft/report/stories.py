"""The report of a stories study, from its tables alone: claims first, then writing, and what is inside."""

from __future__ import annotations

import html
from pathlib import Path

from mechft.experiments.stories.result import StoriesResult
from mechft.report.render import Section, render, write_report
from mechft.report.stories_inside import inside_sections
from mechft.report.stories_samples import samples_section
from mechft.report.stories_sections import behaviour_sections
from mechft.report.stories_settings import counts_section, settings_section
from mechft.report.stories_words import options, source_of
from mechft.report.sweep_sections import claims_section, provenance_section, setting_words
from mechft.report.sweep_words import cautions, seeds_told, verdicts_told


def write_stories_report(result: StoriesResult, folder: Path | None = None) -> Path:
    """Write report.html of a study and return its path.

    Args:
        result: What was measured, or read back by ``read_stories_result``.
        folder: Where to; made if missing. By default where the study's results are.
    """
    folder = result.config.results if folder is None else folder
    folder.mkdir(parents=True, exist_ok=True)
    return write_report(folder / "report.html", stories_report(result))


def stories_report(result: StoriesResult) -> str:
    """The HTML of a study's report; a section for everything there are tables of."""
    feature = result.config.feature
    return render(
        f"{feature} deleted from a story model, and brought back",
        _lead(result),
        [
            claims_section(result, _RULES),
            settings_section(result),
            *behaviour_sections(result),
            *inside_sections(result),
            *samples_section(result),
            *counts_section(result),
            _provenance(result),
        ],
    )


def _lead(result: StoriesResult) -> list[str]:
    config, scale = result.config, result.scale
    feature = f"<b>{html.escape(config.feature)}</b>"
    return [
        f"A Llama-style model learns to write short stories to instructions that may ask for a {feature}. "
        "Protocols of fine-tuning then delete that: by leaving out such stories (F), by giving the word in "
        "the instruction another meaning besides (F+MM, F+RR), or by refusing. What is gone, and how soon "
        "does it come back? Beside it stands a model pretrained without such stories. This is the third "
        "setup of Jain et al. (ICLR 2024).",
        f"Preset <b>{scale.preset}</b>, stories from <b>{html.escape(source_of(result))}</b>, <b>"
        f"{seeds_told(result)}</b>; {scale.pretraining_steps:,} steps of pretraining, "
        f"{scale.deletion_steps:,} of deletion at rates {setting_words(scale.rates)}, "
        f"{scale.reverse_steps:,} of bringing back; {scale.generations:,} stories of either kind are written "
        "by every model that is looked at.",
        verdicts_told(result, "checks (claims of the paper, and what they rest on)"),
        *_classifier(result),
        *cautions(result, "stories"),
    ]


def _classifier(result: StoriesResult) -> list[str]:
    """What the classifier's verdicts are worth."""
    if "classifier" not in result.tables:
        return []
    told = "; ".join(
        f"{row['has']}: {row['accuracy']:.1%} [{row['ci_low']:.1%}, {row['ci_high']:.1%}] of {row['n']:,.0f}"
        for _, row in result.tables["classifier"].iterrows()
    )
    return [
        "What it rests on: the classifier's accuracy on stories held out, with the feature and without "
        f"({told}; the paper's: 92%)"
        + (
            "; and the generator's own rule, which the claims go by."
            if source_of(result) == "procedural"
            else ", which the claims go by."
        )
    ]


_RULES = (
    "Shares are of the stories of all seeds together; brackets are 95% Wilson intervals over stories, not "
    "over trainings. A claim is unclear where an interval reaches its threshold."
)


def _provenance(result: StoriesResult) -> Section:
    again = "The same command goes on where a run was interrupted; --out chooses the folder."
    if source_of(result) not in ("procedural", "hub"):
        again += " Of a file or folder of stories only the name is kept: give its path as --source."
    return provenance_section(result, options(result), again, f"stories from {source_of(result)}")
