"""The questions that runs and analyses watch, and fixed batches of them."""

from __future__ import annotations

from collections.abc import Mapping

from mechft.errors import require
from mechft.randomness import generator
from mechft.tasks.batch import Source, TokenBatch
from mechft.tasks.contrast import Contrast
from mechft.tasks.task import Task

EVALUATION_SIZE = 500  # rows of each evaluation while training: intervals of at most ±4.4 points


def behaviour_queries(task: Task, contrast: Contrast) -> dict[str, Source]:
    """The four questions of the paper's tables: O_PT and O_FT at C_Te = 0 and 1.

    Returns:
        "acc_pt_cte0", "acc_pt_cte1", "acc_ft_cte0", "acc_ft_cte1"; for a family in which no
        correlation can be planted "acc_pt_plain" and "acc_ft_plain", on plain strings.

    Raises:
        UnknownNameError: If the task has no such family or operand.
    """
    operands = {"pt": contrast.pretraining_operand, "ft": contrast.finetuning_operand}
    if not task.can_correlate(contrast.family):
        return {f"acc_{w}_plain": task.query(contrast.family, o) for w, o in operands.items()}
    return {
        f"acc_{which}_cte{test}": task.query(contrast.family, operand, contrast.correlation(test))
        for which, operand in operands.items()
        for test in (0, 1)
    }


def evaluation_batches(
    queries: Mapping[str, Source], seed: int, size: int = EVALUATION_SIZE
) -> dict[str, TokenBatch]:
    """One fixed batch a query, drawn from streams that no training batch uses.

    Raises:
        ConfigError: If ``size`` is below 1.
    """
    require(size >= 1, f"An evaluation needs at least one row; got evaluation_size={size}.")
    return {n: q.sample(size, generator(seed, "evaluate", n)) for n, q in queries.items()}
