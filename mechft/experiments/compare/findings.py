"""What a comparison says: sentences made from its numbers, each with what could make it wrong."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        stage: The stage whose numbers say it.
        text: The sentence, with its numbers and intervals.
        caution: What it does not say, or how it could have been wrong.
    """

    stage: str
    text: str
    caution: str = ""

    def __str__(self) -> str:
        return f"{self.text} ({self.caution})" if self.caution else self.text

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def percent(value: float, low: float | None = None, high: float | None = None) -> str:
    """A share, with its interval if there is one: "61.0% [55.1%, 66.6%]"."""
    return _told(value, low, high, ".1%")


def number(value: float, low: float | None = None, high: float | None = None) -> str:
    """A number to three digits, with its interval if there is one."""
    return _told(value, low, high, ".3g")


def counted(n: int, one: str, many: str = "") -> str:
    """A number with its noun: "1 row", "1,024 rows"."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def _told(value: float, low: float | None, high: float | None, form: str) -> str:
    if low is None or high is None or low != low or high != high:
        return f"{value:{form}}"
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"
