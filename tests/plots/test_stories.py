"""Figures of the stories study: shares and means by hand, everything named once, tables left alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mechft.errors import ConfigError, UnknownNameError
from mechft.experiments.stories.result import StoriesResult
from mechft.plots import stories as plots
from mechft.plots.stories_style import (
    means_label,
    means_over_seeds,
    model_colour,
    model_dash,
    model_name,
    pooled_shares,
    shares_label,
)
from mechft.statistics import proportion
from mechft.tasks.stories.record import FEATURES
from tests.stories_tables import made_up_study

PROTOCOLS = ("F", "F+MM", "F+RR", "refusal")
FIGURES: dict[str, Callable[[dict[str, pd.DataFrame]], Any]] = {
    "writing": lambda t: plots.writing_bars(t["writing"], "rule"),
    "return": lambda t: plots.return_curves(t["reversal_writing"], t["writing"], "classifier"),
    "pretraining": lambda t: plots.loss_curves(t["pretraining"], "pretraining"),
    "deletion": lambda t: plots.loss_curves(t["deletion"], "deletion"),
    "reversal": lambda t: plots.loss_curves(t["reversal"], "reversal"),
    "probes": lambda t: plots.probe_curves(t["probes"]),
    "features": lambda t: plots.feature_probe_curves(t["probes"], "M"),
    "weights": lambda t: plots.weight_curves(t["weights"]),
    "cka": lambda t: plots.cka_curves(t["activations"]),
    "decisions": lambda t: plots.decision_bars(t["decisions"]),
    "pruning": lambda t: plots.pruning_curves(t["pruning"]),
    "patching": lambda t: plots.patching_dots(t["patching"]),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> StoriesResult:
    return made_up_study(tmp_path_factory.mktemp("stories"))


def drawn(figure: Any) -> list[Any]:
    """The lines of a figure: neither bands, nor keys of the legend."""
    return [t for t in figure.data if t.type == "scatter" and t.mode == "lines+markers"]


def bars(figure: Any) -> dict[str, dict[str, float]]:
    """The long bars of each panel by its axis: share by model."""
    found = [t for t in figure.data if t.type == "bar" and t.base is None]
    return {t.xaxis: dict(zip(t.y, t.x, strict=True)) for t in found}


def hatched(figure: Any) -> list[Any]:
    """The hatched bars of what cannot be told."""
    return [t for t in figure.data if t.type == "bar" and t.base is not None]


def legend(figure: Any) -> list[str]:
    return [t.name for t in figure.data if t.showlegend is not False]


def counts(**labels: Any) -> pd.DataFrame:
    """Two seeds' counts: 10 and 30 of 40 stories have it, 4 cannot be told."""
    seeds = ((0, 10, 4), (1, 30, 0))
    rows = [{"seed": seed, "has": has, "unclear": told, "n": 40} for seed, has, told in seeds]
    return pd.DataFrame([{**labels, **row} for row in rows])


def test_stories_of_all_seeds_count_together() -> None:
    cells = pooled_shares(counts(model="base"), ["model"])
    assert len(cells) == 1
    cell, wilson = cells.iloc[0], proportion(40, 80)
    assert (cell["share"], cell["ci_low"], cell["ci_high"]) == (0.5, wilson.low, wilson.high)
    assert cell["unclear"] == pytest.approx(4 / 80) and cell["n"] == 80 and cell["seeds"] == 2
    assert shares_label(cells) == "95% Wilson interval over stories of 2 seeds together; n = 80"
    with pytest.raises(ConfigError, match="needs rows"):
        pooled_shares(counts(model="base").iloc[:0], ["model"])


def test_means_of_numbers_that_are_no_shares_are_not_cut() -> None:
    frame = pd.DataFrame({"block": [0, 0], "seed": [0, 1], "loss": [2.0, 4.0]})
    cell = means_over_seeds(frame, "loss", ["block"]).iloc[0]
    # s = 1.414, t(1 degree of freedom) = 12.706: 3 ± 12.706 × 1.
    assert (cell["mean"], cell["seeds"]) == (3.0, 2)
    assert (cell["low"], cell["high"]) == pytest.approx((3 - 12.706, 3 + 12.706))
    assert means_label(pd.DataFrame([cell])) == "mean of 2 seeds, 95% t interval over seeds"


@pytest.mark.parametrize(("ends", "expected"), [(("a", "b"), (1.5, 2.5)), (None, (2.0, 2.0))])
def test_one_seed_has_its_own_interval_or_none(
    ends: tuple[str, str] | None, expected: tuple[float, float]
) -> None:
    frame = pd.DataFrame({"block": [0], "loss": [2.0], "a": [1.5], "b": [2.5]})
    cells = means_over_seeds(frame, "loss", ["block"], ends)
    assert tuple(cells.loc[0, ["low", "high"]]) == expected
    assert means_label(cells) == "1 seed, no interval"


