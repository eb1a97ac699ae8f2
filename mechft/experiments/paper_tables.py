"""The paper's numbers, as it prints them (accuracies here in 0..1)."""

from __future__ import annotations

import csv
from pathlib import Path

from mechft.errors import unknown_name

_FOLDER = Path(__file__).parent / "paper"
_PROTOCOLS = {
    "filtering": "F",
    "filtering+mix_and_match": "F+MM",
    "filtering+randomisation": "F+RR",
    "not_in_pretraining": "",
}
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


def table1() -> dict[tuple[str, str], dict[int, float]]:
    """Table 1 of Jain et al. (2024): generation scores for Twist while it is brought back.

    Returns:
        Shares by step of bringing back (0, 30, 300, 3,000), by (protocol, deletion's rate: "M" or "S"); the
        model that never saw a twist is ("", "").
    """
    prefix = "twist_pct_iter_"
    with (_FOLDER / "table1_tinystories_reft.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        (_PROTOCOLS[row["protocol"]], row["learning_rate"][0].upper().replace("-", "")): {
            int(name.removeprefix(prefix)): float(value) / 100
            for name, value in row.items()
            if name.startswith(prefix)
        }
        for row in rows
    }


_RATE_NAMES = {1e-4: "L", 1e-5: "M", 1e-6: "S"}


def table5(after: str = "10k") -> dict[tuple[str, float, float], dict[str, float]]:
    """Table 5 of Jain et al. (2024): the PCFG Counter after 200K pretraining steps.

    Args:
        after: Fine-tuning steps: "1k" or "10k". One cell after 1k looks misprinted (rate L, prior 0.9,
            C_Tr = 1: 6.1% on O_FT with the correlation); it is given as printed.

    Returns:
        Accuracies ("acc_pt_cte0" and the like) by (rate's name, prior of a, C_Tr).

    Raises:
        UnknownNameError: If the table has no such number of steps.
    """
    if after not in ("1k", "10k"):
        raise unknown_name("number of steps of the paper's Table 5", after, ("1k", "10k"))
    with (_FOLDER / "table5_pcfg_counter_200k.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        (_RATE_NAMES[float(row["learning_rate"])], float(row["prior_a"]), float(row["c_tr"])): {
            f"acc_{ours}_cte{test}": float(row[f"acc_o_{ours}_cte{test}_{after}"]) / 100
            for ours in ("pt", "ft")
            for test in (0, 1)
        }
        for row in rows
    }
