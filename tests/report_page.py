"""A small report that holds everything a report can hold, and texts that would break a careless page."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from mechft.experiments.checks import Check
from mechft.plots.style import accuracy_axis, figure, line_with_band, reference_line
from mechft.report.render import Section, checks_table, render

HOSTILE = 'it\'s </script><b> & "so"'
CHECKS = (
    Check(f"one {HOSTILE}", "a & b", True),
    Check("another", "c", False),
    Check("third", "d", None),
)
NUMBERS = pd.DataFrame(
    {"model": ["base", HOSTILE, "b,c"], "accuracy": [1 / 3, float("nan"), 1.0], "n": [1000, 2, 3]}
)
LEVELS = pd.DataFrame(
    [["low", 0.1, 2.0, 3.0]],
    columns=pd.MultiIndex.from_tuples(
        [("", "prior"), ("O_PT", "here"), ("O_PT", "paper"), ("O_FT", "here")]
    ),
)
CODE = f"mf.plot(found)  # {HOSTILE} and a line that is too long for a narrow screen {'=' * 60}"


def curves() -> go.Figure:
    """Two lines with bands, one of them black, and one that is nearly."""
    made = figure(f"Curves of {HOSTILE}<br><sub>n = 40</sub>", "step", "accuracy")
    for name, ink in (("base", "#000000"), ("fine-tuned", "#0d0887")):
        line_with_band(
            made, [0, 1, 2], [0.1, 0.5, 0.9], [0.0, 0.4, 0.8], [0.2, 0.6, 1.0], name=name,
            line_colour=ink, hover="step ",
        )  # fmt: skip
    accuracy_axis(made)
    reference_line(made, 0.5)
    return made


def cells() -> go.Figure:
    """Two panels of coloured cells."""
    made = figure("", "", "")
    made.set_subplots(1, 2, subplot_titles=["base", "fine-tuned"])
    for column in (1, 2):
        made.add_heatmap(z=[[0, 1], [2, 3]], coloraxis="coloraxis", row=1, col=column)
    made.update_layout(coloraxis={"colorscale": "Cividis", "colorbar": {"title": {"text": "far"}}})
    return made


def bars() -> go.Figure:
    """Bars with error bars."""
    made = figure("Bars", "", "")
    made.add_bar(x=["a", "b"], y=[1, 2], marker={"color": ["#D55E00", "#000000"]})
    made.data[0].error_y = {"type": "data", "array": [0.1, 0.2], "color": "#333333"}
    return made


SECTIONS = (
    Section(
        f"What was expected: {HOSTILE}",
        ["A paragraph.", checks_table(CHECKS, "Claim")],
        data="claims.csv",
    ),
    Section(
        "Lines and a table",
        ["Words with a list:<ul><li>one</li></ul>"],
        [curves()],
        NUMBERS,
        "numbers.csv",
        CODE,
        True,
        ["Each line is a <b>model</b>."],
    ),
    Section(
        "Cells and bars",
        ["By hand: <table><thead><tr><th>old</th></tr></thead><tbody><tr><td>1</td></tr></tbody></table>"],
        [cells(), bars()],
        LEVELS,
    ),
    Section("What was run", ["Versions."], code="mechft demo"),
)  # fmt: skip


def small_report() -> str:
    """Its HTML."""
    return render(f"A report, {HOSTILE}", ["It <b>holds</b>.", "And more."], SECTIONS)
