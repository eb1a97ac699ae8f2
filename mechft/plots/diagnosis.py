"""The figure of a diagnosis."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING

from mechft.plots.colours import BAD, GOOD, GREY
from mechft.plots.style import figure

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from mechft.analysis.diagnosis import Diagnosis

_LINE = 48  # letters that fit beside the bars
_SIDE = {"wrapped": 1, "damaged": -1, "no vote": 0}
_COLOUR = {"wrapped": GOOD, "damaged": BAD, "no vote": GREY}


def diagnosis(result: Diagnosis) -> go.Figure:
    """Each tool's vote as a bar of its weight, damaged left, wrapped right; what it goes by beside it."""
    made = figure(f"{result.verdict}: {result.reason}", "weight of the vote", "")
    frame = result.frame
    made.add_bar(
        x=[_SIDE[row.finding] * row.weight for row in frame.itertuples()],
        y=frame["tool"],
        orientation="h",
        marker={"color": [_COLOUR[finding] for finding in frame["finding"]]},
        width=0.5,
        customdata=frame[["finding", "detail", "meaning", "rule"]],
        hovertemplate="<b>%{y}</b>: %{customdata[0]}<br>%{customdata[1]}<br>%{customdata[2]}<br>"
        "%{customdata[3]}<extra></extra>",
        showlegend=False,
    )
    for row in frame.itertuples():
        number = "no number" if row.value != row.value else f"{row.value:.2f}"
        if row.value == row.value and row.low == row.low:
            number += f" [{row.low:.2f}, {row.high:.2f}]"
        made.add_annotation(
            x=1.2, y=row.tool, xanchor="left", showarrow=False, align="left", font={"size": 11},
            text="<br>".join([*wrap(f"{row.finding}: {row.meaning}", _LINE), number]),
        )  # fmt: skip
    made.add_vline(x=0, line={"color": GREY, "width": 1})
    made.update_xaxes(
        range=[-1.15, 4.2], tickvals=[-1, -0.5, 0, 0.5, 1],
        ticktext=["damaged 1", "½", "0", "½", "wrapped 1"],
    )  # fmt: skip
    made.update_yaxes(autorange="reversed")
    made.update_layout(height=112 + 58 * len(frame))
    return made
