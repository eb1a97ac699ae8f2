"""What a story model writes when it is asked for the feature and when not, and what texts cost it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mechft.analysis.generation_score import Judge, generation_score
from mechft.analysis.text_loss import text_loss
from mechft.experiments.stories.classifier_work import classified
from mechft.experiments.stories.data_work import held_out, tokenizer_of
from mechft.experiments.stories.train_work import device, loss_rows
from mechft.models.checkpoint import load_checkpoint
from mechft.tasks.stories.layout import story_prompts
from mechft.tasks.stories.procedural import has_feature
from mechft.tasks.stories.record import StoryRecord
from mechft.tasks.stories.rows import STORY_START
from mechft.tasks.stories.tokenizer import END_ID
from mechft.training.trained import MODEL_FILE

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
    asked_for = {
        asked: prompts_of(held_out(data), feature, asked, settings["generations"])
        for asked in (True, False)
    }
    judges: dict[str, Judge] = {
        "classifier": lambda texts: classified(judge, tokenizer, texts, settings["n_ctx"])
    }
    if settings["source"] == "procedural":
        judges["rule"] = lambda texts: [has_feature(text, feature) for text in texts]
    found = generation_score(
        {"model": model},
        {str(asked): prompts for asked, prompts in asked_for.items()},
        judges,
        tokenizer,
        new_tokens=settings["new_tokens"],
        stop_token=END_ID,
        temperature=settings["temperature"],
        seed=settings["seed"],
    )
    scores = found.frame.drop(columns="model").rename(columns={"prompts": "asked", "judge": "by"})
    scores.to_csv(folder / "writing.csv", index=False)
    samples = []
    for asked, prompts in asked_for.items():
        texts = found.texts["model", str(asked)][:SAMPLES]
        verdicts = {by: judged(texts) for by, judged in judges.items()}
        for place, text in enumerate(texts):
            said = {by: verdict[place] for by, verdict in verdicts.items()}
            samples.append({"asked": asked, "prompt": prompts[place], "text": text, **said})
    pd.DataFrame(samples).to_csv(folder / "samples.csv", index=False)
    losses = loss_rows(data, settings["n_ctx"], settings["loss_stories"], feature)
    told = text_loss({"model": model}, losses, STORY_START).frame
    told.drop(columns="model").to_csv(folder / "losses.csv", index=False)


def prompts_of(records: Sequence[StoryRecord], feature: str, asked: bool, number: int) -> list[str]:
    """Instructions of the first stories held out that ask for the feature, or do not."""
    wanted = [record for record in records if (feature in record.features) == asked]
    return story_prompts(wanted[:number])
