"""One-liners that compare where models look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from jaxtyping import Bool
from torch import Tensor

from mechft.analysis import attention
from mechft.analysis import attention_maps as maps
from mechft.analysis.streaming.attention_patterns import KeysOf, Query, Tokens
from mechft.shortcuts.activations import asked_rows
from mechft.shortcuts.common import joined, position_labels, together
from mechft.tasks.batch import TokenBatch
from mechft.tasks.contrast import Contrast
from mechft.tasks.pcfg import PCFGTask
from mechft.tasks.pcfg_config import LETTERS
from mechft.tasks.programs import ProgramTask
from mechft.training.trained import Trained

_OPERAND_POSITION = 2  # a sample begins SOS T O


def diff_attention(
    base: Trained,
    *finetuned: Trained,
    batch: TokenBatch | None = None,
    contrast: Contrast | None = None,
    tokens: Tokens | None = None,
    key_positions: Mapping[str, Sequence[int]] | None = None,
    keys_of: Mapping[str, KeysOf] | None = None,
    query: Query = "answer",
    size: int = 500,
    seed: int = 0,
) -> attention.AttentionDiff:
    """How far each head's pattern moved, and its mass on the letters of O_PT and O_FT.

    By default on plain strings, asked for O_PT, with the groups of ``usual_groups``. The frames call every
    model, the base too, by its own name.

    Args:
        base, finetuned: Trained models of one shape.
        batch: Rows of your own; the prompts are shown.
        contrast: What is asked; by default what the last model was fine-tuned on.
        tokens, key_positions, keys_of, query: As in ``mechft.analysis.attention.diff_attention``.
        size, seed: Rows drawn if ``batch`` is not given.

    Returns:
        One row a model and head, and ``mass``, the attention on groups of tokens
        (``mechft.analysis.attention.AttentionDiff`` lists the columns).

    Raises:
        ConfigError: If models share a name or answer different tasks; else as
            ``mechft.analysis.attention.diff_attention``.

    Cost: at tiny, about 2 s a fine-tuned model on one core.

    Example:
        >>> import mechft as mf
        >>> base, ft = mf.load("pcfg-tiny-low"), mf.load("pcfg-tiny-low-to-b")
        >>> found = mf.diff_attention(base, ft, size=50)
        >>> len(found)  # 3 blocks of 4 heads
        12
        >>> found.mass.frame["group"].unique().tolist()
        ['a', 'b', 'operand']
    """
    _, contrast = together((base, *finetuned), contrast)
    batch = asked_rows((base, *finetuned), batch, contrast, "diff_attention", size, seed)
    groups: dict[str, Any] = {"tokens": tokens, "key_positions": key_positions, "keys_of": keys_of}
    if all(given is None for given in groups.values()):
        groups = usual_groups(base, contrast)
    results = [
        attention.diff_attention(
            base.model, t.model, batch, query=query, name=t.name, base_name=base.name, **groups
        )
        for t in finetuned
    ]
    found = joined(results)
    mass = joined([result.mass for result in results])
    once = mass.frame.drop_duplicates(["model", "block", "head", "group"], ignore_index=True)
    return replace(found, mass=replace(mass, frame=once))


def usual_groups(trained: Trained, contrast: Contrast) -> dict[str, Any]:
    """The keys whose attention is measured by default, as arguments of the plain ``diff_attention``.

    PCFG: the ``letter_groups``, and "operand", the place where the prompt names the operand (its token
    also counts among its letter). Counter: the letters O_PT and O_FT, and "$". Max-identifier: in each
    row the letter that answers O_PT and the one that answers O_FT, and "$". Tasks of one's own: none.
    """
    task, operands = trained.task, (contrast.pretraining_operand, contrast.finetuning_operand)
    if isinstance(task, PCFGTask):
        letters = letter_groups(trained, contrast)
        return {"tokens": letters, "key_positions": {"operand": [_OPERAND_POSITION]}}
    if not isinstance(task, ProgramTask):
        return {}
    start = {"$": [0]}
    if contrast.family == "counter":
        letters = {operand: [task.vocabulary.id(operand)] for operand in operands}
        return {"tokens": letters, "key_positions": start}
    return {"keys_of": {o: _answering(task, o) for o in operands}, "key_positions": start}


def _answering(task: ProgramTask, operand: str) -> KeysOf:
    """Where each prompt has the letter that answers an operand."""
    letters = task.vocabulary.encode(task.strings.letters)

    def keys(batch: TokenBatch) -> Bool[Tensor, "row key"]:
        prompt = batch.prompt
        return prompt == letters.to(prompt.device)[task.answers(prompt, operand)][:, None]

    return keys


def letter_groups(trained: Trained, contrast: Contrast) -> dict[str, list[int]]:
    """Token ids of the PCFG's letters that O_PT and O_FT are made of, by operand; all letters for NULL."""
    return {
        operand: trained.task.vocabulary.encode(
            LETTERS if operand == "NULL" else dict.fromkeys(operand)
        ).tolist()
        for operand in (contrast.pretraining_operand, contrast.finetuning_operand)
    }


def attention_maps(
    *models: Trained,
    batch: TokenBatch | None = None,
    contrast: Contrast | None = None,
    row: int | None = 0,
    heads: Sequence[tuple[int, int]] | None = None,
    size: int = 500,
    seed: int = 0,
) -> maps.AttentionMaps:
    """Attention patterns side by side, with the prompt's tokens named: one row, or the mean over all.

    Args:
        models: The base first.
        batch: Rows; by default plain strings, asked for O_PT.
        contrast: What is asked; by default what the last model was fine-tuned on.
        row: Which row; None for the mean over all, where a position is named by its token if that is the
            same in every row.
        heads: (block, head) pairs; all by default.
        size, seed: Rows drawn if ``batch`` is not given.

    Returns:
        ``patterns``, Float["query key"] by (model, block, head), and one row a pair of positions
        (``mechft.analysis.attention_maps.AttentionMaps`` lists the columns).

    Raises:
        ConfigError: If models share a name or answer different tasks; if a head or row does not exist.

    Source: Jain et al. (2024), Fig. 10.

    Cost: one hooked forward a model. The frame has models × heads × length² rows.

    Example:
        >>> import mechft as mf
        >>> base = mf.load("tracr-max")
        >>> rows = base.task.query("max", "5").sample(1, mf.generator(0))
        >>> found = mf.attention_maps(base, batch=rows)
        >>> found.labels[0], len(found.labels)
        ('$', 11)
        >>> found.patterns["tracr-max", 0, 0].shape
        torch.Size([11, 11])
    """
    named, contrast = together(models, contrast)
    batch = asked_rows(models, batch, contrast, "attention_maps", size, seed)
    labels = position_labels(models[0], batch, row)
    bare = {name: trained.model for name, trained in named.items()}
    return maps.attention_maps(bare, batch, row=row, heads=heads, labels=labels)
