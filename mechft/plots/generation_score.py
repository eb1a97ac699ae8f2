"""Figure of how often models write what was looked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mechft.plots.colours import PALETTE
from mechft.plots.style import accuracy_axis, count_label, error_bars, figure, legend_below

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from mechft.analysis.generation_score import GenerationScore


def generation_score(result: GenerationScore) -> go.Figure:
    """Shares with intervals, models side by side, a bar a set of prompts; a panel a judge."""
    frame = result.frame
    judges, prompts = (list(dict.fromkeys(frame[name])) for name in ("judge", "prompts"))
    made = figure("Texts that have what was looked for", "", "", barmode="group")
    made.set_subplots(1, len(judges), shared_yaxes=True, subplot_titles=[f"by {j}" for j in judges])
    for place, name in enumerate(prompts):
        for column, judge in enumerate(judges, start=1):
            rows = frame[(frame["prompts"] == name) & (frame["judge"] == judge)]
            made.add_bar(
                x=rows["model"], y=rows["share"], name=name, legendgroup=name,
                marker={
                    "color": PALETTE[place % len(PALETTE)],
                    "pattern": {"shape": ("", "/", ".", "x")[place % 4]},
                },
                error_y=error_bars(rows, "share", "ci_low", "ci_high"),
                customdata=rows[["ci_low", "ci_high", "has", "n", "unclear"]],
                hovertemplate=f"<b>%{{x}}</b>, {name}: %{{y:.1%}} [%{{customdata[0]:.1%}}, "
                "%{customdata[1]:.1%}]<br>%{customdata[2]} of %{customdata[3]} texts, %{customdata[4]} "
                "cannot be told<extra></extra>",
                row=1, col=column,
            )  # fmt: skip
    accuracy_axis(made)
    made.update_yaxes(title=f"share of texts ({count_label(frame)})", row=1, col=1)
    legend_below(made)
    return made
