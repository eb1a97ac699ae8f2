"""Panels of a figure that flow like words: side by side, then in the next row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mechft.plots.style import figure, panel_titles

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True)
class Flow:
    """Where the panels of a figure lie: in rows of at most so many.

    Attributes:
        count: Panels.
        height: Of each, in pixels.
        between: Pixels from one row to the next, for ticks and titles.
        most: Panels side by side at most; more than four leave no room for titles and ticks.
    """

    count: int
    height: int
    between: int
    most: int = 4

    @property
    def columns(self) -> int:
        """Panels side by side."""
        return min(self.count, self.most)

    @property
    def rows(self) -> int:
        """Rows of panels."""
        return -(-self.count // self.most)

    @property
    def inside(self) -> int:
        """Height of all rows together, in pixels, without the margins."""
        return self.rows * self.height + (self.rows - 1) * self.between

    def cell(self, place: int) -> dict[str, Any]:
        """Row and column of a panel, as plotly takes them."""
        row, column = divmod(place, self.most)
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
        panel_titles(made, self.columns)
        return made
