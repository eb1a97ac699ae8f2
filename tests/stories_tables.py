"""A stories study without its trainings: tables with the real columns, numbers drawn at random."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from mechft.experiments.checks import Check
from mechft.experiments.stories.config import StoriesConfig, story_scale_of
from mechft.experiments.stories.jobs import StoryJobs
from mechft.experiments.stories.result import StoriesResult
from mechft.experiments.sweep.pieces import Piece
from mechft.statistics import proportion
from mechft.tasks.stories.record import FEATURES

Row = dict[str, Any]
CHECKS = (
    Check("one <claim>", "a & b", True),
    Check("another", "c", False),
    Check("third", "d", None),
)
BLOCKS = (0, 1, 2)


def hits(rng: random.Random, n: int = 40) -> Row:
    """An accuracy with its interval."""
    share = proportion(rng.randint(0, n), n)
    return {"accuracy": share.value, "ci_low": share.low, "ci_high": share.high, "n": n}


def written(rng: random.Random, procedural: bool, n: int = 50) -> list[Row]:
    """Counts of what was written."""
    rows = []
    for asked in (True, False):
        for by in ("classifier", "rule")[: 1 + procedural]:
            has, unclear = rng.randint(0, 40), rng.randint(0, 10) if by == "rule" else 0
            share = proportion(has, n)
            rows.append(
                {"asked": asked, "by": by, "has": has, "has_not": n - has - unclear, "unclear": unclear,
                 "share": share.value, "ci_low": share.low, "ci_high": share.high, "n": n}
            )  # fmt: skip
    return rows


def samples(procedural: bool) -> list[Row]:
    """Texts with both verdicts."""
    rows = []
    for asked in (True, False):
        for place in range(10):
            row: Row = {"asked": asked, "prompt": f"Features: Twist\nWords: a & {place}\nStory:",
                   "text": f"Once <b>{place}</b> & on.\nThe end.", "classifier": place % 2 == 0}  # fmt: skip
            rule: Row = {"rule": [True, False, None][place % 3]} if procedural else {}
            rows.append(row | rule)
    return rows


def changed(rng: random.Random, **labels: Any) -> Row:
    """How far something moved."""
    return {**labels, "relative_change": rng.random() / 10, "cosine": 1 - rng.random() / 10}


def lost(rng: random.Random) -> Row:
    """A loss with its interval."""
    loss = 1 + rng.random()
    return {"loss": loss, "ci_low": loss - 0.1, "ci_high": loss + 0.1, "n": 16, "tokens": 900}


def made_up(piece: Piece, procedural: bool, rng: random.Random) -> list[Row]:
    """The rows of a job's table, by its name."""
    steps = (0, 1, 6)
    if piece.file == "counts":
        kinds = ("records_in", "with_feature", "removed", "records_out")
        corpora = ("identity", "F", "keep")
        rows = [
            {"corpus": c, "what": k, "count": rng.randint(0, 400)} for c in corpora for k in kinds
        ]
        return [*rows, {"corpus": "held_out", "what": "records_out", "count": 200}]
    if piece.file == "accuracy":
        return [{"has": h, **hits(rng)} for h in ("with", "without", "both, half of each")]
    if piece.file == "history":
        return [
            {"step": step, "texts": texts, **lost(rng)}
            for step in steps
            for texts in ("with", "without")
        ]
    if piece.file == "losses":
        return [{"texts": texts, **lost(rng)} for texts in ("with", "without")]
    if piece.file == "writing":
        return written(rng, procedural)
    if piece.file == "samples":
        return samples(procedural)
    if piece.file == "probes":
        return [
            {"block": b, "hook": f"blocks.{b}.hook_resid_post", "component": "resid_post", "target": f,
             "control": c, "majority": 0.6, **hits(rng)}
            for f in FEATURES for b in BLOCKS for c in ("none", "random_model")
        ]  # fmt: skip
    if piece.file == "weights":
        return [changed(rng, block=b) for b in (-1, *BLOCKS)]
    if piece.file == "activations":
        return [
            changed(rng, of=of, block=b, component=c, position="all", cka=rng.random(),
                    cka_debiased=rng.random(), n=15)
            for of in ("with", "without") for b in BLOCKS for c in ("attn_out", "resid_post")
        ]  # fmt: skip
    if piece.file == "outputs":
        return [
            {"of": of, "measure": m, "value": rng.random(), "ci_low": 0.0, "ci_high": 1.0, "n": 15}
            for of in ("with", "without") for m in ("agreement", "kl_from_base")
        ]  # fmt: skip
    if piece.file == "decisions":
        right = {"with": 30, "without": 36}  # of the base; the same beside every model made from it
        rows = []
        for of, base in right.items():
            share = proportion(base, 40)
            same = {"accuracy": share.value, "ci_low": share.low, "ci_high": share.high, "n": 40}
            rows += [{"of": of, "who": "base", **same}, {"of": of, "who": "deleted", **hits(rng)}]
        return rows
    if piece.file == "pruning":
        return [
            {"k": k, "score": s, "task": t, **hits(rng), "unit": "neuron", "mode": "zero"}
            for k in (0, 5, 100) for s in ("gradient×weight", "random") for t in ("with", "without")
        ]  # fmt: skip
    assert piece.file == "patching", piece.file
    rows = []
    for direction in ("base→finetuned", "finetuned→base"):
        for site in (*(f"resid_post {b}" for b in BLOCKS), "readout"):
            value = rng.random()
            rows.append(
                {"direction": direction, "site": site, "component": site.split()[0], "task": "task",
                 "recovered": value, "recovered_low": value - 0.1, "recovered_high": value + 0.1, "n": 20}
            )  # fmt: skip
    return rows


def made_up_study(
    out: Path, *, seeds: int = 2, source: str = "procedural", **settings: Any
) -> StoriesResult:
    """A study of small size whose tables have the labels of the real pieces."""
    settings = {"feature": "Twist"} | settings
    config = StoriesConfig(out=out, seeds=seeds, source=source, **settings)
    scale = story_scale_of(replace(config, quick=True))
    if not config.quick:  # two rates, as the real ones have
        scale = replace(scale, rates=story_scale_of(config).rates)
    rng = random.Random(0)
    tables: dict[str, list[pd.DataFrame]] = {}
    for piece in StoryJobs(config, scale).pieces():
        frame = pd.DataFrame(made_up(piece, source == "procedural", rng))
        for place, (name, value) in enumerate(piece.labels.items()):
            frame.insert(place, name, value)
        tables.setdefault(piece.table, []).append(frame)
    frames = {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()}
    return StoriesResult(config, scale, frames, CHECKS, ("run 7: <diverged>",), {"torch": "2.x"})
