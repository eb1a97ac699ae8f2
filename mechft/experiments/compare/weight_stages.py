"""Stages that look at weights alone: how far they moved, in how many directions, and what heads do now."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from mechft.analysis.circuits import diff_circuits
from mechft.analysis.result import Result
from mechft.analysis.spectrum import spectrum as spectrum_of
from mechft.analysis.weight_diff import WeightDiff, diff_weights
from mechft.analysis.weights.pairs import matrix
from mechft.experiments.compare.findings import Finding, counted, percent
from mechft.experiments.compare.outcome import Outcome, too_dear
from mechft.experiments.compare.pair import FINETUNED, RANDOM, Pair
from mechft.shortcuts.common import joined

if TYPE_CHECKING:
    import pandas as pd

_EXACT = "An exact function of the weights, so without an interval; a weight that moved far need not matter."
_SHOWN_SPECTRA = 6
_LOW_RANK = 0.25  # of the shorter side
_SLOWER = 2.5  # LAPACK in float64 beside the products of a forward, as measured on a 124M model


def weights(pair: Pair, found: Mapping[str, Result]) -> Outcome | str:
    """How far every weight moved; with ranks and directions where these can be paid for."""
    dear = too_dear(
        pair, "Norms alone: ranks and directions of all matrices", decomposing(pair), "weight_diff"
    )
    result = diff_weights(pair.base, pair.finetuned, spectra=not dear)
    return Outcome(result, (*weight_findings(result.frame), *_rank_findings(result)), note=dear)


def weight_findings(frame: pd.DataFrame) -> tuple[Finding, ...]:
    """What norms say: how far all weights moved together, and which moved most."""
    size, change = int(frame["size"].sum()), math.sqrt(float(frame["change"].pow(2).sum()))
    norm = math.sqrt(float(frame["base_norm"].pow(2).sum()))
    moved = frame[frame["change"] > 0]
    if not len(moved):
        same = f"All {size:,} weights are the same in both models, bit for bit."
        return (Finding("weights", same),)
    text = (
        f"The weights moved by {percent(change / norm)} of their norm, in {len(moved)} of "
        f"{counted(len(frame), 'tensor')}."
    )
    matrices = moved[moved["relative_change"].notna() & moved["matrix"]]
    if len(matrices):
        top = matrices.loc[matrices["relative_change"].idxmax()]
        text += (
            f" The matrix that moved most for its size is {top['parameter']}, by "
            f"{percent(top['relative_change'])} of its norm; it holds {percent(top['share'])} of the squared "
            f"change and {percent(top['share_of_size'])} of all weights."
        )
    blocks = moved[moved["block"] >= 0].groupby("block")[["share", "share_of_size"]].sum()
    if len(blocks) > 1:
        most = blocks["share"].idxmax()
        text += (
            f" Of the blocks, {most} holds most of it: {percent(blocks.loc[most, 'share'])} "
            f"(spread evenly, {percent(blocks.loc[most, 'share_of_size'])})."
        )
    return (Finding("weights", text, _EXACT),)


def _rank_findings(result: WeightDiff) -> tuple[Finding, ...]:
    frame = result.frame[(result.frame["rank"] > 0) & (result.frame["block"] >= 0)]
    frame = frame[frame["top_k"].notna()]
    if not len(frame):
        return ()
    # The expected shares are top_k over either side.
    sides = frame[["left_expected", "right_expected"]].rdiv(frame["top_k"], axis=0).min(axis=1)
    highest, share = int(frame["rank"].max()), float((frame["effective_rank"] / sides).median())
    text = "The change of a block's matrix has "
    if (frame["rank"] / sides).max() <= _LOW_RANK:
        text += f"rank {highest} at most, of {sides.max():.0f} possible: what a low-rank adapter leaves."
    else:
        text += f"an effective rank of {percent(share)} of the largest possible, in the median."
    caution = "A random change has an effective rank near the largest; the spectra show both."
    return (Finding("weights", text, caution),)


def circuits(pair: Pair, found: Mapping[str, Result]) -> Outcome | str:
    """How far each head's QK and OV circuit moved."""
    result = diff_circuits(pair.base, pair.finetuned)
    frame = result.frame
    moved = frame[frame["relative_change"] > 0]
    if not len(moved):
        return Outcome(result, (Finding("circuits", "No head's QK or OV circuit moved."),))
    top = moved.loc[moved["relative_change"].idxmax()]
    what = "where it looks" if top["circuit"] == "QK" else "what it moves"
    text = (
        f"Head {top['block']}.{top['head']} changed most, in its {top['circuit']} circuit ({what}): by "
        f"{percent(top['relative_change'])} of its norm, where the median of "
        f"{counted(len(frame), 'circuit')} is {percent(frame['relative_change'].median())}."
    )
    caution = "Biases, norms and rotary positions are left out of circuits; the largest of many is picked."
    return Outcome(result, (Finding("circuits", text, caution),))


def spectrum(pair: Pair, found: Mapping[str, Result]) -> Outcome | str:
    """Singular values of the change in the matrices that moved most, beside those of a random change."""
    frame = found["weights"].frame if "weights" in found else None
    if frame is None:
        frame = diff_weights(pair.base, pair.finetuned, spectra=False).frame
    inside = {name for name, p in pair.weights.items() if p.in_block}
    frame = frame[frame["parameter"].isin(inside) & (frame["change"] > 0)]
    if not len(frame):
        return "No matrix of a block moved."
    chosen = list(frame.nlargest(_SHOWN_SPECTRA, "relative_change")["parameter"])
    what = f"The singular values of {len(chosen)} matrices of this size"
    if dear := too_dear(pair, what, 2 * decomposing(pair, chosen), "spectrum"):
        return dear
    result = joined(
        [
            spectrum_of(pair.base, model, parameters=chosen, name=name)
            for name, model in pair.changed.items()
        ]
    )
    changes = result.frame[result.frame["of"] == "change"]
    first = changes[changes["parameter"] == chosen[0]]
    needed = {
        name: int((rows["energy"] < 0.9).sum()) + 1
        for name, rows in first.groupby("model", sort=False)
    }
    text = (
        f"In {chosen[0]}, which moved most, {counted(needed[FINETUNED], 'direction')} of "
        f"{int(first['index'].max())} hold 90% of the squared change (a random change of that size: "
        f"{needed[RANDOM]})."
    )
    note = f"The {len(chosen)} matrices of the blocks that moved most for their size."
    return Outcome(result, (Finding("spectrum", text, _EXACT),), note=note)


def decomposing(
    pair: Pair, names: Collection[str] | None = None, *, vectors: bool = False
) -> float:
    """About how many operations it takes to decompose the changes of matrices, in those of a forward.

    Args:
        pair: The models.
        names: Which matrices; all if None.
        vectors: Whether singular vectors are wanted, not values alone.
    """
    total = 0.0
    for name, weight in pair.weights.items():
        if weight.is_matrix and (names is None or name in names):
            short, long = sorted(matrix(weight.before, weight.kind).shape)
            total += 44.0 * long * short**2 if vectors else 8.0 * long * short**2 + 12.0 * short**3
    return _SLOWER * total
