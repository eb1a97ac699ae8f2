"""Figures of pruning show the numbers of their results, with intervals."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pandas as pd
import pytest

from mechft.analysis.units.masks import unit_places
from mechft.analysis.units.scores import random_scores
from mechft.plots import plot
from mechft.shortcuts.pruning import learn_mask, predicted_answers, prune_curve
from mechft.training.trained import Trained


def test_prune_curve(trained: Trained) -> None:
    other = trained.renamed("other")
    curve = prune_curve(
        trained, other, scores=["gradient×weight", "magnitude"], unit="head", counts=(0, 1, 4),
        random_draws=2, score_size=20, test_size=30,
    )  # fmt: skip
    figure = plot(curve)
    lines = [t for t in figure.data if t.mode == "lines+markers"]
    assert len(lines) == 2 * 2 * 3  # models × tasks × (scores and control)
    shown = [t.name for t in lines if t.showlegend is not False]
    assert len(shown) == len(set(shown)) == 6
    assert "O_PT, uncorrelated, magnitude" in shown and "O_FT, correlated, random removal" in shown
    rows = curve.frame.query("model == 'other' and score == 'magnitude' and task == 'acc_pt'")
    line = [t for t in lines if t.name == "O_PT, uncorrelated, magnitude"][1]
    assert list(line.y) == rows["accuracy"].tolist()
    assert [list(pair) for pair in line.customdata] == rows[["ci_low", "ci_high"]].values.tolist()
    assert figure.layout.xaxis.title.text == "heads removed (K)"
    assert figure.layout.yaxis.title.text == "accuracy (n = 30)"


def test_curve_of_grafting(trained: Trained) -> None:
    curve = prune_curve(
        trained,
        mode="graft",
        base=trained,
        counts=(2,),
        random_draws=1,
        score_size=20,
        test_size=30,
    )
    figure = plot(curve)
    assert figure.layout.xaxis.title.text == "neurons grafted (K)"
    assert "O_PT, uncorrelated, random grafting" in {t.name for t in figure.data}


@pytest.mark.parametrize("count", [1, 3, 4, 5, 9])
def test_ticks_keep_apart_however_many_models(trained: Trained, count: int) -> None:
    """On a page of 700 pixels no label meets the next, in its panel or in the one beside it."""
    counts = (0, 1, 2, 3, 5, 10, 20, 50, 100, 150, 200, 1500)
    one = prune_curve(
        trained, unit="weight", counts=counts, random_draws=1, score_size=9, test_size=9
    )
    models = [f"model {i}" for i in range(count)]
    frame = pd.concat([one.frame.assign(model=model) for model in models])
    figure = plot(replace(one, frame=frame))
    axes = [figure.layout[f"xaxis{i or ''}"] for i in (0, *range(2, count + 1))]
    assert len(axes) == len(list(figure.select_xaxes())) == count
    assert [a.text for a in figure.layout.annotations] == models
    for axis in axes:
        left, right = axis.domain
        scale = 0.9 * (right - left) * (700 - 64 - 24) / max(counts)  # pixels for one unit
        for here, after in itertools.pairwise(axis.tickvals):
            assert scale * (after - here) >= 7 * (len(str(here)) + len(str(after))) / 2
    titled = [a for a in axes if a.title.text]
    assert len(titled) == min(count, 4) and titled == axes[-len(titled) :]
    assert (
        len({(a.domain, figure.layout[a.anchor.replace("y", "yaxis")].domain) for a in axes})
        == count
    )


@pytest.mark.parametrize("unit", ["neuron", "head"])
def test_unit_places(trained: Trained, unit: str) -> None:
    scores = random_scores(trained, 0, unit=unit)
    places = unit_places({"one": scores.top(3), "two": scores.top(4)})
    figure = plot(places)
    assert [int(trace.z.sum()) for trace in figure.data] == [3, 4]
    assert [a.text for a in figure.layout.annotations][1].startswith("two<br>4 of ")
    if unit == "neuron":
        assert list(figure.data[0].x)[:4] == ["W_Q", "W_K", "W_V", "W_O"]


def test_predicted_answers(trained: Trained) -> None:
    result = predicted_answers(trained, counts=(2, 30), score_size=20, test_size=40)
    figure = plot(result)
    bars = [t for t in figure.data if t.type == "bar"]
    for right, wrong in zip(bars[::2], bars[1::2], strict=True):
        assert sum(right.y) + sum(wrong.y) == pytest.approx(1)
    assert len(bars) == 6 and result.frame["answer"].isin(trained.task.vocabulary.names).all()
    lines = [t for t in figure.data if t.name == "right answers"]
    assert all(sum(line.y) == pytest.approx(1) for line in lines)
    assert sum(t.showlegend is not False for t in figure.data) == 3


def test_learned_mask(trained: Trained) -> None:
    result = learn_mask(
        trained, keep=True, train_size=20, test_size=30, steps=3, l0=0.0, random_draws=1
    )
    figure = plot(result)
    bars = [t for t in figure.data if t.type == "bar"]
    assert [t.name for t in bars] == ["O_PT, uncorrelated", "O_FT, correlated"]
    for bar, task in zip(bars, ("acc_pt", "acc_ft_cte1"), strict=True):
        rows = result.frame[result.frame["task"] == task]
        assert list(bar.y) == rows["accuracy"].tolist()
        assert (bar.y + bar.error_y.array == rows["ci_high"]).all()
        assert bar.y - bar.error_y.arrayminus == pytest.approx(rows["ci_low"].to_numpy())
    lines = {t.name: t for t in figure.data if t.type == "scatter"}
    assert list(lines["loss on rows to keep"].y) == result.trace["loss_keep"].tolist()
