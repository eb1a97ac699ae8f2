"""Whether a task keeps what ``mechft.tasks.task.Task`` promises, said before a model is trained on it."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor

from mechft.errors import ConfigError, require
from mechft.tasks.batch import Source, TokenBatch
from mechft.tasks.correlation import Correlation
from mechft.tasks.task import KINDS, Task

MEMBERS: dict[str, str] = {
    "kind": "a string: names the task in files and its training protocol",
    "vocabulary": "a Vocabulary: names of the tokens a model reads; sizes the embedding",
    "answer_vocabulary": "a Vocabulary: names of answers, vocabulary itself if they are tokens; sizes the "
    "unembedding",
    "n_ctx": "a number: positions a model must take; sizes its positional embedding",
    "contrast": "a Contrast: which two operands recipes and analyses ask for by default",
    "can_correlate": "can_correlate(family): whether query takes a correlation; decides what is measured",
    "query": "query(family, operand, correlation=None): a source of samples that all ask for one operand; "
    "fine-tuning, evaluations and every analysis draw from it",
    "to_dict": "to_dict(): the task as JSON values; save and resumed runs keep it",
}
"""What recipes and shortcuts need of a task, and what for."""

PRETRAINING = "pretraining(): a source of samples that ask for everything; pretrain draws from it"
_ROWS = 64


def check_task(task: Task, *, pretraining: bool = False) -> None:
    """Draw a few samples of a task and raise if they are not what recipes and analyses rely on.

    Recipes call it for tasks that are not of this package; call it in the tests of a task of your own.

    Args:
        task: The task.
        pretraining: Whether models are to be pretrained on it, too.

    Raises:
        ConfigError: If a member is missing (names each, and what it is for); the kind is not registered,
            so that ``load`` could not read a model of it; ids lie outside the vocabularies or
            prompts beyond ``n_ctx``; draws depend on more than the generator; a probe's label is missing; the
            correlation does not hold where it should, or holds where it should not; ``to_dict`` is no JSON.

    Cost: a few draws of 64 rows.

    Example:
        >>> import mechft as mf
        >>> mf.check_task(mf.load("pcfg-tiny-low").task, pretraining=True)  # says nothing: all is well
        >>> mf.check_task(mf.load("tracr-max").task, pretraining=True)
        Traceback (most recent call last):
        mechft.errors.ConfigError: ... ProgramTask lacks pretraining(): a source of samples ...
    """
    missing = [f"{name} ({what})" for name, what in MEMBERS.items() if not _has(task, name)]
    if pretraining and not _has(task, "pretraining"):
        missing.append(PRETRAINING)
    require(
        not missing,
        f"A task needs the members of mechft.tasks.task.Task; {type(task).__name__} lacks "
        f"{'; '.join(missing)}. A subclass of OwnTask (mechft.tasks.own) has them from three methods.",
    )
    _check_description(task)
    contrast = task.contrast
    labels = tuple(
        f"{contrast.family}({operand})"
        for operand in (contrast.pretraining_operand, contrast.finetuning_operand)
    )
    plans: list[Correlation | None] = [None]
    if task.can_correlate(contrast.family):
        plans += [contrast.correlation(0.0), contrast.correlation(1.0)]
    for operand in (contrast.pretraining_operand, contrast.finetuning_operand):
        for correlation in plans:
            call = f"query({contrast.family!r}, {operand!r}, {correlation})"
            rows = _drawn(task, call, task.query(contrast.family, operand, correlation))
            _check_labels(call, rows, labels, correlation)
    if pretraining:
        asked: Any = task  # Task does not promise it
        _drawn(task, "pretraining()", asked.pretraining())


def _has(task: object, name: str) -> bool:
    """Whether a member is there; it is not asked for its value, whose errors are its own."""
    return hasattr(type(task), name) or name in getattr(task, "__dict__", {})


def _check_description(task: Task) -> None:
    described = task.to_dict()
    try:
        same = json.loads(json.dumps(described)).get("kind") == task.kind
    except (TypeError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"to_dict() gives plain JSON values, for files; got {described!r}: {error}."
        ) from error
    require(same, f'to_dict() holds the task\'s kind, {task.kind!r}, as "kind"; got {described!r}.')
    require(
        task.kind in KINDS,
        f"load() could not read a model of this task, as no class is registered for the kind {task.kind!r}. "
        "Put @register_task (mechft.tasks.task) above the class, or make it a subclass of OwnTask.",
    )
    again = KINDS[task.kind].from_dict(described).to_dict()
    require(
        again == described,
        f"from_dict(to_dict()) is the same task; {described!r} came back as {again!r}.",
    )


def _drawn(task: Task, call: str, source: Source) -> TokenBatch:
    """A few rows of a source, once they are found to be what ``Source`` and ``TokenBatch`` promise."""
    require(
        isinstance(source, Source),
        f"{call} returns a source, an object with sample(size, generator); got {source!r}.",
    )
    rows, again = (source.sample(_ROWS, torch.Generator().manual_seed(0)) for _ in range(2))
    require(
        isinstance(rows, TokenBatch) and len(rows) == len(rows.answer) == _ROWS,
        f"sample({_ROWS}, generator) of {call} returns a TokenBatch of {_ROWS} rows; got {rows!r}.",
    )
    require(
        rows.digest() == again.digest(),
        f"Samples of {call} are drawn from the generator they are given alone; from the same one "
        "twice, they differed. Give generator=generator to every torch.rand….",
    )
    _check_ids(f"tokens of {call}", rows.tokens, len(task.vocabulary))
    _check_ids(f"answers of {call}", rows.answer, len(task.answer_vocabulary))
    length, position = rows.tokens.shape[1], rows.answer_position
    require(
        0 <= position < length and position < task.n_ctx,
        f"answer_position is a place in the sample that a model of n_ctx={task.n_ctx} reaches; {call} gives "
        f"{position} in samples of {length} tokens.",
    )
    if task.answer_vocabulary is task.vocabulary and position + 1 < length:
        require(
            torch.equal(rows.tokens[:, position + 1], rows.answer),
            f"The token after answer_position is the answer; in {call} some differ.",
        )
    return rows


def _check_ids(what: str, ids: Tensor, size: int) -> None:
    rule = f"The {what} are ids of their vocabulary, 0..{size - 1}"
    remedy = "Its encode(names) gives ids; what an answer is as a number goes to labels."
    require(not ids.is_floating_point(), f"{rule}; got {ids.dtype}. {remedy}")
    for row, *place in ((ids < 0) | (ids >= size)).nonzero()[:1].tolist():
        value = int(ids[(row, *place)])
        raise ConfigError(f"{rule}; got {value} in row {row}. {remedy}")


def _check_labels(
    call: str, rows: TokenBatch, labels: tuple[str, ...], correlation: Correlation | None
) -> None:
    for name in labels:
        require(
            name in rows.labels,
            f"Batches of {call} label r(x, O) of both operands, which probes read; {name!r} is missing, "
            f"there are {', '.join(rows.labels) or 'none'}.",
        )
    if correlation is None:
        return
    holds = rows.labels[labels[1]] - rows.labels[labels[0]] == correlation.offset
    right = bool((holds if correlation.probability else ~holds).all())
    require(
        right,
        f"{labels[1]} − {labels[0]} = {correlation.offset} holds in every row of {call}, where the "
        f"correlation's probability is 1, and in none where it is 0; it holds in {int(holds.sum())} of "
        f"{len(rows)}.",
    )
