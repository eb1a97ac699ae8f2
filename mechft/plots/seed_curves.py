"""What the figures of a study share: means and bands over seeds, a grid of panels, lines and their keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from mechft.errors import require
from mechft.plots.colours import marker
from mechft.plots.style import accuracy_axis, count_label, figure, line_with_band
from mechft.statistics import t_estimate

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

BETWEEN = 44
"""Pixels from a row of panels to the next, for titles."""


def with_rates(frame: pd.DataFrame) -> pd.DataFrame:
    """The same with rate "" where there is none, which a CSV file reads back as NaN."""
    rate = frame["rate"].astype(object)
    return frame.assign(rate=rate.where(rate.notna(), ""))


def over_seeds(frame: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Mean accuracy over seeds of each cell, with its 95% interval.

    Of several seeds Student's t interval over them, cut at 0 and 1; of one the run's own interval.

    Args:
        frame: One row a seed and cell, with the columns seed, accuracy, ci_low, ci_high and n.
        by: The columns that tell cells apart.

    Returns:
        A row a cell, in order of appearance: the columns of ``by``, accuracy, ci_low, ci_high, seeds (how
        many) and n (fewest rows of one seed's accuracy).

    Raises:
        ConfigError: If there is no row, or a cell has several rows of one seed.
    """
    require(
        len(frame) > 0, "A figure needs rows to draw; got none. Check the table and the labels."
    )
    found = frame.groupby(list(by), sort=False, dropna=False).agg(
        values=("accuracy", list),
        accuracy=("accuracy", "mean"),
        ci_low=("ci_low", "first"),
        ci_high=("ci_high", "first"),
        seeds=("seed", "nunique"),
        n=("n", "min"),
    )
    several = found[found["values"].map(len) > found["seeds"]]
    require(
        not len(several),
        "A cell has one row a seed; these have more: "
        f"{', '.join(map(str, several.index[:3]))} ({', '.join(by)}). Select rows, or name the column "
        "that tells them apart.",
    )
    ends = [
        _interval(*cell)
        for cell in zip(found["values"], found["ci_low"], found["ci_high"], strict=True)
    ]
    found["ci_low"], found["ci_high"] = zip(*ends, strict=True)
    return found.drop(columns="values").reset_index()


def _interval(values: list[float], low: float, high: float) -> tuple[float, float]:
    """Over seeds where there are several; else the ends that the run has."""
    if len(values) == 1:
        return low, high
    found = t_estimate(torch.tensor(values, dtype=torch.float64))
    return max(0.0, found.low), min(1.0, found.high)


def interval_label(cells: pd.DataFrame) -> str:
    """What lines and bands of ``over_seeds`` are, in words."""
    least, most = int(cells["seeds"].min()), int(cells["seeds"].max())
    n = count_label(cells)
    if most == 1:
        return f"1 seed, 95% Wilson interval over {n}"
    if least == most:
        return f"mean of {most} seeds, 95% t interval over seeds; {n} a seed"
    few = " (Wilson's where there is 1)" if least == 1 else ""
    return f"mean of {least} to {most} seeds, 95% t interval over seeds{few}; {n} a seed"


def ramp(share: float, stops: Sequence[str]) -> str:
    """The colour at a share (0..1) of the way through colours "#rrggbb", mixed from its neighbours."""
    place = min(max(share, 0.0), 1.0) * (len(stops) - 1)
    first = min(int(place), len(stops) - 2)
    mixed = [
        round(
            int(stops[first][i : i + 2], 16) * (1 - part)
            + int(stops[first + 1][i : i + 2], 16) * part
        )
        for part in (place - first,)
        for i in (1, 3, 5)
    ]
    return "#" + "".join(f"{value:02x}" for value in mixed)


