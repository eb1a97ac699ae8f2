"""Figures of the PCFG study: means and bands by hand, everything once in the legend, tables left alone."""

from __future__ import annotations

import io
import math
from itertools import product
from typing import Any

import pandas as pd
import pytest

from mechft.errors import ConfigError
from mechft.plots import study
from mechft.plots.seed_curves import interval_label, over_seeds, ramp
from mechft.plots.study_style import C_TR_RAMP, PRIORS, RATES
from mechft.statistics import proportion


def run(hits: int, n: int = 100) -> dict[str, float]:
    """The numbers of one accuracy, with its Wilson interval."""
    share = proportion(hits, n)
    return {"accuracy": share.value, "ci_low": share.low, "ci_high": share.high, "n": n}


def table(labels: dict[str, list[Any]], hits: Any = 50) -> pd.DataFrame:
    """A row for each combination of labels; hits is a number, or a function of the labels."""
    rows = [dict(zip(labels, values, strict=True)) for values in product(*labels.values())]
    return pd.DataFrame([{**row, **run(hits(**row) if callable(hits) else hits)} for row in rows])


def tuning(seeds: int, **more: list[Any]) -> pd.DataFrame:
    """Table finetuning: accuracy grows by a point a step, and differs by 10 points between seeds."""
    return table(
        {
            "prior": ["low", "high"], "rate": ["L", "M"], "c_tr": [0.0, 1.0], "seed": [*range(seeds)],
            "step": [0, 8, 27], "evaluation": ["acc_ft_cte1", "acc_ft_cte0"], **more,
        },
        lambda step, seed, **_: 40 + step + 10 * seed,
    )  # fmt: skip


def drawn(figure: Any) -> list[Any]:
    """The lines of a figure: neither bands, nor keys of the legend."""
    return [t for t in figure.data if t.type == "scatter" and t.text is not None]


def legend(figure: Any) -> list[str]:
    return [t.name for t in figure.data if t.showlegend is not False]


def test_two_seeds_have_their_mean_and_students_interval() -> None:
    cells = over_seeds(tuning(2), ["prior", "rate", "c_tr", "evaluation", "step"])
    first = cells[cells["step"] == 0].iloc[0]
    # Values .4 and .5: mean .45, s = .0707, t(1 degree of freedom) = 12.706: ± 12.706 × .05.
    assert first["accuracy"] == pytest.approx(0.45)
    assert first["seeds"] == 2 and first["n"] == 100
    assert first["ci_low"] == 0.0 and first["ci_high"] == 1.0  # cut: .45 ± .635
    close = table({"seed": [0, 1], "step": [0]}, lambda seed, **_: 50 + 2 * seed)
    found = over_seeds(close, ["step"]).iloc[0]
    assert found["ci_low"] == pytest.approx(0.51 - 12.706 * 0.01, abs=1e-6)
    assert found["ci_high"] == pytest.approx(0.51 + 12.706 * 0.01, abs=1e-6)
    assert interval_label(cells) == "mean of 2 seeds, 95% t interval over seeds; n = 100 a seed"


def test_one_seed_keeps_its_wilson_interval() -> None:
    cells = over_seeds(tuning(1), ["prior", "rate", "c_tr", "evaluation", "step"])
    wilson = proportion(40, 100)
    first = cells.iloc[0]
    assert (first["accuracy"], first["ci_low"], first["ci_high"]) == pytest.approx(
        (0.4, wilson.low, wilson.high)
    )
    assert interval_label(cells) == "1 seed, 95% Wilson interval over n = 100"


def test_a_cell_that_lost_a_seed_is_named() -> None:
    frame = tuning(2)
    lost = frame[~((frame["seed"] == 1) & (frame["prior"] == "high"))]
    cells = over_seeds(lost, ["prior", "rate", "c_tr", "evaluation", "step"])
    assert set(cells.loc[cells["prior"] == "high", "seeds"]) == {1}
    assert "mean of 1 to 2 seeds" in interval_label(cells)


