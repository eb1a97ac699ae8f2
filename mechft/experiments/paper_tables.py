"""The paper's numbers, as it prints them (accuracies here in 0..1)."""

from __future__ import annotations

import csv
from pathlib import Path

from mechft.errors import unknown_name

_FOLDER = Path(__file__).parent / "paper"
_TASKS = {"counter": "counter", "max": "max_identifier"}


def table3(program: str) -> dict[tuple[float, float], dict[str, float]]:
    """Table 3 of Jain et al. (2024): fine-tuned Tracr models.

    Args:
        program: "counter" or "max".

    Returns:
        Accuracies ("acc_pt_cte1" and the like) by (learning rate, C_Tr).

    Raises:
        UnknownNameError: If the table has no such program.
    """
    if program not in _TASKS:
        raise unknown_name("program of the paper's Table 3", program, _TASKS)
    with (_FOLDER / "table3_tracr.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        (float(row["learning_rate"]), float(row["c_tr"])): {
            f"acc_{ours}_cte{test}": float(row[f"{_TASKS[program]}_acc_o_{ours}_cte{test}"]) / 100
            for ours in ("pt", "ft")
            for test in (1, 0)
        }
        for row in rows
    }
