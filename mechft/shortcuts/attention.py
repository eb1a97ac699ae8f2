"""One-liners that compare where models look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from mechft.analysis import attention
from mechft.analysis import attention_maps as maps
from mechft.analysis.streaming.attention_patterns import Query, Tokens
from mechft.errors import require
from mechft.shortcuts.activations import asked_rows
from mechft.shortcuts.common import joined, together
from mechft.tasks.batch import TokenBatch
from mechft.tasks.contrast import Contrast
from mechft.tasks.pcfg_config import LETTERS
from mechft.training.trained import Trained

_OPERAND_POSITION = 2  # a sample begins SOS T O


def diff_attention(
    base: Trained,
    *finetuned: Trained,
    batch: TokenBatch | None = None,
    contrast: Contrast | None = None,
    tokens: Tokens | None = None,
    key_positions: Mapping[str, Sequence[int]] | None = None,
    query: Query = "answer",
    size: int = 500,
    seed: int = 0,
) -> attention.AttentionDiff:
    """How far each head's pattern moved, and its mass on the letters of O_PT and O_FT.

    By default on grammar strings, asked for O_PT, with the groups of ``letter_groups`` and "operand": the
    place where the prompt names the operand, whose token also counts among its letter.

    Cost: at tiny, about 2 s a fine-tuned model on one core.
    """
    _, contrast = together((base, *finetuned), contrast)
    batch = asked_rows((base, *finetuned), batch, contrast, "diff_attention", size, seed)
    if tokens is None and key_positions is None:
        tokens, key_positions = letter_groups(base, contrast), {"operand": [_OPERAND_POSITION]}
    results = [
        attention.diff_attention(
            base.model, t.model, batch, tokens=tokens, key_positions=key_positions, query=query,
            name=t.name,
        )
        for t in finetuned
    ]  # fmt: skip
    found = joined(results)
    mass = joined([result.mass for result in results])
    once = mass.frame.drop_duplicates(["model", "block", "head", "group"], ignore_index=True)
    return replace(found, mass=replace(mass, frame=once))


def letter_groups(trained: Trained, contrast: Contrast) -> dict[str, list[int]]:
    """Token ids of the letters that O_PT and O_FT are made of, by operand; all letters for NULL."""
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
        batch: Rows; by default grammar strings, asked for O_PT.
        contrast: What is asked; by default what the last model was fine-tuned on.
        row: Which row; None for the mean over all, where a position is named by its token if that is the
            same in every row.
        heads: (block, head) pairs; all by default.
        size, seed: Rows drawn if ``batch`` is not given.
    """
    named, contrast = together(models, contrast)
    batch = asked_rows(models, batch, contrast, "attention_maps", size, seed)
    require(
        row is None or 0 <= row < len(batch),
        f"Rows of the batch are 0..{len(batch) - 1}; got {row}.",
    )
    prompt = batch.prompt if row is None else batch.prompt[row : row + 1]
    same = (prompt == prompt[0]).all(0).tolist()
    words = models[0].task.vocabulary.decode(prompt[0])
    labels = [word if fixed else "·" for word, fixed in zip(words, same, strict=True)]
    bare = {name: trained.model for name, trained in named.items()}
    return maps.attention_maps(bare, batch, row=row, heads=heads, labels=labels)
