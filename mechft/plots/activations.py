"""Figures of how activations and outputs differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mechft.plots.colours import GREY, marker, model_colours
from mechft.plots.grids import colour_scale, diff_panels, stacked
from mechft.plots.style import (
    accuracy_axis,
    count_label,
    error_bars,
    figure,
    legend_below,
    line_with_band,
    note,
)

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from mechft.analysis.activation_diff import ActivationDiff, DifferenceSpectrum
    from mechft.analysis.logit_lens import LogitLens
    from mechft.analysis.output_diff import OutputDiff

_MEASURES = {
    "agreement": ("same answer", ".0%"),
    "accuracy": ("right answer", ".0%"),
    "kl_from_base": ("KL(base ‖ model), nats", ".2g"),
    "kl_to_base": ("KL(model ‖ base), nats", ".2g"),
    "total_variation": ("total variation", ".0%"),
}
_LEGEND = "mean ‖Δ‖ /<br>mean ‖base‖"


def activation_diff(result: ActivationDiff) -> go.Figure:
    """Relative change of every site: blocks down, components across; or sites down, positions across."""
    frame = result.frame
    if frame.groupby(["model", "hook"])["position"].nunique().max() > 1:
        return _by_position(frame)
    return diff_panels(
        frame, "relative_change", f"{_LEGEND}<br>({count_label(frame)})", told=["hook", "cka"],
        hover="%{customdata[0]}<br>mean ‖Δ‖ / mean ‖base‖ %{z:.3g}<br>CKA %{customdata[1]:.3f}",
    )  # fmt: skip


def _by_position(frame: pd.DataFrame) -> go.Figure:
    """Relative change position by position, a panel per model."""
    import plotly.graph_objects as go

    models = list(dict.fromkeys(frame["model"]))
    made = figure("", "", "")
    made.set_subplots(
        len(models), 1, shared_xaxes=True, subplot_titles=models,
        vertical_spacing=0.14 / len(models),
    )  # fmt: skip
    for row, model in enumerate(models, 1):
        here = frame[frame["model"] == model]
        order = list(dict.fromkeys(here["hook"]))
        grid = here.pivot(index="hook", columns="position", values="relative_change").loc[order]
        made.add_trace(
            go.Heatmap(
                z=grid.values,
                x=list(grid.columns),
                y=[h.removeprefix("blocks.").replace("hook_", "") for h in grid.index],
                coloraxis="coloraxis",
                customdata=stacked(here, "hook", "position", ["cka"], grid),
                hovertemplate=f"<b>{model}</b><br>%{{y}}, position %{{x}}<br>%{{z:.3g}}<br>"
                "CKA %{customdata[0]:.3f}<extra></extra>",
            ),
            row=row,
            col=1,
        )
    sites = frame["hook"].nunique()
    made.update_xaxes(title="position in the prompt", row=len(models))
    colour_scale(
        made, f"{_LEGEND}<br>({count_label(frame)})", float(frame["relative_change"].max())
    )
    made.update_layout(
        height=110 + len(models) * (60 + 24 * sites),
        margin={"l": 110},
    )
    return made


def difference_spectrum(result: DifferenceSpectrum) -> go.Figure:
    """Share of the difference that its first directions hold, a column per component, a line per block.

    Solid: of the mean ‖Δ‖², mean shift included. Dotted: of the variance about the mean.
    """
    frame = result.frame
    models = list(dict.fromkeys(frame["model"]))
    components = list(dict.fromkeys(frame["component"]))
    made = figure("", "", "")
    made.set_subplots(
        len(models), len(components), shared_yaxes=True, shared_xaxes=True,
        subplot_titles=[f"{m}: {c}" for m in models for c in components],
        horizontal_spacing=0.03, vertical_spacing=0.16 / len(models),
    )  # fmt: skip
    depth = max(1, int(frame["block"].max()))
    keys = ["model", "component", "hook", "position"]
    for (model, component, hook, position), rows in frame.groupby(keys, sort=False):
        block = int(rows["block"].iloc[0])
        for value, dash in (("explained", "solid"), ("explained_centred", "dot")):
            name = f"block {block}{', about the mean' if dash == 'dot' else ''}"
            made.add_scatter(
                x=rows["directions"],
                y=rows[value],
                name=name,
                legendgroup=name,
                mode="lines+markers",
                line={"color": _shade(block / depth), "dash": dash, "width": 2},
                marker={"size": 5},
                hovertemplate=f"<b>{model}</b><br>{hook}, {position}<br>first %{{x}}: %{{y:.1%}}"
                "<extra></extra>",
                row=models.index(model) + 1,
                col=components.index(component) + 1,
            )
    accuracy_axis(made)
    made.update_xaxes(title="directions", row=len(models))
    made.update_yaxes(title=f"explained ({count_label(frame)})", col=1)
    made.update_layout(height=150 + 230 * len(models))
    made.update_annotations(font_size=12)
    legend_below(made)
    return made


def _shade(share: float) -> str:
    """A colour of the depth in the model, dark to light."""
    from plotly.colors import sample_colorscale

    found: str = sample_colorscale("Viridis", [0.85 * share])[0]
    return found


def logit_lens(result: LogitLens) -> go.Figure:
    """Accuracy of the lens and its divergence from the base's, by block, a line per model."""
    frame = result.frame
    n = count_label(frame)
    made = figure("", "", "")
    made.set_subplots(
        1, 3, horizontal_spacing=0.09,
        subplot_titles=[
            "likeliest token is right", "probability of the right answer", "KL from the base, nats",
        ],
    )  # fmt: skip
    panels = (
        ("accuracy", "ci_low", "ci_high"),
        ("probability", "probability_low", "probability_high"),
        ("kl_from_base", "kl_from_base_low", "kl_from_base_high"),
    )
    inks = model_colours(frame["model"])
    for model, rows in frame.groupby("model", sort=False):
        for column, (value, low, high) in enumerate(panels, 1):
            shown = rows.dropna(subset=[value])
            if not len(shown):
                continue
            nats = {
                "hovertemplate": f"<b>{model}</b><br>block %{{x}}<br>%{{y:.3g}} nats "
                "[%{customdata[0]:.3g}, %{customdata[1]:.3g}]<extra></extra>"
            }
            line_with_band(
                made, shown["block"], shown[value], shown[low], shown[high], name=str(model),
                line_colour=inks[str(model)], hover="block ",
                line=nats if value == "kl_from_base" else None, row=1, col=column,
            )  # fmt: skip
    for column in (1, 2):
        accuracy_axis(made, row=1, col=column)
    made.update_yaxes(title=f"share or probability ({n})", row=1, col=1)
    made.update_yaxes(rangemode="tozero", showgrid=True, row=1, col=3)
    made.update_xaxes(title="after block", dtick=1)
    made.update_annotations(font_size=12)
    made.update_layout(height=340)
    legend_below(made)
    return made