def test_nothing_is_averaged_unseen() -> None:
    with pytest.raises(ConfigError, match="one row a seed"):
        over_seeds(tuning(2), ["prior", "rate", "c_tr", "step"])  # two evaluations a cell
    with pytest.raises(ConfigError, match="needs rows"):
        study.finetuning_curves(tuning(1), ("acc_pt_cte0",))


def test_the_ramp_goes_through_its_stops_in_order_of_brightness() -> None:
    assert ramp(0.0, ("#000000", "#808080", "#ffffff")) == "#000000"
    assert ramp(0.25, ("#000000", "#808080", "#ffffff")) == "#404040"
    assert ramp(1.0, ("#000000", "#808080", "#ffffff")) == "#ffffff"

    def brightness(colour: str) -> float:
        red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
        return 0.299 * red + 0.587 * green + 0.114 * blue

    shades = [brightness(ramp(c, C_TR_RAMP)) for c in (0.0, 0.25, 0.5, 0.8, 1.0)]
    assert shades == sorted(shades)


@pytest.mark.parametrize("seeds", [1, 2])
def test_finetuning_curves_show_the_means(seeds: int) -> None:
    frame = tuning(seeds)
    before = frame.copy()
    figure = study.finetuning_curves(frame, ("acc_ft_cte1", "acc_ft_cte0"))
    lines = drawn(figure)
    assert len(lines) == 2 * 2 * 2 * 2  # priors, rates, C_Tr, evaluations
    for line in lines:
        assert list(line.y) == pytest.approx(
            [0.4 + 0.05 * (seeds - 1) + s for s in (0, 0.08, 0.27)]
        )
        assert list(line.x) == pytest.approx([0, 2, 3])  # cube roots
        assert line.line.dash == ("dash" if "uncorrelated" in line.hovertemplate else "solid")
    assert legend(figure) == [
        "C_Tr = 0", "C_Tr = 1", "correlated test strings", "uncorrelated test strings",
    ]  # fmt: skip
    titles = [a.text for a in figure.layout.annotations]
    assert titles == [
        "low prior, rate L", "low prior, rate M", "high prior, rate L", "high prior, rate M",
    ]  # fmt: skip
    assert f"{seeds} seed" in figure.layout.title.text and "n = 100" in figure.layout.title.text
    assert frame.equals(before)


def pruned(seeds: int) -> pd.DataFrame:
    return table(
        {
            "prior": ["low"], "rate": ["L", "M"], "c_tr": [0.0, 1.0], "seed": [*range(seeds)],
            "k": [0, 1, 4, 100], "score": ["gradient×weight", "random"], "task": ["acc_pt", "acc_ft_cte1"],
        },
        lambda k, score, c_tr, **_: 20 if score == "random" or not c_tr else min(90, 20 + k),
    )  # fmt: skip


def test_pruning_curves_are_of_one_c_tr_and_dot_random_neurons() -> None:
    figure = study.pruning_curves(pruned(2), 1.0, marked=(4, 9))
    lines = drawn(figure)
    assert len(lines) == 2 * 2 * 2
    for line in lines:
        assert list(line.x) == [0, 1, 2, 10]  # square roots
        random = "random neurons" in line.hovertemplate
        assert list(line.y) == pytest.approx([0.2] * 4 if random else [0.2, 0.21, 0.24, 0.9])
        assert (line.line.dash == "dot") == random
    assert {(s.x0, s.x1) for s in figure.layout.shapes} == {(2.0, 3.0)}
    with pytest.raises(ConfigError, match="needs rows"):
        study.pruning_curves(pruned(1), 0.8)


