"""Attention-head ablation: which heads does a behaviour rest on?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from mechft.analysis.result import Result
from mechft.errors import ConfigError, require, unknown_name
from mechft.models.hook_points import ModelLike, as_model, check_heads, head_output
from mechft.statistics import proportion
from mechft.tasks.batch import TokenBatch

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

Kind = Literal["zero", "mean"]
Head = tuple[int, int]
_CHUNK = 256


@dataclass(frozen=True)
class HeadAblation(Result):
    """Accuracy with one attention head ablated, beside the accuracy with none.

    Columns: model, block, head, kind ("zero" or "mean"), task, accuracy, ci_low, ci_high, unablated,
    change (accuracy − unablated), n.
    """


@contextmanager
def ablate(
    model: ModelLike,
    heads: Sequence[Head],
    kind: Kind = "zero",
    reference: TokenBatch | None = None,
) -> Iterator[HookedTransformer]:
    """Replace the output (z) of attention heads inside the block; the hooks are gone after it.

    Args:
        model: Any model with hook points ``blocks.i.attn.hook_z`` and ``hooks``, or a ``Trained``.
        heads: (block, head) pairs, at least one.
        kind: "zero", or "mean": the head's mean over ``reference``, position by position.
        reference: Rows to take means from; needed for "mean". Inputs may not be longer.

    Raises:
        ConfigError: If a head does not exist, or "mean" is asked without a reference.
        UnknownNameError: If the kind is not known.
    """
    if kind not in ("zero", "mean"):
        raise unknown_name("kind of ablation", kind, ("zero", "mean"))
    model = as_model(model)
    if kind == "mean":
        require(
            reference is not None and len(reference) > 0,
            'kind="mean" takes its means from a batch of at least one row; pass reference=batch.',
        )
    check_heads(model, heads)
    blocks = sorted({block for block, _ in heads})
    means = head_means(model, reference, blocks) if kind == "mean" and reference is not None else {}
    hooks: list[Any] = [
        (
            head_output(block),
            _replace_heads([h for b, h in heads if b == block], means.get(block)),
        )
        for block in blocks
    ]
    with model.hooks(fwd_hooks=hooks):
        yield model


def _replace_heads(heads: list[int], mean: Tensor | None) -> Callable[..., Tensor]:
    def replace(z: Tensor, hook: Any) -> Tensor:  # z: [batch, pos, head, d_head]
        if mean is not None and z.shape[1] > len(mean):
            raise ConfigError(
                f"Head means reach {len(mean)} positions, the reference's length; this input has "
                f"{z.shape[1]}. Take the means from rows at least as long."
            )
        z = z.clone()
        z[:, :, heads] = 0.0 if mean is None else mean[: z.shape[1], heads].to(z.dtype)
        return z

    return replace


@torch.no_grad()
def head_means(
    model: HookedTransformer, reference: TokenBatch, blocks: Sequence[int]
) -> dict[int, Tensor]:
    """Mean head outputs over a batch, at each position of its prompts. Float["pos head d_head"] each."""
    names = {head_output(block) for block in blocks}
    totals: dict[int, Tensor] = {}
    for prompt in reference.prompt.split(_CHUNK):
        _, cache = model.run_with_cache(prompt, names_filter=lambda name: name in names)
        for block in blocks:
            total = cache[head_output(block)].sum(0)
            totals[block] = totals[block] + total if block in totals else total
    return {block: total / len(reference) for block, total in totals.items()}


@torch.no_grad()
def ablate_heads(
    model: ModelLike,
    tasks: Mapping[str, TokenBatch],
    *,
    kinds: Sequence[Kind] = ("zero", "mean"),
    name: str = "model",
) -> HeadAblation:
    """Ablate every head alone and measure each task's accuracy.

    Mean ablation takes its means from the task's own rows, so it removes what a head says about the
    particular text and keeps what it always says.

    Args:
        model: The model; unchanged afterwards.
        tasks: Rows to measure on, by name.
        kinds: Kinds of ablation.
        name: What the frame calls the model.

    Cost: the residual stream before each block is cached once, so that a head's ablation runs the
    later blocks only: (n_layers + 1) / 2 of a hooked forward on average.
    """
    for kind in kinds:
        if kind not in ("zero", "mean"):
            raise unknown_name("kind of ablation", kind, ("zero", "mean"))
    if not tasks or not kinds:
        raise ConfigError("An ablation sweep needs at least one task and one kind; got none.")
    model = as_model(model)
    n_layers, n_heads = int(model.cfg.n_layers), int(model.cfg.n_heads)
    rows = []
    for task, batch in tasks.items():
        starts, unablated = _prefixes(model, batch)
        means = head_means(model, batch, range(n_layers)) if "mean" in kinds else {}
        for kind in kinds:
            for block in range(n_layers):
                for head in range(n_heads):
                    mean = means[block] if kind == "mean" else None
                    hook = (head_output(block), _replace_heads([head], mean))
                    right = 0
                    with model.hooks(fwd_hooks=[hook]):
                        for resid, answer in zip(
                            starts[block].split(_CHUNK), batch.answer.split(_CHUNK), strict=True
                        ):
                            logits = model(resid, start_at_layer=block)[:, -1]
                            right += int((logits.argmax(-1) == answer).sum())
                    share = proportion(right, len(batch))
                    rows.append(
                        {
                            "model": name,
                            "block": block,
                            "head": head,
                            "kind": kind,
                            "task": task,
                            "accuracy": share.value,
                            "ci_low": share.low,
                            "ci_high": share.high,
                            "unablated": unablated,
                            "change": share.value - unablated,
                            "n": share.n,
                        }
                    )
    import pandas as pd

    return HeadAblation(pd.DataFrame(rows))


def _prefixes(model: HookedTransformer, batch: TokenBatch) -> tuple[list[Tensor], float]:
    """The residual stream before each block, and the accuracy with nothing ablated."""
    names = [f"blocks.{block}.hook_resid_pre" for block in range(int(model.cfg.n_layers))]
    parts: list[list[Tensor]] = [[] for _ in names]
    right = 0
    for prompt, answer in zip(batch.prompt.split(_CHUNK), batch.answer.split(_CHUNK), strict=True):
        logits, cache = model.run_with_cache(prompt, names_filter=lambda name: name in names)
        right += int((logits[:, -1].argmax(-1) == answer).sum())  # type: ignore[call-overload]
        for part, name in zip(parts, names, strict=True):
            part.append(cache[name])
    return [torch.cat(part) for part in parts], right / len(batch)
