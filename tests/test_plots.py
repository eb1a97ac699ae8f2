"""Figures show the numbers they are given, with intervals, and leave their input alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import mechft as mf
from mechft.errors import ConfigError
from mechft.tasks.pcfg import PCFGTask
from mechft.training.recipes import finetune
from mechft.training.trained import Trained


def test_every_result_has_a_figure(trained: Trained) -> None:
    ft = finetune(trained, "b", steps=2, batch_size=4, evaluation_size=10, name="ft")
    results = [
        mf.probe(trained, ft, train_size=200, test_size=50),
        mf.prune_curve(ft, counts=(0, 2), random_draws=1, score_size=20, test_size=20),
        mf.ablate_heads(trained, ft, size=20),
        mf.diff_weights(trained, ft),
        mf.diff_activations(trained, ft, size=20),
        mf.revival({"one": ft}),
        ft,
    ]
    for result in results:
        figure = mf.plot(result)
        assert len(figure.data) > 0
        assert "xaxis" in figure.to_plotly_json()["layout"]
        names = {str(trace.name) for trace in figure.data} | {
            str(a.text) for a in figure.layout.annotations
        }
        names.add(str(figure.layout.title.text))
        assert any(label in name for label in ("ft", "one", "O_PT") for name in names)
    with pytest.raises(TypeError, match=r"no figure for dict; there is one for ProbeResult"):
        mf.plot({})


def test_curve_shows_accuracy_and_interval(trained: Trained) -> None:
    curve = mf.prune_curve(trained, counts=(0, 2, 5), random_draws=1, score_size=20, test_size=30)
    rows = curve.frame.query("task == 'acc_pt' and score == 'random'")
    figure = mf.plot(curve)
    (line,) = [t for t in figure.data if t.name == "O_PT, uncorrelated, random removal"]
    assert list(line.y) == rows["accuracy"].tolist()
    assert [list(pair) for pair in line.customdata] == rows[["ci_low", "ci_high"]].values.tolist()
    names = [t.name for t in figure.data if t.showlegend is not False]
    assert len(names) == len(set(names)) == 4 + 1  # tasks × scores, and one answer to everything
    assert "always the commonest answer" in names


def test_models_need_names(trained: Trained) -> None:
    with pytest.raises(ConfigError, match="different names"):
        mf.diff_weights(trained, trained, trained)
    bare: Any = trained.model
    with pytest.raises(
        ConfigError, match=r"got HookedTransformer\. For a bare model.*mechft\.analysis"
    ):
        mf.probe(bare)
    longer = PCFGTask(replace(trained.task.config, counting_window=7))
    with pytest.raises(ConfigError, match="same task, priors aside"):
        mf.diff_weights(trained, replace(trained, task=longer, name="other"))
