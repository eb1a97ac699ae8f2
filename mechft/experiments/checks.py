"""Claims put to the numbers: a rule, the evidence, and a verdict that may be no."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Check:
    """One expectation and what came of it.

    Attributes:
        claim: What is expected, in words, with its threshold.
        evidence: The numbers that bear on it.
        holds: Whether it does; None where the numbers do not tell.
    """

    claim: str
    evidence: str
    holds: bool | None

    @property
    def verdict(self) -> str:
        """In words."""
        if self.holds is None:
            return "unclear"
        return "holds" if self.holds else "does not hold"

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "verdict": self.verdict}