@dataclass(frozen=True)
class Panels:
    """A grid of panels: a value of one label a row, one of another a column.

    Attributes:
        row, rows: The label of the rows and its values, from the top; one row without a label is "", ("",).
        column, columns: The same of columns, from the left.
        height: Of a panel, in pixels.
    """

    row: str
    rows: tuple[Any, ...]
    column: str
    columns: tuple[Any, ...]
    height: int = 230

    @property
    def inside(self) -> int:
        """Height of all rows together, in pixels, without the margins."""
        return len(self.rows) * self.height + (len(self.rows) - 1) * BETWEEN

    def each(self) -> Iterator[tuple[dict[str, Any], dict[str, int]]]:
        """For each panel its labels, and its place as plotly takes it."""
        for i, row in enumerate(self.rows, 1):
            for j, column in enumerate(self.columns, 1):
                labels = {self.row: row, self.column: column}
                yield {k: v for k, v in labels.items() if k}, {"row": i, "col": j}

    def figure(self, title: str, below: str, x: str, y: str, keys: int) -> go.Figure:
        """An empty figure with these panels, accuracies upwards.

        Args:
            title: What is shown.
            below: What the numbers are, under the title.
            x, y: Titles of the axes.
            keys: Entries of the legend, which lies below.
        """
        made = figure("", "", "")
        made.set_subplots(
            len(self.rows),
            len(self.columns),
            shared_xaxes=True,
            shared_yaxes=True,
            subplot_titles=[
                ", ".join(panel_label(name, value) for name, value in labels.items())
                for labels, _ in self.each()
            ],
            horizontal_spacing=0.03,
            vertical_spacing=BETWEEN / self.inside,
        )
        made.update_annotations(font={"size": 13})
        accuracy_axis(made)
        made.update_xaxes(title=x, row=len(self.rows))
        made.update_yaxes(title=y, col=1)
        for axes in (made.update_xaxes, made.update_yaxes):
            axes(title_font_size=13)
        lines = -(-keys // 5)
        made.update_layout(
            title={"text": f"{title}<br><span style='font-size:12px'>{below}</span>"},
            legend={"orientation": "h", "x": 0, "y": -58 / self.inside, "yanchor": "top"},
            height=92 + self.inside + 66 + 22 * lines,
            margin={"t": 92, "b": 66 + 22 * lines},
        )
        made.update_layout(title={"y": 1, "yanchor": "top", "yref": "container", "pad": {"t": 20}})
        return made


def panel_label(name: str, value: Any) -> str:
    """A label and its value as the title of a panel."""
    words = {
        "prior": "{} prior",
        "rate": "rate {}",
        "c_tr": "C_Tr = {:g}",
        "token": "asked by {}",
        "share": "{:.3g}% of pretraining data",
    }
    return words.get(name, "{}").format(100 * value if name == "share" else value)


def chosen(frame: pd.DataFrame, labels: Mapping[str, Any]) -> pd.DataFrame:
    """The rows with these labels."""
    for name, value in labels.items():
        frame = frame[frame[name] == value]
    return frame


def values_of(frame: pd.DataFrame, name: str) -> tuple[Any, ...]:
    """The values of a label in order of appearance."""
    return tuple(dict.fromkeys(frame[name]))


def key(made: go.Figure, name: str, colour: str, dash: str = "solid", **marker: Any) -> None:
    """An entry of the legend; its lines carry the name as ``group`` and hide with it."""
    made.add_scatter(
        x=[None],
        y=[None],
        mode="markers" if marker else "lines",
        name=name,
        legendgroup=name,
        line={"color": colour, "dash": dash, "width": 2},
        marker=marker or None,
    )


def seed_line(
    made: go.Figure,
    cells: pd.DataFrame,
    x: Sequence[float],
    texts: Sequence[str],
    *,
    group: str,
    said: str,
    colour: str,
    dash: str = "solid",
    where: Mapping[str, Any],
) -> None:
    """A line with its band for cells of ``over_seeds``; hovering tells numbers, interval, seeds and n.

    Args:
        made: The figure.
        cells: Points from left to right.
        x: Their places.
        texts: What each place is called.
        group: The legend's entry it hides with.
        said: What the line is.
        colour, dash: How it is drawn.
        where: The panel.
    """
    line_with_band(
        made,
        list(x),
        cells["accuracy"],
        cells["ci_low"],
        cells["ci_high"],
        name=group,
        line_colour=colour,
        dash=dash,
        opacity=0.1,  # many overlap
        line={
            "showlegend": False,
            "text": list(texts),
            "marker": {"size": 3.5, "symbol": marker(colour)},
            "customdata": cells[["ci_low", "ci_high", "seeds", "n"]].to_numpy(),
            "hovertemplate": f"<b>{said}</b><br>%{{text}}: %{{y:.1%}} "
            "[%{customdata[0]:.1%}, %{customdata[1]:.1%}]<br>seeds: %{customdata[2]}, "
            "n = %{customdata[3]:,} each<extra></extra>",
        },
        **where,
    )
