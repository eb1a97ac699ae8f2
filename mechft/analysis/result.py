"""What every analysis returns: a frozen result around a tidy frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Result:
    """A tidy frame, one measured number a row, with a line that says what it holds.

    Attributes:
        frame: The measurements; each class lists its columns.
    """

    frame: pd.DataFrame

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "__repr__" not in vars(cls):  # a dataclass's own prints whole frames, cut in the middle
            setattr(cls, "__repr__", Result.__repr__)  # noqa: B010 (mypy refuses to assign a method)

    def __len__(self) -> int:
        return len(self.frame)

    def __repr__(self) -> str:
        rows = f"{len(self.frame):,} row" + "s" * (len(self.frame) != 1)
        columns = ", ".join(self.frame.columns)
        return f"<{type(self).__name__}: {self._sentence()} {rows} in .frame: {columns}>"

    def _sentence(self) -> str:
        return (type(self).__doc__ or "").strip().splitlines()[0]

    def _repr_html_(self) -> str:
        return f"<p><b>{type(self).__name__}</b>: {self._sentence()}</p>{_table(self.frame)}"


def _table(frame: pd.DataFrame) -> str:
    """A frame as HTML, its texts whole: pandas cuts at 50 characters what a row is there to say."""
    import pandas as pd

    with pd.option_context("display.max_colwidth", None):
        table: str = frame.to_html(index=False, float_format=lambda x: f"{x:.4g}")
    return table
