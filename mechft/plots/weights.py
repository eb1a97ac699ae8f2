"""Figures of how weights and the circuits they make differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mechft.plots.flow import Flow
from mechft.plots.grids import diff_panels
from mechft.plots.style import legend_below

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
_CIRCUITS = {"QK": "QK: where it looks", "OV": "OV: what it moves"}


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
    energy = value.endswith(("energy", "expected"))
    share = energy or value.startswith(("relative", "share"))  # percent is shorter to print
    form = ".0%" if energy else ".1%" if share else ".2g"
    made = diff_panels(
        _in_order(frame), value, _VALUES.get(value, value), form=form, told=["parameter"],
        hover=f"%{{customdata[0]}}<br>{_VALUES.get(value, value).replace('<br>', ' ')}: "
        f"%{{z:{'.2%' if share else '.3g'}}}",
    )  # fmt: skip
    if share:
        made.update_coloraxes(colorbar_tickformat=".0%")
    if value == "cosine":
        made.update_coloraxes(cmin=-1, cmax=1)
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
    places = [(model, component) for model in models for component in components]
    three = len(components) % 3 == 0 and len(components) % 4 != 0
    panels = Flow(len(places), height=200, between=80, most=3 if three else 4)
    made = panels.figure(
        [c if len(models) == 1 else f"{m}: {c}" for m, c in ((m, _short(c)) for m, c in places)]
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
            **panels.cell(places.index((model, component))),
        )
    made.update_yaxes(type="log", exponentformat="power", dtick=1)
    for place in panels.lowest():
        made.update_xaxes(title="index", **panels.cell(place))
    made.update_yaxes(title="singular value", col=1)
    made.update_layout(height=116 + panels.inside)
    legend_below(made)
    return made


def _short(component: str) -> str:
    return component.removeprefix("attn.").removeprefix("mlp.")


def circuit_diff(result: CircuitDiff) -> go.Figure:
    """Relative change of each head's QK and OV circuit: blocks down, heads across, a panel a circuit."""
    frame = result.frame.assign(
        model=result.frame["model"] + ", " + result.frame["circuit"].replace(_CIRCUITS)
    )
    return diff_panels(
        frame, "relative_change", "‖Δ‖ / ‖base‖", columns="head", x="head",
        told=["cosine", "effective_rank", "base_effective_rank"],
        hover="%{y}, head %{x}<br>‖Δ‖ / ‖base‖ %{z:.3g}<br>cosine %{customdata[0]:.4f}<br>effective rank "
        "of Δ %{customdata[1]:.1f}, of the base %{customdata[2]:.1f}",
    )  # fmt: skip


def _in_order(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows by component, in the order in which a model applies them; others before where they stand."""
    place = {kind: i for i, kind in enumerate(_ORDER)}
    kinds = frame["component"].str.split(".").str[-1]
    rank = kinds.map(lambda kind: place.get(kind, -1))
    return frame.iloc[rank.argsort(kind="stable")]
