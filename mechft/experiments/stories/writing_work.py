"""What a story model writes when it is asked for the feature and when not, and what texts cost it."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from mechft.analysis.text_loss import text_loss
from mechft.experiments.stories.classifier_work import classified
from mechft.experiments.stories.data_work import held_out, tokenizer_of
from mechft.experiments.stories.train_work import device, loss_rows
from mechft.models.checkpoint import load_checkpoint
from mechft.models.generation import generate
from mechft.randomness import derive_seed
from mechft.statistics import proportion
from mechft.tasks.stories.layout import prompt
from mechft.tasks.stories.procedural import has_feature
from mechft.tasks.stories.record import StoryRecord
from mechft.tasks.stories.rows import STORY_START
from mechft.tasks.stories.tokenizer import END_ID, StoryTokenizer
from mechft.training.trained import MODEL_FILE

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

Settings = Mapping[str, Any]
Needs = Mapping[str, Path]

SAMPLES = 10  # texts of each kind that are kept to be read


def writing_work(settings: Settings, needs: Needs, folder: Path) -> None:
    """Let a model write, score what it wrote, and measure its losses.

    Leaves: writing.csv (asked: whether for the feature; by: classifier or rule; has, hasn't, unclear: texts;
    share of all texts that have the feature, ci_low, ci_high, n), losses.csv (as ``TextLoss``) and
    samples.csv (asked, prompt, text, classifier, rule).
    """
    data, feature = needs["data"], settings["feature"]
    tokenizer = tokenizer_of(data)
    model = load_checkpoint(needs["model"] / settings["file"]).model
    model.to(device(), print_details=False)
    judge = load_checkpoint(needs["classifier"] / MODEL_FILE).model
    judge.to(device(), print_details=False)
    rows, samples = [], []
    for asked in (True, False):
        prompts = prompts_of(held_out(data), feature, asked, settings["generations"])
        texts = written(model, tokenizer, prompts, settings, asked)
        verdicts: dict[str, list[bool | None]] = {
            "classifier": [*classified(judge, tokenizer, texts, settings["n_ctx"])]
        }
        if settings["source"] == "procedural":
            verdicts["rule"] = [has_feature(text, feature) for text in texts]
        for by, found in verdicts.items():
            rows.append({"asked": asked, "by": by, **_counted(found)})
        for place in range(min(SAMPLES, len(texts))):
            said = {by: found[place] for by, found in verdicts.items()}
            samples.append({"asked": asked, "prompt": prompts[place], "text": texts[place], **said})
    pd.DataFrame(rows).to_csv(folder / "writing.csv", index=False)
    pd.DataFrame(samples).to_csv(folder / "samples.csv", index=False)
    losses = loss_rows(data, settings["n_ctx"], settings["loss_stories"], feature)
    found = text_loss({"model": model}, losses, STORY_START).frame
    found.drop(columns="model").to_csv(folder / "losses.csv", index=False)


def prompts_of(records: Sequence[StoryRecord], feature: str, asked: bool, number: int) -> list[str]:
    """Instructions of the first stories held out that ask for the feature, or do not."""
    wanted = [record for record in records if (feature in record.features) == asked][:number]
    return [
        prompt(record, random.Random(derive_seed(place, "story prompt")))
        for place, record in enumerate(wanted)
    ]


def written(
    model: HookedTransformer,
    tokenizer: StoryTokenizer,
    prompts: Sequence[str],
    settings: Settings,
    asked: bool,
) -> list[str]:
    """What the model makes of prompts; longer ones than the context allows lose their beginning."""
    room = settings["n_ctx"] + 1 - settings["new_tokens"]
    rows = generate(
        model,
        [ids[-room:] for ids in tokenizer.encode_batch(prompts)],
        settings["new_tokens"],
        temperature=settings["temperature"],
        stop_token=END_ID,
        seed=derive_seed(settings["seed"], "writing", str(asked)),
    )
    return [tokenizer.decode(row[:-1] if row[-1] == END_ID else row).strip() for row in rows]


def _counted(verdicts: Sequence[bool | None]) -> dict[str, Any]:
    has = sum(verdict is True for verdict in verdicts)
    unclear = sum(verdict is None for verdict in verdicts)
    share = proportion(has, len(verdicts))
    return {
        "has": has,
        "has_not": len(verdicts) - has - unclear,
        "unclear": unclear,
        "share": share.value,
        "ci_low": share.low,
        "ci_high": share.high,
        "n": share.n,
    }
