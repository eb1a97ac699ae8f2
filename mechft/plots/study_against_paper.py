"""Figure of a study's cells against the paper's Table 5."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mechft.errors import require
from mechft.plots.colours import GREY
from mechft.plots.seed_curves import Panels, chosen, key, values_of
from mechft.plots.study_style import RATES, SYMBOLS, question_name

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


def against_paper(frame: pd.DataFrame) -> go.Figure:
    """Our cells against the paper's Table 5, a panel a question; on the diagonal both agree.

    Args:
        frame: As ``mechft.experiments.pcfg.comparison.against_table5`` makes it.

    Raises:
        ConfigError: If no cell is in both.
    """
    require(
        len(frame) > 0, "No cell of this study is in the paper's Table 5: there is none to draw."
    )
    questions = [*values_of(frame, "evaluation")]
    columns = 2 if len(questions) > 1 else 1
    rows = -(-len(questions) // columns)
    panels = Panels("row", tuple(range(rows)), "column", tuple(range(columns)), height=300)
    rates, priors = values_of(frame, "rate"), values_of(frame, "prior")
    made = panels.figure(
        "Accuracy here against the paper's Table 5, a point a cell",
        f"ours is the mean over seeds after all steps, the paper's is after 10,000; {len(frame)} cells",
        "the paper's accuracy",
        "accuracy here",
        len(rates) + len(priors),
    )
    for place, annotation in enumerate(made.layout.annotations):
        annotation.text = question_name(questions[place]) if place < len(questions) else ""
    for rate in rates:
        key(
            made,
            f"rate {rate}",
            RATES.get(rate, GREY),
            symbol="circle",
            size=9,
            color=RATES.get(rate, GREY),
        )
    for prior in priors:
        key(made, f"{prior} prior", GREY, symbol=SYMBOLS.get(prior, "cross"), size=9, color=GREY)
    for question, (_, where) in zip(questions, panels.each(), strict=False):
        made.add_scatter(
            x=[0, 1], y=[0, 1], mode="lines", line={"color": GREY, "dash": "dot", "width": 1.5},
            hoverinfo="skip", showlegend=False, **where,
        )  # fmt: skip
        here = chosen(frame, {"evaluation": question})
        for (rate, prior), cells in here.groupby(["rate", "prior"], sort=False):
            ink = RATES.get(rate, GREY)
            made.add_scatter(
                x=cells["paper"],
                y=cells["accuracy"],
                mode="markers",
                showlegend=False,
                legendgroup=f"rate {rate}",
                marker={
                    "color": ink,
                    "symbol": SYMBOLS.get(prior, "cross"),
                    "size": 9,
                    "opacity": 0.75,
                    "line": {"width": 1, "color": "#ffffff"},
                },
                customdata=cells[["c_tr", "difference"]].to_numpy(),
                hovertemplate=f"<b>{prior} prior, rate {rate}, C_Tr = %{{customdata[0]:g}}</b><br>here "
                "%{y:.1%}, the paper's %{x:.1%}, difference %{customdata[1]:+.1%}<extra></extra>",
                **where,
            )
    made.update_xaxes(range=[-0.05, 1.05], tickformat=".0%", showgrid=True)
    return made
