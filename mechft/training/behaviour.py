"""The questions that runs and analyses watch, and fixed batches of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping

from mechft.errors import require
from mechft.randomness import generator
from mechft.tasks.balanced import Balanced
from mechft.tasks.batch import Source, TokenBatch
from mechft.tasks.contrast import Contrast
from mechft.tasks.correlation import Correlation
from mechft.tasks.task import Task

EVALUATION_SIZE = 500  # rows of each evaluation while training: intervals of at most ±4.4 points


def behaviour_queries(
    task: Task, contrast: Contrast, *, randomised: bool = False, balanced: bool = False
) -> dict[str, Source]:
    """The four questions of the paper's tables: O_PT and O_FT at C_Te = 0 and 1.

    Args:
        task: What is asked.
        contrast: Family, operands and offset.
        randomised: Whether to watch what randFT teaches, too (App. E.4).
        balanced: Whether strings are spread evenly over the pairs of the operands' answers, which at
            C_Te = 0 must differ (``Balanced``, ``Correlation.distinct``): what is common then answers little.

    Returns:
        "acc_pt_cte0", "acc_pt_cte1", "acc_ft_cte0", "acc_ft_cte1"; for a family in which no
        correlation can be planted "acc_pt_plain" and "acc_ft_plain", on plain strings. If
        ``randomised``, also "acc_randomised": asked for O_PT, r(x, O_FT) is right; at C_Te = 0, where
        adding the offset to r(x, O_PT) gives a wrong answer, or on plain strings. Strings where the
        two counts are equal stay in, so a model that counts a perfectly still has 37% at tiny (26% at
        paper) in "acc_randomised", and one that counts b instead as much in "acc_pt_cte0".

    Raises:
        UnknownNameError: If the task has no such family or operand.
        ConfigError: If ``balanced`` is asked for and no correlation can be planted; if ``randomised`` and the
            task cannot give one operand's answer for another.
    """
    operands = {"pt": contrast.pretraining_operand, "ft": contrast.finetuning_operand}
    able = task.can_correlate(contrast.family)
    require(
        able or not balanced,
        "Test strings are balanced over both operands' answers, which takes a family in which a correlation "
        f"can be planted; {contrast.family} is none. Use balanced=False.",
    )

    def correlation(test: int) -> Correlation:
        return contrast.correlation(test, distinct=balanced)

    found: dict[str, Source] = {}
    for which, operand in operands.items():
        if not able:
            found[f"acc_{which}_plain"] = task.query(contrast.family, operand)
            continue
        for test in (0, 1):
            query = task.query(contrast.family, operand, correlation(test))
            found[f"acc_{which}_cte{test}"] = query
    if randomised:
        found["acc_randomised"] = randomised_query(task, contrast, correlation(0) if able else None)
    if not balanced:
        return found
    both = [f"{contrast.family}({operand})" for operand in operands.values()]
    return {name: Balanced(query, both) for name, query in found.items()}


def randomised_query(task: Task, contrast: Contrast, correlation: Correlation | None) -> Source:
    """Samples that ask for O_PT and are answered with r(x, O_FT): what randFT trains on (App. E.4).

    Raises:
        ConfigError: If ``task.query`` takes no ``answer_for``; those of compiled programs do not.
        UnknownNameError: If the task has no such family or operand.
    """
    query: Callable[..., Source] = task.query
    require(
        "answer_for" in inspect.signature(query).parameters,
        "Randomised fine-tuning asks for one operand and answers for another, which takes a task whose "
        f"query() has the argument answer_for; got a task of kind {task.kind!r}, whose query() has "
        "not. Use a PCFG model, or randomised=False.",
    )
    return query(
        contrast.family,
        contrast.pretraining_operand,
        correlation,
        answer_for=contrast.finetuning_operand,
    )


def evaluation_batches(
    queries: Mapping[str, Source], seed: int, size: int = EVALUATION_SIZE
) -> dict[str, TokenBatch]:
    """One fixed batch a query, drawn from streams that no training batch uses.

    Raises:
        ConfigError: If ``size`` is below 1.
    """
    require(size >= 1, f"An evaluation needs at least one row; got evaluation_size={size}.")
    return {n: q.sample(size, generator(seed, "evaluate", n)) for n, q in queries.items()}