def output_diff(result: OutputDiff) -> go.Figure:
    """What moved in the answers, a panel per measure, a dot with its interval per model."""
    frame = result.frame
    models = list(dict.fromkeys(frame["model"]))
    inks = model_colours(models, first=1)
    made = figure("", "", "")
    made.set_subplots(
        1, len(_MEASURES), shared_yaxes=True, horizontal_spacing=0.03,
        subplot_titles=[title.replace(", ", ",<br>") for title, _ in _MEASURES.values()],
    )  # fmt: skip
    for column, (measure, (title, form)) in enumerate(_MEASURES.items(), 1):
        rows = frame[frame["measure"] == measure].set_index("model").loc[models]
        for model in models:
            row = rows.loc[model]
            made.add_scatter(
                x=[row.value],
                y=[model],
                mode="markers",
                marker={"color": inks[model], "symbol": marker(inks[model]), "size": 9},
                error_x=error_bars(rows.loc[[model]], "value", "ci_low", "ci_high"),
                name=model,
                showlegend=False,
                customdata=[[row.ci_low, row.ci_high, row.n]],
                hovertemplate=f"<b>{model}</b><br>{title}: %{{x:.3g}} [%{{customdata[0]:.3g}}, "
                "%{customdata[1]:.3g}], n = %{customdata[2]:,}<extra></extra>",
                row=1,
                col=column,
            )
        if measure == "accuracy":
            for value in frame.loc[frame["measure"] == "base_accuracy", "value"].head(1):
                made.add_vline(
                    x=value, line={"color": GREY, "dash": "dot", "width": 1.5}, row=1, col=column
                )
                note(
                    made, "base", x=value, y=0, yref="y domain", yshift=8, xanchor="right", xshift=-3,
                    row=1, col=column,
                )  # fmt: skip
        if form == ".0%":
            made.update_xaxes(
                range=[-0.06, 1.06], tickformat=".0%", tickvals=[0, 0.5, 1], col=column
            )
        else:
            made.update_xaxes(rangemode="tozero", nticks=4, col=column)
    made.update_xaxes(showgrid=True)
    made.update_yaxes(autorange="reversed", title=count_label(frame), col=1)
    made.update_annotations(font_size=12)
    made.update_layout(height=150 + 45 * len(models), margin={"t": 70, "l": 110})
    return made
