"""Figures of what single neurons do along a prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mechft.plots.style import figure, token_ticks

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from mechft.analysis.neuron_maps import NeuronMaps

_INSIDE = 12  # pixels a neuron, where they are few


def neuron_maps(result: NeuronMaps) -> go.Figure:
    """Activations as in Jain et al. (2024), Fig. 46: neuron down, position across, a panel per model.

    All panels share one colour scale.
    """
    import plotly.graph_objects as go

    models = list(result.activations)
    made = figure("", "", "")
    made.set_subplots(
        1, len(models), shared_yaxes=True, subplot_titles=models, horizontal_spacing=0.03
    )
    places, rows = list(range(len(result.labels))), list(range(len(result.neurons)))
    where = [f"{i} ({token})" for i, token in enumerate(result.labels)]
    for column, (model, values) in enumerate(result.activations.items(), 1):
        made.add_trace(
            go.Heatmap(
                z=values.numpy(),
                x=places,
                y=rows,
                coloraxis="coloraxis",
                customdata=[[f"neuron {neuron}, position {w}" for w in where] for neuron in result.neurons],
                hovertemplate=f"<b>{model}</b><br>%{{customdata}}<br>%{{z:.3g}}<extra></extra>",
            ),
            row=1,
            col=column,
        )  # fmt: skip
    lowest = min(float(value.min()) for value in result.activations.values())
    highest = max(float(value.max()) for value in result.activations.values())
    step = len(rows) // 40 + 1
    made.update_xaxes(**token_ticks(result.labels))
    made.update_yaxes(
        tickvals=rows[::step],
        ticktext=[str(neuron) for neuron in result.neurons[::step]],
        tickfont={"size": 9},
        ticks="",
        showline=False,
        autorange="reversed",
    )
    made.update_xaxes(title={"text": "position", "font": {"size": 11}})
    made.update_yaxes(
        title={"text": f"neuron of block {result.block}", "font": {"size": 11}}, col=1
    )
    counted = "1 row" if result.n == 1 else f"mean of {result.n:,} rows"
    quiet = f"<br>({result.left_out} quiet<br>neurons left out)" if result.left_out else ""
    made.update_layout(
        coloraxis={
            "colorscale": "Cividis",
            "cmin": min(0.0, lowest),
            "cmax": highest if highest > min(0.0, lowest) else 1.0,
            "colorbar": {"title": {"text": f"activation<br>({counted}){quiet}"}},
        },
        height=min(900, max(330, 150 + _INSIDE * len(rows))),
        margin={"l": 70, "b": 70},
    )
    made.update_annotations(font_size=12)
    return made
