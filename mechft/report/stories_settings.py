"""The sections of the stories report on what was done: settings beside the paper's, and counts of stories."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mechft.experiments.stories.config import STORY_SCALES
from mechft.experiments.stories.result import StoriesResult
from mechft.models.llama_config import llama_preset
from mechft.report.render import Section
from mechft.report.stories_words import source_of
from mechft.report.sweep_sections import departures_section, differing

if TYPE_CHECKING:
    import pandas as pd

MEANINGS = {
    "preset": "size of data and models",
    "feature": "deleted unless another is asked for",
    "train_stories": "stories that models are trained on",
    "test_stories": "stories held out",
    "labelled_stories": "stories that the classifier and probes learn from",
    "n_ctx": "longest input in tokens",
    "batch_size": "windows a step",
    "micro_batches": "parts a batch is computed in",
    "copying_steps": "steps of base models, before stories, on random tokens that repeat",
    "copying_length": "length of those rows in tokens",
    "pretraining_steps": "steps of base models",
    "learning_rate": "of base models, at its peak",
    "deletion_steps": "steps of every protocol",
    "rates": "learning rates of deletion, at their peak",
    "reverse_steps": "steps of bringing the feature back",
    "reverse_rate": "learning rate of bringing it back, at its peak",
    "moments": "steps of it at which models are looked at",
    "generations": "stories each model writes, of either kind",
    "new_tokens": "longest of them in tokens",
    "temperature": "of writing them",
    "loss_stories": "stories that losses are of, of either kind",
    "classifier_steps": "steps of training the classifier",
    "classifier_rate": "learning rate of the classifier",
    "probe_stories": "stories that probes are trained on",
    "comparison_stories": "stories that deleted models are compared with the base on, of either kind",
    "precision": "precision of training steps",
}
"""Fields of ``StoriesScale`` in words."""

DEPARTURES = (
    "The classifier is this study's base model, fine-tuned on labelled stories of the training split to "
    "answer yes or no, as many of each. It reads the story alone, never the instruction. It learned from "
    "stories, and judges what models write.",
    "Stories are sampled at temperature {temperature:g} from prompts held out, the same for every model, "
    "and as many without a request for the feature; the published code scores 16 stories a cell.",
    "Probes are fitted to their optimum (L-BFGS, penalised) on stories without their instruction, which "
    "names the features, beside a model of random weights and the commonest answer.",
    "AdamW's betas are 0.9 and 0.95, gradients are clipped at norm 1, and a tenth of the steps warms up: the "
    "paper gives none of these. Nor does it give the learning rate of bringing back.",
    "The micro-batches of a step hold different stories (the published code takes one several times).",
    "F+MM renames Foreshadowing in every instruction that asks for it (the published code loses the swap); "
    "F+RR adds the feature to every instruction that has room for it, asking for three at most.",
    "Refusal is a protocol of its own, for every story with the feature, and its text is ours.",
    "The model that never saw the feature has as many steps as the base, on the stories that are left.",
    "The tokenizer is trained on this study's training stories.",
)
"""Where the study's methods are not the paper's, whatever the preset; with fields of the scale by name."""

PROCEDURAL = (
    "Stories are procedural: made by a generator from plots, people and phrases, much plainer than those of "
    "TinyStories-Instruct. Whether one has a feature is known, and a rule reads it from the text; the claims "
    "rest on that rule. Of texts it does not recognise it says that it cannot tell, and they count as "
    "stories without the feature."
)
"""The departure of studies of procedural stories."""

_TOLD = {
    "records_in": "stories",
    "with_feature": "with the feature",
    "removed": "removed",
    "renamed": "instruction renamed",
    "added": "feature added",
    "full": "no room for it",
    "refused": "refused",
    "records_out": "left",
}


def settings_table(result: StoriesResult) -> pd.DataFrame:
    """Where a study departs from the paper's settings.

    Returns:
        setting, meaning, here, paper: a row for every field of ``StoriesScale`` that differs from preset
        "paper", and for every size of the model that does.
    """
    scale, paper = result.scale, STORY_SCALES["paper"]
    model, theirs = (llama_preset(each.preset) for each in (scale, paper))
    of_model = ("n_layers", "n_heads", "d_model", "d_mlp", "d_vocab")
    sizes = [
        (name, "of the models", getattr(model, name), getattr(theirs, name)) for name in of_model
    ]
    return differing(scale, paper, MEANINGS, sizes)


def settings_section(result: StoriesResult) -> Section:
    """The settings that differ, and the departures of every preset."""
    departures = DEPARTURES + ((PROCEDURAL,) if source_of(result) == "procedural" else ())
    return departures_section(
        settings_table(result),
        "Learning rates go by the paper's names (M, S): smaller presets take fewer steps at higher rates, a "
        "decade apart as the paper's. Numbers of stories that something is measured on are ours everywhere.",
        [each.format(**vars(result.scale)) for each in departures],
        "With every preset, different from the paper or not said by it:",
    )


def counts_table(counts: pd.DataFrame) -> pd.DataFrame:
    """What each protocol did: a row a corpus, a column a count that is not 0 everywhere."""
    table = counts.pivot(index="corpus", columns="what", values="count")
    table = table.reindex(index=list(dict.fromkeys(counts["corpus"])))
    known = [name for name in _TOLD if name in table]
    known += [name for name in table if name not in _TOLD]
    table = table[[name for name in known if table[name].fillna(0).any()]]
    table = table.map(lambda count: "–" if count != count else f"{int(count):,}")
    return table.rename(columns=_TOLD).rename_axis(columns=None).reset_index()


def counts_section(result: StoriesResult) -> list[Section]:
    """What each protocol did; none without table counts."""
    if "counts" not in result.tables:
        return []
    return [
        Section(
            "What each protocol did to the stories",
            [
                "Stories read, changed and left, by corpus: identity is what the base is pretrained on, F "
                "also what the model without the feature is, and keep what brings it back. Counts that are 0 "
                "everywhere are left out.",
            ],
            table=counts_table(result.tables["counts"]),
            data="counts.csv",
            table_open=True,
        )
    ]