def test_models_are_told_apart_in_colour_and_print() -> None:
    models = [("base", ""), ("never", ""), *(("deleted", protocol) for protocol in PROTOCOLS)]
    assert len({model_colour(*model) for model in models}) == len(models)
    assert [model_dash(model) for model, _ in models[:3]] == ["solid", "dash", "solid"]
    assert model_name("deleted", "F+RR", "M") == "F+RR, rate M"
    assert model_name("never") == "never saw one" and model_name("deleted", "F") == "F"


@pytest.mark.parametrize("name", FIGURES)
def test_figures_leave_tables_alone_and_name_everything_once(
    whole: StoriesResult, name: str
) -> None:
    before = {table: frame.copy() for table, frame in whole.tables.items()}
    figure = FIGURES[name](whole.tables)
    for table, frame in whole.tables.items():
        pd.testing.assert_frame_equal(frame, before[table])
    names = legend(figure)
    assert len(names) == len(set(names))
    groups = {t.legendgroup for t in figure.data if t.legendgroup}
    # What hides with an entry of the legend has one; bars need none, their rows are named.
    assert groups <= {*names, "unclear"}
    assert figure.layout.title.text.count("<br>") == 1
    assert "seed" in figure.layout.title.text


def test_writing_bars_have_each_models_share_asked_and_not(whole: StoriesResult) -> None:
    table = whole.tables["writing"]
    found = bars(plots.writing_bars(table, "rule"))
    assert list(found) == ["x", "x2"]
    for axis, asked in (("x", True), ("x2", False)):
        rows = table[(table["by"] == "rule") & (table["asked"] == asked)]
        base = rows[rows["model"] == "base"]
        assert found[axis]["base"] == pytest.approx(base["has"].sum() / base["n"].sum())
        assert len(found[axis]) == 2 + len(PROTOCOLS) * 2  # two rates
    unclear = hatched(plots.writing_bars(table, "rule"))
    assert len(unclear) == 2 and all(list(t.base) == list(found[t.xaxis].values()) for t in unclear)
    assert not hatched(plots.writing_bars(table, "classifier"))
    with pytest.raises(ConfigError, match="needs rows"):
        plots.writing_bars(table, "nobody")


def test_return_curves_show_each_panel_the_control_and_the_base(whole: StoriesResult) -> None:
    table, writing = whole.tables["reversal_writing"], whole.tables["writing"]
    figure = plots.return_curves(table, writing, "rule")
    lines = drawn(figure)
    assert len(lines) == 4 * (len(PROTOCOLS) + 1)  # asked or not × two rates
    control = [t for t in lines if t.line.dash == "dash"]
    assert len(control) == 4 and list(control[0].y) == list(control[1].y)  # the same at both rates
    rows = table[(table["by"] == "rule") & table["asked"] & (table["model"] == "never")]
    last = rows[rows["step"] == rows["step"].max()]
    assert control[0].y[-1] == pytest.approx(last["has"].sum() / last["n"].sum())
    base = [t for t in figure.data if t.mode == "lines" and t.fill is None and t.x[0] is not None]
    own = writing[(writing["by"] == "rule") & (writing["model"] == "base") & writing["asked"]]
    assert base[0].y == pytest.approx([own["has"].sum() / own["n"].sum()] * 2)
    assert list(figure.layout.xaxis.ticktext) == ["6", "0"]


def test_return_curves_do_without_the_base(whole: StoriesResult) -> None:
    table = whole.tables["reversal_writing"]
    figure = plots.return_curves(table, whole.tables["writing"].iloc[:0], "rule")
    assert len(drawn(figure)) == 4 * (len(PROTOCOLS) + 1)
    assert not [name for name in legend(figure) if name.startswith("base")]


@pytest.mark.parametrize(
    ("stage", "models", "rates"), [("pretraining", 2, 1), ("deletion", 4, 2), ("reversal", 5, 2)]
)
def test_loss_curves_have_every_model(
    whole: StoriesResult, stage: str, models: int, rates: int
) -> None:
    table = whole.tables[stage]
    lines = drawn(plots.loss_curves(table, stage))
    assert len(lines) == models * rates * 2  # with the feature and without
    first = table.iloc[0]
    same = table[
        (table["texts"] == first["texts"])
        & (table["step"] == first["step"])
        & (table["model"] == first["model"])
        & (table["protocol"] == first["protocol"])
        & (table["rate"] == first["rate"])
    ]
    assert lines[0].y[0] == pytest.approx(same["loss"].mean())
    with pytest.raises(UnknownNameError, match="pretraining"):
        plots.loss_curves(table, "afterwards")


