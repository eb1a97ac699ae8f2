"""Timing on a noisy, shared machine: everything alternately in one run, medians, ratios."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def alternate(actions: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each action in each round; one untimed round first, the order turned each time."""
    for action in actions.values():
        action()
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    order = list(actions.items())
    for _ in range(rounds):
        for name, action in order:
            begin = time.perf_counter()
            action()
            seconds[name].append(time.perf_counter() - begin)
        order = order[1:] + order[:1]
    return seconds


def median_ratio(slower: list[float], faster: list[float]) -> float:
    """Median over rounds of the ratio within a round: drift of the machine cancels out."""
    return statistics.median(a / b for a, b in zip(slower, faster, strict=True))


def milliseconds(seconds: list[float]) -> float:
    """The median in milliseconds, to a tenth."""
    return round(1000 * statistics.median(seconds), 1)
