"""What models are called and their colours in all figures of the stories study, and means over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mechft.errors import require
from mechft.plots.colours import PALETTE, colour, marker
from mechft.plots.style import count_label, line_with_band

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

MODEL = ["model", "protocol", "rate"]
"""The labels that tell models apart, but for the seed."""

NEVER = "#000000"
COLOURS = {"F": PALETTE[1], "F+MM": PALETTE[4], "F+RR": PALETTE[2], "refusal": PALETTE[3]}
"""A deleted model has its protocol's colour, whatever the rate."""


def with_models(frame: pd.DataFrame) -> pd.DataFrame:
    """The same with protocol and rate "" where there is none, which a CSV file reads back as NaN."""
    labels = {name: frame[name].astype(object) for name in ("protocol", "rate")}
    return frame.assign(**{name: found.where(found.notna(), "") for name, found in labels.items()})


def model_name(model: str, protocol: str = "", rate: str = "") -> str:
    """A model in words: "base", "never saw one", "F+RR, rate M"; without a rate the protocol alone."""
    if model == "never":
        return "never saw one"
    if model != "deleted":
        return model
    return f"{protocol}, rate {rate}" if rate else protocol


def model_colour(model: str, protocol: str = "") -> str:
    """A model's colour."""
    if model == "never":
        return NEVER
    return COLOURS.get(protocol, PALETTE[5]) if model == "deleted" else colour("base")


def model_dash(model: str) -> str:
    """How a model's lines are drawn: the control's dashed, so that print tells it apart."""
    return "dash" if model == "never" else "solid"


def rates_of(frame: pd.DataFrame) -> tuple[str, ...]:
    """The rates of deleted models, in order; ("",) where there is none."""
    return tuple(dict.fromkeys(rate for rate in frame["rate"] if rate)) or ("",)


def at_rate(frame: pd.DataFrame, rate: str) -> pd.DataFrame:
    """Rows of a panel: deleted models of one rate, and all models that have none."""
    return frame[frame["rate"].isin(["", rate])]


def pooled_shares(frame: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Shares of stories over all seeds together, with Wilson's interval.

    Args:
        frame: Counts of stories: has, unclear, n; and seed.
        by: The columns that tell cells apart.

    Returns:
        A row a cell, in order of appearance: the columns of ``by``, share, ci_low, ci_high, unclear (a
        share), seeds, n (stories of all seeds).

    Raises:
        ConfigError: If there is no row.
    """
    from mechft.statistics import proportion

    _check_rows(frame)
    found = frame.groupby(list(by), sort=False).agg(
        has=("has", "sum"), unclear=("unclear", "sum"), n=("n", "sum"), seeds=("seed", "nunique")
    )
    shares = [proportion(int(has), int(n)) for has, n in zip(found["has"], found["n"], strict=True)]
    found["share"] = [share.value for share in shares]
    found["ci_low"] = [share.low for share in shares]
    found["ci_high"] = [share.high for share in shares]
    found["unclear"] /= found["n"]
    return found.drop(columns="has").reset_index()


def shares_label(cells: pd.DataFrame) -> str:
    """What the shares of ``pooled_shares`` are, in words."""
    seeds = int(cells["seeds"].max())
    several = f" of {seeds} seeds together" if seeds > 1 else " of 1 seed"
    return f"95% Wilson interval over stories{several}; {count_label(cells)}"


def means_over_seeds(
    frame: pd.DataFrame, value: str, by: Sequence[str], ends: tuple[str, str] | None = None
) -> pd.DataFrame:
    """Mean over seeds of any number: of several with Student's t interval, of one with its own, if any.

    Args:
        frame: One row a seed and cell.
        value: The column of the number.
        by: The columns that tell cells apart.
        ends: The columns of the interval that a single seed has; None if it has none.

    Returns:
        A row a cell, in order of appearance: the columns of ``by``, mean, low, high (the mean itself where
        there is no interval), seeds.

    Raises:
        ConfigError: If there is no row.
    """
    import pandas as pd
    import torch

    from mechft.statistics import t_estimate

    _check_rows(frame)
    rows = []
    for labels, cell in frame.groupby(list(by), sort=False):
        found = t_estimate(torch.tensor(cell[value].tolist(), dtype=torch.float64))
        low, high = found.low, found.high
        if len(cell) == 1:
            low, high = (
                (cell[ends[0]].item(), cell[ends[1]].item()) if ends else (found.value, found.value)
            )
        numbers = {"mean": found.value, "low": low, "high": high, "seeds": len(cell)}
        rows.append({**dict(zip(by, labels, strict=True)), **numbers})
    return pd.DataFrame(rows)


def means_label(cells: pd.DataFrame, of_one: str = "no interval") -> str:
    """What the numbers of ``means_over_seeds`` are, in words; ``of_one``: the interval of a single seed."""
    seeds = int(cells["seeds"].max())
    if seeds == 1:
        return f"1 seed, {of_one}"
    return f"mean of {seeds} seeds, 95% t interval over seeds"


def own_axis(made: go.Figure, cells: pd.DataFrame) -> None:
    """A y axis for numbers that are no shares: as far as lines go, and bands not much further.

    Two seeds' intervals are thirteen times as wide as their standard error; lines would be flat beside them.
    """
    low, high = float(cells["mean"].min()), float(cells["mean"].max())
    room = 0.3 * (high - low) or 0.1 * abs(high) or 1.0
    ends = [
        max(float(cells["low"].min()), low - room),
        min(float(cells["high"].max()), high + room),
    ]
    around = 0.06 * (ends[1] - ends[0]) or room
    made.update_yaxes(range=[ends[0] - around, ends[1] + around], tickformat="")


def _check_rows(frame: pd.DataFrame) -> None:
    require(
        len(frame) > 0, "A figure needs rows to draw; got none. Check the table and the labels."
    )


def line(
    made: go.Figure,
    x: Sequence[float],
    values: tuple[Sequence[float], Sequence[float], Sequence[float]],
    texts: Sequence[str],
    *,
    labels: tuple[str, str, str],
    where: Mapping[str, Any],
    ink: str = "",
    dash: str = "",
    group: str = "",
    number: str = ".1%",
) -> None:
    """A model's line with its band; the legend's entry of its group hides it.

    Args:
        made: The figure.
        x: Places from left to right.
        values: Values, and the lower and upper ends of their intervals.
        texts: What each place is called.
        labels: Model, protocol and rate.
        where: The panel.
        ink, dash: How it is drawn; by default as the model is everywhere.
        group: The legend's entry; by default the model's name without its rate.
        number: How numbers are written.
    """
    model, protocol, _ = labels
    y, low, high = values
    group = group or model_name(model, protocol)
    said = model_name(*labels) + ("" if group == model_name(model, protocol) else f", {group}")
    ink = ink or model_colour(model, protocol)
    line_with_band(
        made,
        list(x),
        list(y),
        list(low),
        list(high),
        name=group,
        line_colour=ink,
        dash=dash or model_dash(model),
        opacity=0.1,  # many overlap
        line={
            "showlegend": False,
            "text": list(texts),
            "marker": {"size": 4, "symbol": marker(ink)},
            "hovertemplate": f"<b>{said}</b><br>%{{text}}: %{{y:{number}}} "
            f"[%{{customdata[0]:{number}}}, %{{customdata[1]:{number}}}]<extra></extra>",
        },
        **where,
    )
