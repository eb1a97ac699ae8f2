"""Figures of differences show the numbers of their frame, with intervals, and leave it alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mechft.models.build import clone
from mechft.models.hook_points import resid_post
from mechft.models.weights import block_matrices
from mechft.plots import plot
from mechft.shortcuts.activations import diff_activations, diff_outputs, logit_lens
from mechft.training.trained import Trained


@pytest.fixture
def models(trained: Trained) -> list[Trained]:
    """A base and two models edited by hand."""
    found = [trained.renamed("base")]
    for name, factor in (("one", -1.0), ("two", 3.0)):
        edited = clone(trained.model)
        block_matrices(edited)["blocks.1.mlp.W_out"].tensor.mul_(factor)
        found.append(Trained(edited, trained.task, name=name))
    return found


def numbers(figure: Any) -> set[float]:
    """Every value of every heatmap and line."""
    found: set[float] = set()
    for trace in figure.data:
        for values in trace["z"] if trace.type == "heatmap" else [trace.x, trace.y]:
            found |= {round(float(v), 9) for v in values if isinstance(v, float)}
    return found


def rounded(column: Any) -> set[float]:
    return {round(float(v), 9) for v in column.dropna()}


def test_activation_figures(models: list[Trained]) -> None:
    result = diff_activations(*models, size=20)
    before = result.frame.copy()
    assert rounded(result.frame["relative_change"]) <= numbers(plot(result))
    spectrum = plot(result.spectrum)
    frame = result.spectrum.frame
    assert rounded(frame["explained"]) | rounded(frame["explained_centred"]) <= numbers(spectrum)
    named = [t.name for t in spectrum.data if t.showlegend is not False]
    assert len(named) == len(set(named)) == 4
    assert result.frame.equals(before)


def test_position_figure(models: list[Trained]) -> None:
    result = diff_activations(*models, size=10, by_position=True, hook_names=[resid_post(1)])
    figure = plot(result)
    assert rounded(result.frame["relative_change"]) <= numbers(figure)
    assert [a.text for a in figure.layout.annotations] == ["one", "two"]


def test_lens_figure(models: list[Trained]) -> None:
    result = logit_lens(*models, size=20)
    figure = plot(result)
    for column in ("accuracy", "probability", "kl_from_base"):
        assert rounded(result.frame[column]) <= numbers(figure)
    assert "n = 20" in figure.layout.yaxis.title.text
    assert {t.name for t in figure.data if t.name} == {"base", "one", "two"}


def test_output_figure(models: list[Trained], tmp_path: Path) -> None:
    result = diff_outputs(*models, size=20)
    figure = plot(result)
    shown = result.frame[result.frame["measure"] != "base_accuracy"]
    assert rounded(shown["value"]) <= numbers(figure)
    for trace in figure.data:
        low, high, n = trace.customdata[0]
        assert trace.error_x.array[0] == pytest.approx(high - trace.x[0])
        assert trace.error_x.arrayminus[0] == pytest.approx(trace.x[0] - low)
        assert n == 20


def test_one_liners_join_models(models: list[Trained]) -> None:
    """Several fine-tuned models: rows of each, directions by model, examples of each."""
    result = diff_activations(*models, size=20, k=2)
    assert set(result.frame["model"]) == {"one", "two"}
    alone = diff_activations(models[0], models[2], size=20, k=2)
    two = result.direction(resid_post(1), 2, model="two")
    assert (two == alone.directions[resid_post(1)]).all()
    with pytest.raises(Exception, match=r"Name the model: model= one of \['one', 'two'\]"):
        result.direction(resid_post(1))
    outputs = diff_outputs(*models, size=20, keep=3)
    assert outputs.examples.groupby("model").size().to_dict() == {"one": 3, "two": 3}
    with pytest.raises(Exception, match="Nothing to join"):
        diff_outputs(models[0])