def probed() -> pd.DataFrame:
    base = table(
        {
            "prior": ["low", "high", "never_a", "untrained"], "rate": [""], "c_tr": [math.nan],
            "seed": [0, 1], "stage": ["base"], "block": [0, 1],
        }
    )  # fmt: skip
    tuned = table(
        {
            "prior": ["low", "high"], "rate": ["L", "M"], "c_tr": [0.0, 1.0], "seed": [0, 1],
            "stage": ["fine-tuned"], "block": [0, 1],
        }
    )  # fmt: skip
    return pd.concat([base, tuned], ignore_index=True).assign(control="none", majority=0.3)


def read_back(frame: pd.DataFrame) -> pd.DataFrame:
    """The same through a CSV file, where "" and NaN are one."""
    return pd.read_csv(io.StringIO(frame.to_csv(index=False, float_format="%.6g")))


@pytest.mark.parametrize("through_csv", [False, True])
def test_probing_curves_have_controls_in_every_panel(through_csv: bool) -> None:
    figure = study.probing_curves(read_back(probed()) if through_csv else probed())
    lines = drawn(figure)
    assert len(lines) == 2 * (1 + 2 * 2 + 2)  # panels × (base, rates × C_Tr, two controls)
    names = legend(figure)
    assert len(names) == len(set(names))
    assert {"base", "fine-tuned, rate L", "never asked for a", "never trained"} <= set(names)
    inks = {line.legendgroup: line.line.color for line in lines}
    assert inks["fine-tuned, rate L"] == RATES["L"] and len(set(inks.values())) == len(inks)
    assert [s.y0 for s in figure.layout.shapes] == pytest.approx([0.3, 0.3])


