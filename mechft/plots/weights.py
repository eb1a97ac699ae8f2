"""Figures of how weights and the circuits they make differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mechft.plots.style import diff_panels, figure, legend_once

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from mechft.analysis.circuits import CircuitDiff
    from mechft.analysis.spectrum import Spectrum
    from mechft.analysis.weight_diff import WeightDiff

_ORDER = ("W_Q", "W_K", "W_V", "W_O", "W_in", "W_gate", "W_out", "W_U", "lm_head")
_VALUES = {
    "relative_change": "‖Δ‖ / ‖base‖",
    "share": "share of ‖Δ‖²",
    "effective_rank": "effective<br>rank of Δ",
    "rank": "rank of Δ",
    "left_energy": "‖Δ‖² along<br>base's inputs",
    "right_energy": "‖Δ‖² along<br>base's outputs",
}


def weight_diff(result: WeightDiff, value: str = "relative_change") -> go.Figure:
    """A number of every weight matrix, blocks down, components across, a panel per model.

    Args:
        result: Of ``diff_weights``.
        value: The column to show; by default how far each matrix moved.
    """
    frame = result.frame[result.frame["rank"].notna()]
    outside = frame["block"] < 0
    short = frame["component"].str.removesuffix(".weight").str.split(".").str[-1]
    frame = frame.assign(component=short.where(outside, frame["component"]))
    made = diff_panels(_in_order(frame), value, "parameter", _VALUES.get(value, value))
    if value.startswith(("relative", "share")) or value.endswith(("energy", "expected")):
        # Shares: percent is shorter to print.
        made.update_traces(texttemplate="%{z:.0%}" if value.endswith("energy") else "%{z:.1%}")
        made.update_coloraxes(colorbar_tickformat=".0%")
    top = float(frame[value].max())
    made.update_coloraxes(cmin=0, cmax=top if top > 0 else 1)  # NaN is not above 0 either
    if value == "cosine":
        made.update_coloraxes(cmin=-1, cmax=1)
    panels = frame["model"].nunique()
    if panels > 2:  # room for the numbers
        made.update_layout(width=170 + 40 * panels * frame["component"].nunique())
    return made


def spectrum(result: Spectrum) -> go.Figure:
    """Singular values of the change (lines) and of the base (dotted), a line a block, a panel a matrix."""
    from plotly.colors import sample_colorscale

    frame = _in_order(result.frame)
    models, blocks = list(dict.fromkeys(frame["model"])), sorted(set(frame["block"]))
    components = list(dict.fromkeys(frame["component"]))
    # The pale end of the scale would not be seen on white.
    shades = sample_colorscale(
        "Cividis", [0.85 * i / max(len(blocks) - 1, 1) for i in range(len(blocks))]
    )
    made = figure("", "", "")
    made.set_subplots(
        len(models),
        len(components),
        shared_yaxes=True,
        horizontal_spacing=0.015,
        vertical_spacing=0.16 / len(models),
        subplot_titles=[c.removeprefix("attn.").removeprefix("mlp.") for c in components],
    )
    for (model, component, block, of), rows in frame.groupby(
        ["model", "component", "block", "of"], sort=False
    ):
        where = "outside" if block < 0 else f"block {block}"
        name = f"{where}, {'change' if of == 'change' else 'base'}"
        made.add_scatter(
            x=rows["index"],
            y=rows["value"].where(rows["value"] > 0),
            name=name,
            legendgroup=name,
            mode="lines",
            line={
                "color": shades[blocks.index(block)],
                "width": 2,
                "dash": "solid" if of == "change" else "dot",
            },
            customdata=rows["energy"],
            hovertemplate=f"<b>{model}</b>, {rows['parameter'].iloc[0]}, {of}<br>singular value "
            "%{x}: %{y:.3g}<br>the first %{x} hold %{customdata:.1%} of the squared norm<extra></extra>",
            row=models.index(model) + 1,
            col=components.index(component) + 1,
        )
    legend_once(made)
    made.update_yaxes(type="log", exponentformat="power", dtick=1)
    made.update_xaxes(title="index", row=len(models))
    for row, model in enumerate(models, 1):
        made.update_yaxes(title=f"{model}<br>singular value", row=row, col=1)
    made.update_layout(height=120 + 240 * len(models), width=max(700, 170 + 150 * len(components)))
    return made


def circuit_diff(result: CircuitDiff) -> go.Figure:
    """Relative change of each head's QK and OV circuit, blocks down, heads across, a row per model."""
    frame = result.frame
    models, circuits = list(dict.fromkeys(frame["model"])), list(dict.fromkeys(frame["circuit"]))
    made = figure("", "", "")
    titles = {"QK": "QK: where it looks", "OV": "OV: what it moves"}
    made.set_subplots(
        len(models),
        len(circuits),
        shared_yaxes=True,
        shared_xaxes=True,
        subplot_titles=[titles.get(circuit, circuit) for circuit in circuits],
        horizontal_spacing=0.04,
        vertical_spacing=0.12 / len(models),
    )
    told = ["change", "cosine", "effective_rank", "base_effective_rank"]
    for (model, circuit), rows in frame.groupby(["model", "circuit"], sort=False):
        grid = {
            c: rows.pivot(index="block", columns="head", values=c)
            for c in ["relative_change", *told]
        }
        heads = grid["relative_change"].columns
        made.add_heatmap(
            z=grid["relative_change"].values,
            x=[str(head) for head in heads],
            y=[f"block {block}" for block in grid["relative_change"].index],
            coloraxis="coloraxis",
            customdata=[
                [[grid[c].loc[block, head] for c in told] for head in heads]
                for block in grid["relative_change"].index
            ],
            texttemplate="%{z:.2g}",
            textfont={"size": 10},
            hovertemplate=f"<b>{model}</b>, {circuit}, %{{y}}, head %{{x}}<br>‖Δ‖ / ‖base‖ %{{z:.3g}}"
            "<br>cosine %{customdata[1]:.4f}<br>effective rank of Δ %{customdata[2]:.1f}, of the base "
            "%{customdata[3]:.1f}<extra></extra>",
            row=models.index(model) + 1,
            col=circuits.index(circuit) + 1,
        )
    made.update_xaxes(title="head", type="category", row=len(models))
    made.update_yaxes(autorange="reversed")
    for row, model in enumerate(models, 1):
        made.update_yaxes(title=model, row=row, col=1)
    made.update_layout(
        coloraxis={
            "colorscale": "Cividis",
            "cmin": 0,
            "cmax": float(frame["relative_change"].max()) or 1,
            "colorbar": {"title": "‖Δ‖ / ‖base‖"},
        },
        height=140 + 40 * len(models) + 34 * len(models) * frame["block"].nunique(),
        margin={"l": 100},
    )
    return made


def _in_order(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows by component, in the order in which a model applies them; others before where they stand."""
    place = {kind: i for i, kind in enumerate(_ORDER)}
    kinds = frame["component"].str.split(".").str[-1]
    rank = kinds.map(lambda kind: place.get(kind, -1))
    return frame.iloc[rank.argsort(kind="stable")]
