"""Figure of the answers given before and after pruning."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mechft.plots.colours import BAD, GOOD, GREY
from mechft.plots.style import count_label, figure, legend_below

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from mechft.analysis.predicted_answers import PredictedAnswers


def predicted_answers(result: PredictedAnswers) -> go.Figure:
    """Histogram of answers, right ones filled, a row per removal; the right distribution as a line."""
    frame = result.frame
    models = list(dict.fromkeys(frame["model"]))
    removals = list(dict.fromkeys(frame["removal"]))
    spread = result.spread().set_index(["model", "removal"])
    names = dict(zip(frame["token"], frame["answer"], strict=True))
    numeric = all(str(name).isdigit() for name in names.values())
    tokens = sorted(names, key=lambda token: (int(names[token]) if numeric else 0, token))
    made = figure("", "", "", barmode="stack", bargap=0.15)
    made.set_subplots(
        len(removals),
        len(models),
        shared_xaxes=True,
        shared_yaxes="all",
        vertical_spacing=0.14 / len(removals),
        horizontal_spacing=0.05,
        subplot_titles=[
            f"{model}, {removal if removal != 'none' else 'nothing removed'}: right "
            f"{spread.loc[(model, removal), 'accuracy']:.0%}, effectively "
            f"{spread.loc[(model, removal), 'effective_answers']:.1f} answers"
            for removal in removals
            for model in models
        ],
    )
    for (model, removal), rows in frame.groupby(["model", "removal"], sort=False):
        rows = rows.set_index("token").reindex(tokens)
        where = {"row": removals.index(removal) + 1, "col": models.index(model) + 1}
        x = [str(names[token]) for token in tokens]
        n = rows["n"].max()
        hover = f"<b>{model}</b>, {removal}<br>answer %{{x}}: %{{y:.1%}} of rows<extra>"
        right, given = rows["right"].fillna(0), rows["predicted"].fillna(0)
        for name, count, fill in (
            ("answered so, right", right, {"color": GOOD}),
            ("answered so, wrong", given - right, {"color": BAD, "pattern": {"shape": "/"}}),
        ):
            made.add_bar(
                x=x, y=count / n, name=name, legendgroup=name, marker=fill,
                hovertemplate=f"{hover}{name}</extra>", **where,
            )  # fmt: skip
        made.add_scatter(
            x=x, y=given / n, mode="markers", marker={"size": 1, "opacity": 0}, showlegend=False,
            error_y={
                "array": rows["ci_high"].fillna(0) - given / n,
                "arrayminus": given / n - rows["ci_low"].fillna(0),
                "thickness": 1, "width": 2, "color": "#333333",
            },
            hoverinfo="skip", **where,
        )  # fmt: skip
        made.add_scatter(
            x=x, y=rows["true"].fillna(0) / n, name="right answers", legendgroup="right answers",
            mode="lines", line={"color": GREY, "shape": "hvh", "width": 2},
            hovertemplate=f"{hover}right answers</extra>", **where,
        )  # fmt: skip
    made.update_annotations(font={"size": 12})
    made.update_xaxes(type="category", categoryorder="array", nticks=25)
    made.update_xaxes(title="answer", row=len(removals))
    made.update_yaxes(tickformat=".0%", rangemode="tozero", showgrid=True)
    made.update_yaxes(title=f"rows ({count_label(frame)})", col=1)
    made.update_layout(height=110 + 210 * len(removals))
    legend_below(made)
    return made
