"""Stories to be read: the same instructions given to the base, a deleted model, and it brought back."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from mechft.experiments.stories.result import StoriesResult
from mechft.plots.stories_style import model_name, with_models
from mechft.report.render import Section
from mechft.report.stories_words import deleted_models

if TYPE_CHECKING:
    import pandas as pd

PREFERRED = "F+RR"
"""The protocol whose model is shown, if it was run."""
Texts = dict[tuple[str, int], dict[str, Any]]
"""Rows of a table of samples by their instruction, and how often it came before."""

_JUDGES = ("rule", "classifier")
_BOX = "white-space:pre-wrap;overflow-wrap:anywhere;min-width:13rem"


def samples_section(result: StoriesResult) -> list[Section]:
    """Ten stories each that were asked for the feature; none without table samples."""
    if "samples" not in result.tables:
        return []
    shown = _shown(result)
    prompts = list(dict.fromkeys(prompt for texts in shown.values() for prompt in texts))
    if not prompts:
        return []
    feature = html.escape(result.config.feature)
    return [
        Section(
            "Stories to read",
            [
                f"The first {len(prompts)} instructions held out that ask for a {feature}, and what was made "
                f"of each (seed {_first_seed(result)}): by {'; '.join(shown)}. Above each story: whether it "
                f"has a {feature}, by {' and by '.join(f'the {judge}' for judge in _judges(result))}.",
                "".join(_prompt(place, prompt, shown) for place, prompt in enumerate(prompts, 1)),
            ],
            data="samples.csv, reversal_samples.csv",
        )
    ]


def _shown(result: StoriesResult) -> dict[str, Texts]:
    """For each model shown, by what it is called, its texts and their verdicts by prompt."""
    samples = with_models(result.tables["samples"])
    found = {"the base": _texts(samples, ("base", "", ""))}
    models = deleted_models(samples)
    if models:
        chosen = next((labels for labels in models if labels[0] == PREFERRED), models[0])
        found[f"the model after {model_name('deleted', *chosen)}"] = _texts(
            samples, ("deleted", *chosen)
        )
        if "reversal_samples" in result.tables:
            back = with_models(result.tables["reversal_samples"])
            steps = back["step"].max()
            found[f"it brought back ({steps:,} steps)"] = _texts(back, ("deleted", *chosen))
    return {name: texts for name, texts in found.items() if texts}


def _texts(frame: pd.DataFrame, labels: tuple[str, str, str]) -> Texts:
    rows = frame[frame["asked"].astype(bool)]
    for name, value in zip(("model", "protocol", "rate"), labels, strict=True):
        rows = rows[rows[name] == value]
    rows = rows[rows["seed"] == rows["seed"].min()]
    if "step" in rows:
        rows = rows[rows["step"] == rows["step"].max()]
    # Two instructions may ask for the same and no more: they are told apart by how often it came before.
    again = rows.groupby("prompt").cumcount()
    return {
        (str(row["prompt"]), int(times)): row.to_dict()
        for (_, row), times in zip(rows.iterrows(), again, strict=True)
    }


def _first_seed(result: StoriesResult) -> int:
    return int(result.tables["samples"]["seed"].min())


def _judges(result: StoriesResult) -> list[str]:
    return [judge for judge in _JUDGES if judge in result.tables["samples"]]


def verdict_words(value: Any) -> str:
    """A verdict of a table, also as read from a CSV file: "yes", "no", or "cannot tell"."""
    if value is None or value != value or value == "":
        return "cannot tell"
    return "yes" if str(value) in ("True", "1", "1.0") else "no"


def _prompt(place: int, asked: tuple[str, int], shown: dict[str, Texts]) -> str:
    """One instruction and the stories made of it, folded but for the first."""
    heads = "".join(f"<th>{html.escape(name)}</th>" for name in shown)
    stories = "".join(f"<td>{_story(texts.get(asked))}</td>" for texts in shown.values())
    prompt = asked[0]
    words = " ".join(prompt.split())
    title = words if len(words) <= 90 else words[:88].rsplit(" ", 1)[0] + " …"
    return (
        f"<details{' open' * (place == 1)}><summary>{place}. {html.escape(title)}</summary>"
        f"<div style='{_BOX};margin:.4rem 0'>{html.escape(prompt)}</div><div style='overflow-x:auto'>"
        f"<table class='words' style='table-layout:fixed;width:100%'><thead><tr>{heads}</tr></thead>"
        f"<tbody><tr>{stories}</tr></tbody></table>"
        "</div></details>"
    )


def _story(row: dict[str, Any] | None) -> str:
    """A story and what is said of it."""
    if row is None:
        return "–"
    verdicts = []
    for judge in (judge for judge in _JUDGES if judge in row):
        word = verdict_words(row[judge])
        mark = f" class='{word}'" if word in ("yes", "no") else ""
        verdicts.append(f"{judge}: <span{mark}>{word}</span>")
    text = row["text"] if isinstance(row["text"], str) and row["text"] else "(nothing)"
    return f"<div>{', '.join(verdicts)}</div><div style='{_BOX}'>{html.escape(text)}</div>"
