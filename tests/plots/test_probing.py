"""Figures of probes show the numbers they are given, with their intervals, controls beside."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from mechft.plots import plot
from mechft.shortcuts import probing
from mechft.training.trained import Trained

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer


@pytest.fixture
def pair(trained: Trained, make_model: Callable[..., HookedTransformer]) -> tuple[Trained, Trained]:
    return trained, Trained(make_model(5), trained.task, name="ft")


SIZES: dict[str, Any] = {"train_size": 200, "test_size": 60}


def line(figure: Any, name: str, panel: str) -> Any:
    (found,) = [t for t in figure.data if t.name == name and t.yaxis == panel]
    return found


def test_probes_with_controls(pair: tuple[Trained, Trained]) -> None:
    controls: Any = ("random_model", "shuffled_labels")
    result = probing.probe(*pair, controls=controls, **SIZES)
    assert set(result.probes) == {(m, t) for m in ("small", "ft") for t in ("C(a)", "C(b)")}
    figure = plot(result)
    frame = result.frame
    for kind, name, dash in (
        ("none", "ft", "solid"),
        ("random_model", "ft, random weights", "dash"),
        ("shuffled_labels", "ft, control task", "dot"),
    ):
        rows = frame[(frame["model"] == "ft") & (frame["target"] == "C(b)")]
        rows = rows[rows["control"] == kind]
        drawn = line(figure, name, "y2")
        assert list(drawn.y) == rows["accuracy"].tolist()
        assert [list(x) for x in drawn.customdata] == rows[["ci_low", "ci_high"]].values.tolist()
        assert drawn.line.dash == dash
    names = [t.name for t in figure.data if t.showlegend is not False]
    assert len(names) == len(set(names)) == 6
    assert "n = 60" in figure.layout.yaxis.title.text


def test_sites_of_one_block_get_lines_of_their_own(trained: Trained) -> None:
    sites = [f"blocks.{b}.{part}" for b in (0, 1) for part in ("hook_resid_post", "attn.hook_z")]
    result = probing.probe(trained, operands=["a"], hook_names=sites, **SIZES)
    figure = plot(result)
    rows = result.frame[result.frame["component"] == "z"]
    assert list(line(figure, "small, attn.hook_z", "y").y) == rows["accuracy"].tolist()


def test_description_length(pair: tuple[Trained, Trained]) -> None:
    result = probing.description_length(*pair, operands=["a"], size=200, control_type=1)
    figure = plot(result)
    rows = result.frame.query("model == 'small' and control == 'none'")
    drawn = line(figure, "small", "y")
    assert list(drawn.y) == pytest.approx((rows["bits"] / rows["uniform_bits"]).tolist())
    assert {a.text for a in figure.layout.annotations} >= {"uniform code", "label frequencies"}
    assert len(result.curve) > len(result.frame)


def test_transfer(pair: tuple[Trained, Trained]) -> None:
    result = probing.probe_transfer(*pair, operands=["a"], **SIZES)
    rows = result.frame.query(
        "fitted_on == 'small' and applied_to == 'ft' and readout == 'recentred'"
    )
    drawn = line(plot(result), "ft, probe of small, recentred", "y")
    assert list(drawn.y) == rows["accuracy"].tolist()


def test_erasure(pair: tuple[Trained, Trained]) -> None:
    result = probing.erase(*pair, task_size=30, **SIZES)
    frame = result.frame
    assert frame["task"].unique().tolist() == ["C(a)", "acc_pt", "acc_ft_cte1"]
    figure = plot(result)
    rows = frame.query("model == 'ft' and measure == 'behaviour' and task == 'acc_pt'")
    drawn = line(figure, "C(a) erased", "y7")  # second row, third panel
    assert list(drawn.y) == rows.query("erased == 'target'")["value"].tolist()
    names = [t.name for t in figure.data if t.showlegend is not False]
    assert sorted(names) == ["C(a) erased", "random labels erased", "untouched"]
