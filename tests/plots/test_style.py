"""The common style: colours that stay with their model, legends and numbers that fit a page."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mechft.plots import plot
from mechft.plots.colours import (
    GREY,
    INKS,
    PALETTE,
    colour,
    marker,
    model_colours,
    question_colours,
)
from mechft.plots.grids import diff_panels, numbers
from mechft.plots.style import figure, kept_apart, legend_below, line_with_band
from mechft.training.trained import Trained


def test_a_model_has_one_colour_in_every_figure() -> None:
    """Whoever stands beside it, and whether the base is drawn or not."""
    together = model_colours(["base", "fine-tuned", "Scr.+FT", "mine"])
    assert together["base"] == colour("base") == PALETTE[0]
    for names in (["fine-tuned"], ["Scr.+FT", "fine-tuned"], ["mine", "fine-tuned", "base"]):
        assert all(model_colours(names)[n] == together[n] for n in names if n != "mine")
    alone = model_colours(["pcfg-tiny-low-to-b"], first=1)
    assert alone == {
        "pcfg-tiny-low-to-b": model_colours(["x", "pcfg-tiny-low-to-b"])["pcfg-tiny-low-to-b"]
    }


@pytest.mark.parametrize("allot", [model_colours, question_colours])
def test_no_two_names_share_a_colour_or_a_marker(allot: Any) -> None:
    known = ["base", "acc_pt", "reFT", "C_Tr = 1", "acc_ft_cte1"]
    for names in itertools.permutations([*known, "x", "y"]):
        inks = allot(names)
        assert list(inks) == list(names)
        assert len(set(inks.values())) == len({marker(ink) for ink in inks.values()}) == len(names)
    assert len(allot(map(str, range(20)))) == 20  # colours come again; none is missing


def test_models_and_questions_share_no_colour() -> None:
    assert not set(PALETTE) & set(INKS)


def test_words_can_be_read_on_white() -> None:
    """WCAG 2 asks for 4.5:1."""
    parts = [int(GREY[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (((p + 0.055) / 1.055) ** 2.4 for p in parts)
    assert 1.05 / (0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05) > 4.5


def lines(*names: str) -> Any:
    made = figure("", "", "")
    for name in names:
        line_with_band(made, [0], [1], [0], [1], name=name, line_colour=PALETTE[0])
    return made


def test_a_legend_makes_room_for_itself() -> None:
    """Panels keep their height however many lines of names follow."""
    inside = []
    for count in (2, 6, 20):
        made = lines(*(f"a name of some length, number {i}" for i in range(count)))
        before = made.layout.height
        legend_below(made)
        margin = made.layout.margin
        inside.append(made.layout.height - margin.t - margin.b)
        assert made.layout.height > before
    assert len(set(inside)) == 1
    single = lines("one", "one")
    legend_below(single)
    assert single.layout.showlegend is False


def test_places_kept_are_far_enough_apart() -> None:
    assert kept_apart([0, 1, 2, 5, 6, 9], 3) == [0, 3, 5]
    assert kept_apart([0, 1], 0) == [0, 1]


@pytest.mark.parametrize("heads", [4, 8, 12, 32])
@pytest.mark.parametrize("models", [1, 2, 4])
def test_numbers_in_cells_never_overlap(heads: int, models: int) -> None:
    """On a page of 700 pixels a cell has six for each letter, or no number."""
    rows = [
        {"model": f"m{m}", "block": b, "head": h, "value": 0.123 * (h - 1), "n": 5}
        for m in range(models)
        for b in range(2)
        for h in range(heads)
    ]
    made = diff_panels(pd.DataFrame(rows), "value", "v", columns="head", told=["n"], hover="")
    across = max(len({a.domain for a in made.select_xaxes()}), 1)
    for panel in made.data:
        assert panel.z.shape == (2, heads) and panel.customdata.shape == (2, heads, 1)
        if panel.texttemplate is not None:
            longest = max(len(f"{value:.2g}") for value in panel.z.ravel())
            assert (700 - 170) / (heads * across) >= 6 * longest
    assert (made.data[0].texttemplate is None) == (heads == 32)


def test_numbers_of_nothing() -> None:
    assert numbers(".2g", 4, [float("nan")]) == "%{z:.2g}"
    assert numbers("d", 4, np.array([3.0, 12.0])) == "%{z:d}"


def test_a_history_has_its_loss(trained: Trained) -> None:
    columns = {"learning_rate": 1.0, "ci_low": 0.0, "ci_high": 1.0, "n": 9, "interval": "w"}
    records = tuple(
        {"step": step, "train_loss": loss, "evaluation": name, "accuracy": 0.5, **columns}
        for step, loss in ((0, None), (8, 2.0), (27, 1.5))
        for name in ("acc_pt_cte0", "acc_ft_cte1")
    )
    made = plot(Trained(trained.model, trained.task, records=records, name="mine"))
    (loss,) = [t for t in made.data if t.name == "training loss"]
    assert list(loss.x) == pytest.approx([2, 3]) and list(loss.y) == [2.0, 1.5]
    assert made.layout.title.text == "mine" and "n = 9" in made.layout.yaxis.title.text
    lossless = tuple({**record, "train_loss": None} for record in records)
    bare = plot(Trained(trained.model, trained.task, records=lossless, name="mine"))
    assert {t.name for t in bare.data if t.name} == {"O_PT, uncorrelated", "O_FT, correlated"}