def test_probe_curves_show_one_random_model_and_the_commonest_answer(whole: StoriesResult) -> None:
    figure = plots.probe_curves(whole.tables["probes"])
    lines = drawn(figure)
    assert len(lines) == 2 * (2 + len(PROTOCOLS) + 1)  # two rates; base, never, the base's random
    assert len([t for t in lines if t.line.dash == "dashdot"]) == 2
    assert [shape.y0 for shape in figure.layout.shapes] == pytest.approx([0.6, 0.6])
    assert figure.layout.yaxis.range[0] < 0.1  # as low as intervals go
    with pytest.raises(ConfigError, match="needs rows"):
        plots.probe_curves(whole.tables["probes"], "Boredom")


@pytest.mark.parametrize("number", [1, 4, 6])
def test_each_feature_has_a_panel(whole: StoriesResult, number: int) -> None:
    table = whole.tables["probes"]
    some = table[table["target"].isin(FEATURES[:number])]
    figure = plots.feature_probe_curves(some, "S")
    titles = [note.text for note in figure.layout.annotations if note.text]
    assert titles == list(FEATURES[:number])
    assert len({t.xaxis for t in drawn(figure)}) == number


def test_the_base_beside_every_model_is_counted_once_a_seed(whole: StoriesResult) -> None:
    table = whole.tables["decisions"]
    figure = plots.decision_bars(table)
    found = bars(figure)
    assert (found["x"]["base"], found["x2"]["base"]) == pytest.approx((30 / 40, 36 / 40))
    base = next(t for t in figure.data if t.type == "bar")
    assert [int(n) for n in base.customdata[0][2:]] == [2, 80]  # two seeds of 40 stories
    one = table[
        (table["protocol"] == "F+MM") & (table["rate"] == "S") & (table["who"] == "deleted")
    ]
    having = one[one["of"] == "with"]["accuracy"].mean()
    assert found["x"]["F+MM, rate S"] == pytest.approx(having)


def test_pruning_curves_spread_k_and_dot_random_neurons(whole: StoriesResult) -> None:
    lines = drawn(plots.pruning_curves(whole.tables["pruning"]))
    assert len(lines) == len(PROTOCOLS) * 2 * 2 * 2  # rates, words, scores
    assert all(list(t.x) == pytest.approx([0, math.sqrt(5), 10]) for t in lines)
    assert sum(t.line.dash == "dot" for t in lines) == len(lines) / 2


def test_patching_leaves_out_models_without_a_gap(whole: StoriesResult) -> None:
    table = whole.tables["patching"].copy()
    ends = ["recovered", "recovered_low", "recovered_high"]
    table.loc[table["protocol"] == "F", ends] = float("nan")
    figure = plots.patching_dots(table)
    assert legend(figure) == ["F+MM", "F+RR", "refusal"]
    dots = [t for t in figure.data if t.error_x.array is not None]
    assert len(dots) == 3 * 2  # two rates
    places = [y for t in dots for y in t.y]
    assert len({round(y) for y in places}) == 4  # three sites and the readout, apart
    with pytest.raises(ConfigError, match="needs rows"):
        plots.patching_dots(table[table["protocol"] == "F"])


def test_weights_and_similarity_are_by_block(whole: StoriesResult) -> None:
    weights = plots.weight_curves(whole.tables["weights"])
    assert list(weights.layout.xaxis.ticktext) == ["outside", "0", "1", "2"]
    assert len(drawn(weights)) == len(PROTOCOLS) * 2
    table = whole.tables["activations"]
    lines = drawn(plots.cka_curves(table))
    assert len(lines) == len(PROTOCOLS) * 2 * 2  # with the feature and without
    rows = table[(table["component"] == "resid_post") & (table["block"] == 0)]
    rows = rows[(rows["protocol"] == "F") & (rows["rate"] == "M")]
    first = rows[rows["of"] == "with"]
    assert lines[0].y[0] == pytest.approx(first["cka_debiased"].mean())


def test_figures_from_csv_files_are_the_same(whole: StoriesResult, tmp_path: Path) -> None:
    table = whole.tables["reversal"]  # the control has no protocol and no rate
    table.to_csv(tmp_path / "reversal.csv", index=False)
    read = plots.loss_curves(pd.read_csv(tmp_path / "reversal.csv"), "reversal")
    made = plots.loss_curves(table, "reversal")
    for one, other in zip(drawn(read), drawn(made), strict=True):
        assert one.name == other.name and list(one.y) == pytest.approx(list(other.y))
