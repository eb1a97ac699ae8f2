"""Figures of pruning: curves over K, and where units lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mechft.plots.style import (
    PALETTE,
    TASK_NAMES,
    accuracy_axis,
    count_label,
    figure,
    legend_once,
    line_with_band,
)

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from mechft.analysis.pruning import PruneCurve
    from mechft.analysis.units.masks import UnitPlaces

PLURALS = {
    "neuron": "neurons",
    "column": "columns",
    "weight": "weights",
    "head": "heads",
    "mlp_neuron": "MLP neurons",
}
_ORDER = {
    name: place
    for place, name in enumerate(
        ("attn.W_Q", "attn.W_K", "attn.W_V", "attn.W_O", "mlp.W_in", "mlp.W_gate", "mlp.W_out")
    )
}
_COLUMNS = 4  # panels side by side: more leave no room for titles and ticks
_DASHES = ("solid", "dash", "dashdot", "longdash", "longdashdot")


def prune_curve(result: PruneCurve) -> go.Figure:
    """Accuracy over K: a colour a task, a dash a score, random removal dotted; a panel per model.

    At most four panels stand side by side; further models come in rows below.
    """
    frame = result.frame
    models = list(dict.fromkeys(frame["model"]))
    tasks = list(dict.fromkeys(frame["task"]))
    scores = [score for score in dict.fromkeys(frame["score"]) if score != "random"]
    done = "grafted" if frame["mode"].iloc[0] == "graft" else "removed"
    random_name = "random removal" if done == "removed" else "random grafting"
    panels = _Panels(len(models), height=288, between=70)
    made = panels.figure(models)
    for place, model in enumerate(models):
        here = frame[frame["model"] == model]
        for (task, score), rows in here.groupby(["task", "score"], sort=False):
            what = random_name if score == "random" else score if len(scores) > 1 else ""
            line_with_band(
                made,
                rows["k"],
                rows["accuracy"],
                rows["ci_low"],
                rows["ci_high"],
                name=f"{TASK_NAMES.get(str(task), task)}{', ' if what else ''}{what}",
                line_colour=PALETTE[tasks.index(task) % len(PALETTE)],
                dash="dot" if score == "random" else _DASHES[scores.index(score) % len(_DASHES)],
                hover=f"{model}, {score}, K = ",
                **panels.cell(place),
            )
    legend_once(made)
    accuracy_axis(made)
    counts = sorted(set(frame["k"]))
    units = PLURALS.get(frame["unit"].iloc[0], "units")
    made.update_xaxes(tickvals=_sparse(counts, panels.columns), tickangle=0)
    for place in panels.lowest():
        made.update_xaxes(title=f"{units} {done} (K)", **panels.cell(place))
    made.update_yaxes(title=f"accuracy ({count_label(frame)})", col=1)
    lines = 1 + (len(scores) + 1) * len(tasks) // 3
    made.update_layout(
        legend={"orientation": "h", "x": 0, "y": -63 / panels.inside, "yanchor": "top"},
        height=132 + panels.inside + 22 * lines,
        margin={"b": 76 + 22 * lines},
    )
    return made


def unit_places(result: UnitPlaces) -> go.Figure:
    """How many of the chosen units lie in each component of each block, a panel per model.

    At most four panels stand side by side; further models come in rows below.
    """
    frame = result.frame
    models = list(dict.fromkeys(frame["model"]))
    panels = _Panels(len(models), height=48 * frame["block"].nunique() + 48, between=100)
    made = panels.figure(
        [
            f"{model}<br>{int(frame.loc[frame['model'] == model, 'units'].sum()):,} of "
            f"{int(frame.loc[frame['model'] == model, 'total'].sum()):,} "
            f"{PLURALS.get(frame['unit'].iloc[0], 'units')}"
            for model in models
        ]
    )
    for place, model in enumerate(models):
        here = frame[frame["model"] == model]
        order = sorted(dict.fromkeys(here["matrix"]), key=lambda name: _ORDER.get(name, 0))
        units, total, share = (
            here.pivot(index="block", columns="matrix", values=value)[order]
            for value in ("units", "total", "share")
        )
        made.add_heatmap(
            z=units.values,
            x=[name.removeprefix("attn.").removeprefix("mlp.") for name in order],
            y=[f"block {block}" for block in units.index],
            coloraxis="coloraxis",
            customdata=[
                [list(pair) for pair in zip(*both, strict=True)]
                for both in zip(total.values, share.values, strict=True)
            ],
            texttemplate="%{z}",
            hovertemplate=f"<b>{model}</b>, %{{y}}, %{{x}}<br>%{{z}} of %{{customdata[0]:,}} units "
            "(%{customdata[1]:.2%})<extra></extra>",
            **panels.cell(place),
        )
    made.update_yaxes(autorange="reversed")
    made.update_layout(
        coloraxis={
            "colorscale": "Cividis",
            "cmin": 0,
            "colorbar": {
                "title": "units",
                "tickformat": "d",
                "nticks": min(6, int(frame["units"].max()) + 1),  # whole numbers only
                "lenmode": "pixels",
                "len": panels.height + 30,
                "y": 1,
                "yanchor": "top",
            },
        },
        height=132 + panels.inside,
        margin={"l": 76, "t": 72, "b": 60},
    )
    return made


@dataclass(frozen=True)
class _Panels:
    """Where the panels of a figure lie: in rows of at most ``_COLUMNS``.

    Attributes:
        count: Panels.
        height: Of each, in pixels.
        between: Pixels from one row to the next, for ticks and titles.
    """

    count: int
    height: int
    between: int

    @property
    def columns(self) -> int:
        """Panels side by side."""
        return min(self.count, _COLUMNS)

    @property
    def rows(self) -> int:
        """Rows of panels."""
        return -(-self.count // _COLUMNS)

    @property
    def inside(self) -> int:
        """Height of all rows together, in pixels, without the margins."""
        return self.rows * self.height + (self.rows - 1) * self.between

    def cell(self, place: int) -> dict[str, Any]:
        """Row and column of a panel, as plotly takes them."""
        row, column = divmod(place, _COLUMNS)
        return {"row": row + 1, "col": column + 1}

    def lowest(self) -> range:
        """The last panel of every column."""
        return range(self.count - self.columns, self.count)

    def figure(self, titles: list[str]) -> go.Figure:
        """An empty figure with these panels; nothing is drawn where the last row has none."""
        made = figure("", "", "")
        cells = self.rows * self.columns
        specs: list[dict[str, Any] | None] = [
            {} if place < self.count else None for place in range(cells)
        ]
        made.set_subplots(
            self.rows,
            self.columns,
            specs=[specs[i : i + self.columns] for i in range(0, cells, self.columns)],
            shared_yaxes=True,
            subplot_titles=titles,
            horizontal_spacing=0.04,
            vertical_spacing=self.between / self.inside,
        )
        made.update_annotations(font={"size": 14 if self.columns < _COLUMNS else 12})
        return made


def _sparse(counts: list[int], columns: int) -> list[int]:
    """Tick places whose labels do not run into each other in one of several panels.

    A page is some 700 pixels wide; a digit takes 7, and labels want 10 between them.
    """
    largest = max(counts)
    label = 7 * len(f"{largest:,}") + 10
    apart = largest * max(1 / 12, label * columns / 560)
    kept: list[int] = []
    for count in counts:
        if not kept or count - kept[-1] >= apart:
            kept.append(count)
    return kept
