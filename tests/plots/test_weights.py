"""Figures of weights show the numbers they are given, the intervals, the ends and the barriers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from mechft.analysis.circuits import diff_circuits
from mechft.analysis.spectrum import Spectrum, spectrum
from mechft.analysis.weight_diff import diff_weights
from mechft.models.build import clone
from mechft.plots import plot
from mechft.plots.weight_paths import _ticks
from mechft.plots.weights import weight_diff
from mechft.shortcuts import weights as shortcuts
from mechft.training.trained import Trained

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

MakeAny = Callable[..., "HookedTransformer"]


@pytest.fixture
def others(trained: Trained, make_model: MakeAny) -> list[Trained]:
    return [Trained(make_model(seed), trained.task, name=f"ft {seed}") for seed in (1, 2)]


@pytest.mark.parametrize("value", ["relative_change", "share", "rank", "left_energy"])
def test_weight_diff(make_any: MakeAny, value: str) -> None:
    result = diff_weights(make_any(0), make_any(5))
    before = result.frame.copy()
    made = weight_diff(result, value)
    (panel,) = made.data
    row = result.frame.set_index("parameter").loc["blocks.1.attn.W_Q"]
    assert panel.z[list(panel.y).index("block 1")][list(panel.x).index("W_Q")] == row[value]
    assert list(panel.x)[list(panel.x).index("W_Q") :][:4] == ["W_Q", "W_K", "W_V", "W_O"]
    assert panel.y[0] == "outside"
    pd.testing.assert_frame_equal(result.frame, before)


def test_spectrum(make_any: MakeAny) -> None:
    base, other = make_any(0), make_any(5)
    result = spectrum(base, other)
    made = plot(result)
    blocks, components = 2, result.frame["component"].nunique()
    assert len(made.data) == 2 * blocks * components
    rows = result.frame.query("parameter == 'blocks.1.mlp.W_out' and of == 'change'")
    (line,) = [
        t for t in made.data if t.name == "block 1, change" and list(t.y) == rows["value"].tolist()
    ]
    assert line.line.dash == "solid" and list(line.x) == rows["index"].tolist()
    assert sum(bool(t.showlegend) for t in made.data) == 4
    # A change of 0 has no place on a logarithm: its line is empty rather than wrong.
    still = plot(spectrum(base, clone(base)))
    assert all(pd.isna(list(t.y)).all() for t in still.data if t.name.endswith("change"))


def test_circuits(make_any: MakeAny) -> None:
    result = diff_circuits(make_any(0), make_any(5), name="ft")
    made = plot(result)
    assert [a.text for a in made.layout.annotations] == [
        "ft, QK: where it looks", "ft, OV: what it moves",
    ]  # fmt: skip
    qk = result.frame.query("circuit == 'QK' and block == 1")["relative_change"]
    assert list(made.data[0].z[1]) == qk.tolist()
    assert made.layout.yaxis.autorange == "reversed"  # block 0 on top


@pytest.mark.parametrize("count", [1, 2])
def test_interpolation(trained: Trained, others: list[Trained], count: int) -> None:
    result = shortcuts.interpolate(trained, *others[:count], alphas=(-1, 0.5, 3), size=20)
    made = plot(result)
    rows = result.frame.query("model == 'ft 1' and task == 'acc_pt' and metric == 'loss'")
    (line,) = [t for t in made.data if list(t.y) == rows["value"].tolist()]
    assert [list(pair) for pair in line.customdata] == rows[["ci_low", "ci_high"]].values.tolist()
    assert "%{y:.1%}" not in line.hovertemplate  # a loss is no share
    chords = [t for t in made.data if list(t.x) == [0, 1]]
    assert len(chords) == 2 * 2 * count
    barrier = result.barriers.query("model == 'ft 1' and task == 'acc_pt' and metric == 'loss'")
    said = " ".join(str(a.text) for a in made.layout.annotations)
    assert f"barrier {barrier['barrier'].item():.2g} [" in said
    assert "1<br>fine-tuned" in made.layout.xaxis.ticktext
    lines = {shape.x0 for shape in made.layout.shapes}
    assert lines == {0, 1}
    assert [t.name for t in made.data if t.showlegend] == ["O_PT, uncorrelated", "O_FT, correlated"]


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(-0.5, 1.5, [-0.5, 0, 0.5, 1, 1.5]), (0, 1, [0, 0.5, 1]), (-1, 3, [-1, 0, 1, 2, 3])],
)
def test_ticks(low: float, high: float, ticks: list[float]) -> None:
    assert set(ticks) - set(_ticks(low, high)) <= {0.5}
    assert all(low <= tick <= high for tick in _ticks(low, high))


@pytest.mark.parametrize("keep", ["top", "rest"])
def test_low_rank(trained: Trained, others: list[Trained], keep: str) -> None:
    result = shortcuts.low_rank(
        trained,
        *others,
        ranks=(0, 2, 16),
        random_draws=2,
        size=20,
        keep=keep,  # type: ignore[arg-type]
    )
    made = plot(result)
    for change, dash in (("own", "solid"), ("random", "dash")):
        rows = result.frame.query("model == 'ft 2' and task == 'acc_pt'")
        rows = rows[rows["change"] == change]
        found = [t for t in made.data if t.xaxis == "x2" and list(t.y) == rows["value"].tolist()]
        assert dash in {t.line.dash for t in found}
    ends = [t for t in made.data if t.mode == "markers"]
    assert len(ends) == 2 * 2 * 2
    ticks = list(made.layout.xaxis.ticktext)
    assert ticks[1:-1] == ["0", "2", "16"]
    assert ticks[0 if keep == "top" else -1] == "base"
    assert ("kept" if keep == "top" else "removed") in made.layout.xaxis.title.text
    base = result.frame.query("change == 'base' and task == 'acc_pt' and model == 'ft 1'")
    place = 0 if keep == "top" else 4
    marks = [t for t in ends if list(t.x) == [place] and t.name == "O_PT, uncorrelated"]
    assert [t.y[0] for t in marks] == [base["value"].item()] * 2


def test_metric_that_is_no_share(trained: Trained, others: list[Trained]) -> None:
    made = plot(shortcuts.low_rank(trained, others[0], ranks=(0, 1), metric="loss", size=20))
    assert made.layout.yaxis.title.text == "loss (nats)"
    assert not any("%{y:.1%}" in str(t.hovertemplate) for t in made.data)


def test_a_spectrum_outside_the_blocks() -> None:
    columns = ["model", "parameter", "block", "component", "of", "index", "value", "energy"]
    row = ["m", "embed.W_E", -1, "embed.W_E", "change", 1, 2.0, 1.0]
    made = plot(Spectrum(pd.DataFrame([row], columns=columns)))
    assert made.data[0].name == "outside, change"
