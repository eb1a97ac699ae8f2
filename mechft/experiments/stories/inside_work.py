"""What is found inside story models: probes for every feature, and a base model beside a deleted one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from mechft.analysis.activation_diff import diff_activations
from mechft.analysis.output_diff import diff_outputs
from mechft.analysis.patching import patch_across
from mechft.analysis.probing import accuracy_columns, probe
from mechft.analysis.pruning import prune_curve
from mechft.analysis.weight_diff import diff_weights
from mechft.experiments.stories.data_work import held_out, labelled, tokenizer_of
from mechft.experiments.stories.train_work import device, loss_rows
from mechft.models.checkpoint import load_checkpoint
from mechft.tasks.batch import TokenBatch
from mechft.tasks.stories.decisions import HAS, decision_rows
from mechft.tasks.stories.procedural.forks import FORKS
from mechft.tasks.stories.record import FEATURES
from mechft.tasks.stories.rows import story_rows
from mechft.training.evaluation import answered_right
from mechft.training.trained import MODEL_FILE

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

Settings = Mapping[str, Any]
Needs = Mapping[str, Path]

LAST_TEN = slice(-11, -1)
"""The ten positions before a story's end token: probes read the mean of their activations (Setup 3)."""

COUNTS = (0, 1, 3, 5, 10, 15, 20, 50, 100)
"""Numbers of neurons removed."""


def probe_work(settings: Settings, needs: Needs, folder: Path) -> None:
    """Read every feature after every block where a story ends, beside a model of random weights.

    Stories are shown without their instructions, which name the features.

    Leaves: probes.csv, as ``ProbeResult``.
    """
    model = _model(needs["model"] / settings["file"])
    tokenizer = tokenizer_of(needs["data"])
    number = settings["stories"]
    train, test = (
        story_rows(records, tokenizer, settings["n_ctx"], instructed=False)
        for records in (
            labelled(needs["data"])[:number],
            held_out(needs["data"])[: max(20, number // 4)],
        )
    )
    told = [  # where all stories or none have a feature there is nothing to tell apart
        feature
        for feature in FEATURES
        if min(len(rows.labels[feature].unique()) for rows in (train, test)) > 1
    ]
    found = probe(
        {"model": model},
        train,
        test,
        told,
        positions=LAST_TEN,
        controls=("random_model",),
        seed=settings["seed"],
    )
    _write(found.frame, folder / "probes.csv")


def diff_work(settings: Settings, needs: Needs, folder: Path) -> None:
    """A base model and one made from it: what changed, and where.

    Leaves: weights.csv and activations.csv by block, outputs.csv; of procedural stories and a feature of
    which the decisive place is known (``FORKS``) also decisions.csv (of: stories "with" or "without" it;
    who, accuracy, ci_low, ci_high, n), pruning.csv (as ``PruneCurve``) and patching.csv (as ``Patching``),
    all by whether the right one of two tokens is the likelier.
    """
    base, tuned = (
        _model(needs["base"] / MODEL_FILE),
        _model(needs["model"] / settings["file"]),
    )
    data, n_ctx, seed = needs["data"], settings["n_ctx"], settings["seed"]
    stories = loss_rows(data, n_ctx, settings["stories"], settings["feature"])
    _write(diff_weights(base, tuned, spectra=False).by_block(), folder / "weights.csv")
    for name, function in (("activations", diff_activations), ("outputs", diff_outputs)):
        frames = []
        for of, rows in stories.items():
            found = function(base, tuned, rows, positions="all").frame
            found.insert(0, "of", of)
            frames.append(found)
        _write(pd.concat(frames, ignore_index=True), folder / f"{name}.csv")
    if settings["source"] != "procedural" or settings["feature"] not in FORKS:
        return
    tokenizer = tokenizer_of(data)
    records = held_out(data)
    half = len(records) // 2
    scored, asked = (
        _by_kind(
            decision_rows(some, tokenizer, n_ctx, feature=settings["feature"]).rows,
            settings["stories"],
        )
        for some in (records[:half], records[half:])
    )
    _write(_accuracies({"base": base, "deleted": tuned}, asked), folder / "decisions.csv")
    curve = prune_curve(tuned, scored["with"], asked, counts=COUNTS, random_draws=2, seed=seed)
    _write(curve.frame, folder / "pruning.csv")
    patching = patch_across(base, tuned, asked["with"], metric="probability", seed=seed)
    _write(patching.frame, folder / "patching.csv")


def _write(frame: pd.DataFrame, path: Path) -> None:
    """Write a table without the name of the model, which the study's labels tell."""
    frame.drop(columns="model", errors="ignore").to_csv(path, index=False)


def _by_kind(rows: TokenBatch, number: int) -> dict[str, TokenBatch]:
    """Decision rows of stories "with" the feature and "without"."""
    has = rows.labels[HAS] == 1
    return {
        name: rows.rows(which.nonzero()[:, 0][:number])
        for name, which in (("with", has), ("without", ~has))
    }


def _accuracies(
    models: Mapping[str, HookedTransformer], tasks: Mapping[str, TokenBatch]
) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"of": of, "who": name}
            | accuracy_columns(answered_right(model, rows))
            | {"n": len(rows)}
            for of, rows in tasks.items()
            for name, model in models.items()
        ]
    )


def _model(path: Path) -> HookedTransformer:
    model = load_checkpoint(path).model
    model.to(device(), print_details=False)
    return model
