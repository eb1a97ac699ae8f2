"""Figures of where models look."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mechft.plots.colours import marker, model_colours
from mechft.plots.grids import diff_panels
from mechft.plots.style import PAGE, count_label, error_bars, figure, legend_below, token_ticks

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from mechft.analysis.attention import AttentionDiff, AttentionMass
    from mechft.analysis.attention_maps import AttentionMaps

_INFERNO = ("#000004", "#57106e", "#bc3754", "#f98e09", "#fcffa4")  # at 0, ¼, ½, ¾ and 1


def attention_diff(result: AttentionDiff) -> go.Figure:
    """Jensen–Shannon divergence of every head's pattern from the base's, a panel per model."""
    frame = result.frame
    return diff_panels(
        frame, "js", f"JS divergence<br>from base, bits<br>({count_label(frame)})", columns="head",
        x="head", form=".2f", told=["ci_low", "ci_high"],
        hover="%{y}, head %{x}<br>%{z:.3f} bits [%{customdata[0]:.3f}, %{customdata[1]:.3f}]",
    )  # fmt: skip


def attention_mass(result: AttentionMass) -> go.Figure:
    """Attention on each group of tokens, head by head: base and fine-tuned models side by side."""
    frame = result.frame
    groups, models = (list(dict.fromkeys(frame[column])) for column in ("group", "model"))
    heads = [f"{b}.{h}" for b, h in dict.fromkeys(zip(frame["block"], frame["head"], strict=True))]
    made = figure("", "", "")
    made.set_subplots(
        1, max(1, len(groups)), shared_yaxes=True, subplot_titles=groups, horizontal_spacing=0.03
    )
    inks = model_colours(models)
    for (group, model), rows in frame.groupby(["group", "model"], sort=False):
        place, ink = models.index(model), inks[str(model)]
        apart = 0.5 * ((place + 0.5) / len(models) - 0.5)  # models of a head below each other
        named = [f"{b}.{h}" for b, h in zip(rows["block"], rows["head"], strict=True)]
        made.add_scatter(
            x=rows["mass"],
            y=[heads.index(head) + apart for head in named],
            name=str(model),
            legendgroup=str(model),
            mode="markers",
            marker={"color": ink, "symbol": marker(ink), "size": 7},
            error_x=error_bars(rows, "mass", "ci_low", "ci_high"),
            text=named,
            customdata=rows[["ci_low", "ci_high", "change", "change_low", "change_high"]].values,
            hovertemplate=f"<b>{model}</b>, head %{{text}} on {group}<br>%{{x:.1%}} "
            "[%{customdata[0]:.1%}, %{customdata[1]:.1%}]<br>change %{customdata[2]:+.1%} "
            "[%{customdata[3]:+.1%}, %{customdata[4]:+.1%}]<extra></extra>",
            row=1,
            col=groups.index(group) + 1,
        )
    made.update_xaxes(
        title="share of attention",
        tickformat=".0%",
        range=[-0.05, 1.05],
        tickvals=[0, 0.5, 1],
        showgrid=True,
    )
    made.update_yaxes(
        tickvals=list(range(len(heads))),
        ticktext=heads,
        range=[len(heads) - 0.4, -0.6],
        showgrid=True,
    )
    made.update_yaxes(title=f"block.head ({count_label(frame)})" if heads else "", col=1)
    made.update_layout(height=116 + len(heads) * max(22, 10 * len(models)))
    legend_below(made)
    return made


def attention_maps(result: AttentionMaps) -> go.Figure:
    """Patterns as in Jain et al. (2024), Fig. 10: attending token down, attended token across.

    A row per head, a column per model. The colours spend more of their range on small shares, so that
    attention spread over many tokens shows beside attention on one.
    """
    import plotly.graph_objects as go

    models = list(dict.fromkeys(model for model, _, _ in result.patterns))
    heads = list(dict.fromkeys((block, head) for _, block, head in result.patterns))
    made = figure("", "", "")
    square = min(330, (PAGE - 200) // len(models))  # pixels across a panel
    inside = max(9 * min(len(result.labels), 60), square)  # nine for each label
    height = (inside + 80) * len(heads)
    made.set_subplots(
        len(heads), len(models), horizontal_spacing=0.08, vertical_spacing=62 / max(height, 140),
        subplot_titles=[f"{m}, block {b} head {h}" for b, h in heads for m in models],
    )  # fmt: skip
    places = list(range(len(result.labels)))
    named = list(enumerate(result.labels))
    pairs = [[f"{i} ({query}) → {j} ({key})" for j, key in named] for i, query in named]
    for (model, block, head), weights in result.patterns.items():
        row, column = heads.index((block, head)) + 1, models.index(model) + 1
        made.add_trace(
            go.Heatmap(
                z=weights.numpy(),
                x=places,
                y=places,
                coloraxis="coloraxis",
                customdata=pairs,
                hovertemplate=f"<b>{model}</b>, block {block} head {head}<br>%{{customdata}}<br>%{{z:.1%}}"
                "<extra></extra>",
            ),
            row=row,
            col=column,
        )  # fmt: skip
    made.update_xaxes(**token_ticks(result.labels))
    made.update_yaxes(**token_ticks(result.labels, across=False), autorange="reversed")
    made.update_xaxes(title={"text": "attended token", "font": {"size": 11}}, row=len(heads))
    made.update_yaxes(title={"text": "attending token", "font": {"size": 11}}, col=1)
    rows = "1 row" if result.n == 1 else f"mean of {result.n:,} rows"
    made.update_layout(
        coloraxis={
            "colorscale": list(zip((0, 0.05, 0.2, 0.5, 1), _INFERNO, strict=True)),
            "cmin": 0,
            "cmax": 1,
            "colorbar": {"title": {"text": f"attention<br>({rows})"}, "tickformat": ".0%"},
        },
        height=height + 60,
        margin={"l": 70, "b": 70},
    )
    made.update_annotations(font_size=12)
    return made
