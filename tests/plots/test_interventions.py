"""Figures of ablation and patching: every shape of result is drawn, with the numbers it holds."""

from __future__ import annotations

from typing import Any

import pytest

import mechft as mf
from mechft.analysis.ablation import ablation_sweep
from mechft.analysis.ablation_comparison import compare_ablations
from mechft.analysis.ablation_sets import ablate_cumulatively, ablate_pairs
from mechft.analysis.interventions.sites import Site, all_sites
from mechft.analysis.patching import patch_across
from mechft.models.build import clone
from mechft.randomness import generator
from mechft.training.trained import Trained

HEADS, MLPS = [Site(0, "head", 0), Site(1, "head", 1)], [Site(0, "mlp_out"), Site(1, "mlp_out")]


@pytest.mark.parametrize(
    "sites",
    [
        "head",
        "mlp_out",
        [*HEADS, *MLPS],
        [Site(0, "head", 0, position=p) for p in (1, 2)] + [Site(1, "head", 0, position=1)],
        [Site(0, "mlp_out", position=1), Site(0, "mlp_out")],
        [HEADS, MLPS],
        [[*HEADS, *MLPS], HEADS[0]],
    ],
)
def test_any_ablation_is_drawn(trained: Trained, sites: Any) -> None:
    batch = trained.task.query("C", "a").sample(20, generator(0))
    result = ablation_sweep(trained, batch, sites, metric="loss", kinds=["zero"])
    figure = mf.plot(result)
    shown = [
        float(x)
        for trace in figure.data
        for x in ([v for row in trace.z for v in row] if trace.type == "heatmap" else trace.x)
    ]
    for value in result.frame["change"]:
        assert any(value == pytest.approx(x, abs=1e-12) for x in shown)


def test_sets_and_comparisons_are_drawn(trained: Trained) -> None:
    batch = {"t": trained.task.query("C", "a").sample(20, generator(0))}
    order = all_sites(trained.model, "head")
    growing = ablate_cumulatively(trained, batch, order, metric="loss", kinds=["zero"])
    line = mf.plot(growing).data[-1]
    untouched = growing.frame["untouched"].iloc[0]
    assert list(line.y) == [untouched, *growing.frame["value"]]
    pairs = ablate_pairs(trained, batch, metric="loss", kinds=["zero"])
    assert all(value is not None for row in mf.plot(pairs).data[0].z for value in row)
    compared = mf.plot(compare_ablations(trained, clone(trained.model), batch, metric="loss"))
    assert {t.name for t in compared.data if t.name} == {"same"}


@pytest.mark.parametrize(
    ("sites", "positions"),
    [
        (["mlp_out", "attn_out"], None),
        (["mlp_out"], [0, -1]),
        ([MLPS, Site(0, "head", 0, 2)], None),
    ],
)
def test_any_patching_is_drawn(trained: Trained, sites: Any, positions: Any) -> None:
    other = clone(trained.model)
    other.blocks[0].mlp.W_out.data.mul_(3)
    batch = trained.task.query("C", "a").sample(30, generator(0))
    result = patch_across(trained, other, batch, sites, positions=positions, metric="probability")
    figure = mf.plot(result)
    assert figure.data and figure.layout.annotations
