"""One-liners that compare activations and outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from mechft.analysis import activation_diff, output_diff
from mechft.analysis import logit_lens as lens
from mechft.analysis.activations import Positions
from mechft.randomness import generator
from mechft.shortcuts.common import joined, together
from mechft.tasks.batch import TokenBatch
from mechft.tasks.contrast import Contrast
from mechft.training.trained import Trained


def diff_activations(
    base: Trained,
    *finetuned: Trained,
    batch: TokenBatch | None = None,
    contrast: Contrast | None = None,
    hook_names: Sequence[str] | None = None,
    positions: Positions = "answer",
    by_position: bool = False,
    k: int | None = None,
    size: int = 500,
    seed: int = 0,
) -> activation_diff.ActivationDiff:
    """How far activations moved at the answer position; by default on plain strings, asked for O_PT.

    Args:
        base, finetuned: Trained models of one shape.
        batch: Rows of your own to compare them on.
        contrast: What is asked; by default what the last model was fine-tuned on.
        hook_names, positions, by_position, k: As in ``mechft.analysis.activation_diff.diff_activations``.
        size, seed: Rows drawn if ``batch`` is not given.

    Returns:
        One row a model and site, and ``direction(hook)``, along which the difference is largest
        (``mechft.analysis.activation_diff.ActivationDiff`` lists the columns).

    Raises:
        ConfigError: If models share a name or answer different tasks; else as
            ``mechft.analysis.activation_diff.diff_activations``.

    Cost: at tiny, about 2 s a fine-tuned model on one core; 12 with ``by_position`` at all sites.

    Example:
        >>> import mechft as mf
        >>> base, ft = mf.load("pcfg-tiny-low"), mf.load("pcfg-tiny-low-to-b")
        >>> found = mf.diff_activations(base, ft, size=50)
        >>> len(found)  # attention, MLP and residual output of 3 blocks
        9
        >>> found.direction("blocks.2.hook_resid_post", k=2).shape
        torch.Size([2, 128])
    """
    batch = asked_rows((base, *finetuned), batch, contrast, "diff", size, seed)
    results = [
        activation_diff.diff_activations(
            base.model, t.model, batch, hook_names=hook_names, positions=positions,
            by_position=by_position, k=k, name=t.name,
        )
        for t in finetuned
    ]  # fmt: skip
    return replace(
        joined(results),
        spectrum=joined([result.spectrum for result in results]),
        by_site={key: rows for result in results for key, rows in result.by_site.items()},
    )


def logit_lens(
    *models: Trained,
    batch: TokenBatch | None = None,
    contrast: Contrast | None = None,
    readout: lens.Readout = "own",
    size: int = 500,
    seed: int = 0,
) -> lens.LogitLens:
    """What models would answer after each block, asked for O_PT on plain strings; the base comes first.

    Args:
        models: Trained models, the base first.
        batch: Rows of your own, to ask something else.
        contrast: What is asked; by default what the last model was fine-tuned on.
        readout: "own", each model's final norm and unembedding, or "base", the base's for all.
        size, seed: Rows drawn if ``batch`` is not given.

    Returns:
        One row a model and block (``mechft.analysis.logit_lens.LogitLens`` lists the columns).

    Raises:
        ConfigError: If models share a name or answer different tasks; else as
            ``mechft.analysis.logit_lens.logit_lens``.

    Cost: at tiny, about a second a model on one core.

    Example:
        >>> import mechft as mf
        >>> base, ft = mf.load("pcfg-tiny-low"), mf.load("pcfg-tiny-low-to-b")
        >>> found = mf.logit_lens(base, ft, size=50)
        >>> found.frame["block"].tolist()  # of the base, then of the fine-tuned model
        [0, 1, 2, 0, 1, 2]
    """
    batch = asked_rows(models, batch, contrast, "logit_lens", size, seed)
    return lens.logit_lens({t.name: t.model for t in models}, batch, readout=readout)


def diff_outputs(
    base: Trained,
    *finetuned: Trained,
    batch: TokenBatch | None = None,
    contrast: Contrast | None = None,
    positions: Literal["answer", "all"] = "answer",
    keep: int = 10,
    size: int = 500,
    seed: int = 0,
) -> output_diff.OutputDiff:
    """How far answers moved, and on which rows most; by default plain strings, asked for O_PT.

    Args:
        base, finetuned: Trained models of one task.
        batch: Rows of your own, to ask something else.
        contrast: What is asked; by default what the last model was fine-tuned on.
        positions, keep: As in ``mechft.analysis.output_diff.diff_outputs``.
        size, seed: Rows drawn if ``batch`` is not given.

    Returns:
        One row a model and measure, and ``examples``, the rows that moved most
        (``mechft.analysis.output_diff.OutputDiff`` lists the columns).

    Raises:
        ConfigError: If models share a name or answer different tasks; else as
            ``mechft.analysis.output_diff.diff_outputs``.

    Cost: at tiny, about a second a model on one core.

    Example:
        >>> import mechft as mf
        >>> base, ft = mf.load("pcfg-tiny-low"), mf.load("pcfg-tiny-low-to-b")
        >>> found = mf.diff_outputs(base, ft, size=100)
        >>> value = found.frame.set_index("measure")["value"].to_dict()
        >>> value["base_accuracy"] > 0.9, value["accuracy"] < 0.5
        (True, True)
    """
    batch = asked_rows((base, *finetuned), batch, contrast, "diff_outputs", size, seed)
    results = [
        output_diff.diff_outputs(
            base.model, t.model, batch, positions=positions, keep=keep, name=t.name
        )
        for t in finetuned
    ]
    found = joined(results)
    import pandas as pd

    examples = pd.concat([result.examples for result in results], ignore_index=True)
    return replace(found, examples=examples)


def asked_rows(
    models: Sequence[Trained],
    batch: TokenBatch | None,
    contrast: Contrast | None,
    stream: str,
    size: int,
    seed: int,
) -> TokenBatch:
    """The rows given, or plain strings asked for O_PT, from a stream of their own."""
    _, contrast = together(models, contrast)
    if batch is not None:
        return batch
    query = models[0].task.query(contrast.family, contrast.pretraining_operand)
    return query.sample(size, generator(seed, stream, contrast.pretraining_operand))