def reversed_() -> pd.DataFrame:
    steps: dict[str, list[Any]] = {
        "seed": [0, 1], "step": [0, 8, 27], "evaluation": ["acc_pt_cte0", "acc_ft_cte0"],
    }  # fmt: skip
    none: dict[str, list[Any]] = {"prior": ["never_a"], "rate": [""], "c_tr": [math.nan]}
    parts = [
        table({"prior": ["low", "high"], "rate": [rate], "c_tr": [0.0, 1.0], "kind": ["reFT"],
               "reverse_rate": [back], **steps})
        for rate, back in (("L", "M"), ("L", "S"), ("M", "S"))
    ]  # fmt: skip
    parts += [table({**none, "kind": ["Scr.+FT"], "reverse_rate": ["M", "S"], **steps}, 30)]
    parts += [table({**none, "kind": ["Scr."], "reverse_rate": ["pretraining"], **steps}, 10)]
    parts += [
        table({"prior": ["low"], "rate": ["L"], "c_tr": [math.nan], "kind": ["randFT"],
               "reverse_rate": ["M"], **steps}, 70)
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize("through_csv", [False, True])
def test_reversal_panels_have_the_controls_that_fit(through_csv: bool) -> None:
    figure = study.reversal_curves(read_back(reversed_()) if through_csv else reversed_())
    titles = [a.text for a in figure.layout.annotations]
    assert titles[:3] == ["C_Tr = 1, L → M", "C_Tr = 1, L → S", "C_Tr = 1, M → S"]
    panels: dict[str, list[str]] = {}
    for line in drawn(figure):
        panels.setdefault(f"{line.xaxis}", []).append(line.hovertemplate.split("</b>")[0][3:])
    assert len(panels) == 6
    assert sorted(panels["x"]) == [
        "Scr.", "Scr.+FT", "reFT after randFT, low prior", "reFT, high prior, C_Tr = 1",
        "reFT, low prior, C_Tr = 1",
    ]  # fmt: skip
    assert all(names.count("Scr.") == names.count("Scr.+FT") == 1 for names in panels.values())
    assert (
        sum("randFT" in name for names in panels.values() for name in names) == 2
    )  # each C_Tr, L → M
    inks = {line.legendgroup: line.line.color for line in drawn(figure)}
    assert inks["reFT, low prior"] == PRIORS["low"]
    with pytest.raises(ConfigError, match="reFT"):
        study.reversal_curves(reversed_().query("kind != 'reFT'"))


def test_mixing_and_question_curves() -> None:
    mixing = tuning(2, share=[0.5, 0.0, 0.001])
    mixing = mixing[mixing["c_tr"] == 1.0]
    figure = study.mixing_curves(mixing, ("acc_ft_cte1",))
    assert legend(figure) == [
        "fine-tuning data only", "0.1% of pretraining data", "50% of pretraining data",
    ]  # fmt: skip
    assert len(drawn(figure)) == 2 * 2 * 3
    randft = tuning(1)[tuning(1)["c_tr"] == 0.0].assign(c_tr=math.nan)
    figure = study.question_curves(randft, ("acc_ft_cte0", "acc_ft_cte1", "acc_randomised"))
    assert len(drawn(figure)) == 2 * 2 * 2 and len(legend(figure)) == 2


def test_steps_curves_are_over_pretraining() -> None:
    frame = table(
        {"prior": ["low"], "rate": ["L"], "c_tr": [1.0], "pretraining_steps": [400, 100],
         "seed": [0, 1], "evaluation": ["acc_pt_cte0", "acc_ft_cte1"]},
        lambda pretraining_steps, **_: pretraining_steps // 10,
    )  # fmt: skip
    figure = study.steps_curves(frame)
    for line in drawn(figure):
        assert list(line.x) == [100, 400] and list(line.y) == pytest.approx([0.1, 0.4])


@pytest.mark.parametrize("through_csv", [False, True])
def test_jailbreak_bars_stand_beside_their_base(through_csv: bool) -> None:
    base = table({"prior": ["low", "high"], "rate": [""], "c_tr": [math.nan], "seed": [0, 1],
                  "stage": ["base"], "token": ["C", "J1"]}, 90)  # fmt: skip
    tuned = table({"prior": ["low", "high"], "rate": ["L"], "c_tr": [0.0, 1.0], "seed": [0, 1],
                   "stage": ["fine-tuned"], "token": ["C", "J1"]},
                  lambda token, **_: 10 if token == "C" else 80)  # fmt: skip
    frame = pd.concat([base, tuned], ignore_index=True)
    figure = study.jailbreak_bars(read_back(frame) if through_csv else frame)
    bars = [t for t in figure.data if t.type == "bar"]
    marks = [t for t in figure.data if t.type == "scatter"]
    assert len(bars) == len(marks) == 4  # two C_Tr × two priors
    for bar, mark in zip(bars, marks, strict=True):
        assert list(bar.y) == pytest.approx([0.1, 0.8]) and list(mark.y) == pytest.approx(
            [0.9, 0.9]
        )
        assert list(bar.x) == list(mark.x)
    assert len(legend(figure)) == 3


def test_against_paper_puts_each_cell_on_its_question() -> None:
    frame = pd.DataFrame(
        {
            "prior": ["low", "high", "low"], "rate": ["L", "L", "M"], "c_tr": [1.0, 0.5, 1.0],
            "evaluation": ["acc_pt_cte0", "acc_pt_cte0", "acc_ft_cte1"], "accuracy": [0.1, 0.2, 0.9],
            "paper": [0.2, 0.4, 1.0], "difference": [-0.1, -0.2, -0.1],
        }
    )  # fmt: skip
    figure = study.against_paper(frame)
    points = {(t.xaxis, x, y) for t in figure.data if t.mode == "markers" and t.customdata is not None
              for x, y in zip(t.x, t.y, strict=True)}  # fmt: skip
    assert points == {("x", 0.2, 0.1), ("x", 0.4, 0.2), ("x2", 1.0, 0.9)}
    diagonals = [t for t in figure.data if t.mode == "lines"]
    assert len(diagonals) == 2 and all(list(t.x) == list(t.y) == [0, 1] for t in diagonals)
    with pytest.raises(ConfigError, match="none to draw"):
        study.against_paper(frame.iloc[:0])
