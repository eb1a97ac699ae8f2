"""Where two models look: divergence of their attention patterns, and mass on chosen tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mechft.analysis.batches import Data
from mechft.analysis.result import Result
from mechft.analysis.streaming.attention_patterns import (
    KeysOf,
    Query,
    Tokens,
    attention_chunks,
    check_models,
    key_groups,
    key_masks,
    own_masks,
    patterns,
)
from mechft.analysis.streaming.means import MeanFitter, Means, finite_float64
from mechft.errors import require
from mechft.models.hook_points import ModelLike, as_model

_MASS_COLUMNS = (
    "model", "block", "head", "group", "mass", "ci_low", "ci_high",
    "change", "change_low", "change_high", "n",
)  # fmt: skip


@dataclass(frozen=True)
class AttentionMass(Result):
    """How much of each head's attention lands on chosen tokens, model by model.

    Columns: model (the base first), block, head, group, mass (mean over rows; with all queries, of the mean
    over queries), ci_low, ci_high, change (mean of the paired difference to the base; NaN for the base),
    change_low, change_high (all 95% normal, over rows), n (rows).
    """


@dataclass(frozen=True)
class AttentionDiff(Result):
    """How far each head's attention pattern moved from the base model's.

    Columns: model, block, head, js (Jensen–Shannon divergence of the two patterns in bits: 0 the same, 1
    disjoint; mean over rows, with all queries of the mean over queries), ci_low, ci_high (95% normal,
    over rows), query, n (rows).

    Attributes:
        mass: Attention on the chosen groups of tokens; no rows where none was chosen.
    """

    mass: AttentionMass = field(repr=False)


def jensen_shannon(p: Float[Tensor, "... key"], q: Float[Tensor, "... key"]) -> Tensor:
    """Jensen–Shannon divergence of distributions over the last axis, in bits, 0..1.

    Returns:
        A tensor of the leading axes.

    Source: Lin (1991), "Divergence measures based on the Shannon entropy".
    """
    middle = (p + q) / 2
    # xlogy(0, 0) is 0, and the middle is 0 only where both are.
    entropies = [-torch.xlogy(r, r).sum(-1) for r in (middle, p, q)]
    found = (entropies[0] - (entropies[1] + entropies[2]) / 2) / math.log(2)
    return found.clamp(0, 1)


def diff_attention(
    base: ModelLike,
    finetuned: ModelLike,
    data: Data,
    *,
    tokens: Tokens | None = None,
    key_positions: Mapping[str, Sequence[int]] | None = None,
    keys_of: Mapping[str, KeysOf] | None = None,
    query: Query = "answer",
    name: str = "finetuned",
    base_name: str = "base",
) -> AttentionDiff:
    """Compare where two models' heads look on the same rows, reading the data once, chunk by chunk.

    Args:
        base, finetuned: Models with as many blocks and heads.
        data: Rows; the prompts are shown.
        tokens: Tokens whose share of the attention is measured: ``{"a": [0]}``, or ``[0, 1]``.
        key_positions: Places whose share is measured, from the prompt's end where negative: ``{"SOS": [0]}``.
        keys_of: Keys that differ from row to row: for each name a function that is given some of the rows
            and says which keys count, Bool["row key"].
        query: "answer": attention from the position whose next token is the answer. "all": the mean over
            all positions of the prompt (a causal model's first can only look at itself).
        name, base_name: What the frames call the fine-tuned model and the base.

    Raises:
        UnknownNameError: If a model lacks ``blocks.i.attn.hook_pattern``.
        ConfigError: If blocks or heads differ in number, a token or position does not exist, a group is
            empty or named twice, both models have one name, there is no row, or a pattern is not finite.

    Cost: one hooked forward a model. Memory does not grow with the rows.
    """
    base, finetuned = as_model(base), as_model(finetuned)
    require(query in ("answer", "all"), f'query is "answer" or "all"; got {query!r}.')
    require(
        name != base_name,
        f"The two models need different names to be told apart; both are called {name!r}. Give another "
        "name or base_name.",
    )
    check_models({base_name: base, name: finetuned})
    groups = key_groups(tokens, key_positions, int(base.cfg.d_vocab))
    own = dict(keys_of or {})
    require(not groups.keys() & own.keys(), "Groups need different names; some come twice.")
    divergence, mass = MeanFitter(), MeanFitter()
    for chunk in attention_chunks(data, base, query):
        pairs = zip(*(patterns(m, chunk.prompt, query) for m in (base, finetuned)), strict=True)
        masks = torch.cat([key_masks(groups, chunk.prompt), own_masks(own, chunk)], 1)
        divergences, shares = [], []
        for p, q in pairs:  # block by block: float64 takes twice the memory
            p, q = finite_float64(p), finite_float64(q).to(p.device)
            # Half precision, or a sink outside the sequence, keeps rows from summing to one.
            whole = (r / r.sum(-1, keepdim=True) for r in (p, q))
            divergences.append(jensen_shannon(*whole).mean(-1))
            shares.append(
                torch.stack(
                    [torch.einsum("rhqk,rgk->rhg", r, masks.to(r)) / r.shape[2] for r in (p, q)], 1
                )
            )
        divergence.update(torch.stack(divergences, 1))
        before, after = torch.stack(shares, 1).unbind(2)
        mass.update(torch.stack([before, after, after - before], 1))
    import pandas as pd

    return AttentionDiff(
        pd.DataFrame(_divergence_rows(divergence.result(), name, query)),
        AttentionMass(
            pd.DataFrame(
                _mass_rows(mass.result(), (base_name, name), [*groups, *own]), columns=_MASS_COLUMNS
            )
        ),
    )


def _divergence_rows(means: Means, name: str, query: Query) -> list[dict[str, Any]]:
    blocks, heads = means.mean.shape
    rows = []
    for block in range(blocks):
        for head in range(heads):
            found = means.estimate(block, head)
            rows.append(
                {
                    "model": name,
                    "block": block,
                    "head": head,
                    "js": found.value,
                    "ci_low": found.low,
                    "ci_high": found.high,
                    "query": query,
                    "n": found.n,
                }
            )
    return rows


def _mass_rows(
    means: Means, names: tuple[str, str], groups: Sequence[str]
) -> list[tuple[Any, ...]]:
    """Rows of ``_MASS_COLUMNS`` from means over (base, model, difference), block, head, group."""
    _, blocks, heads, _ = means.mean.shape
    rows = []
    for which, model in enumerate(names):
        for block in range(blocks):
            for head in range(heads):
                for place, group in enumerate(groups):
                    found = means.estimate(which, block, head, place)
                    change = means.estimate(2, block, head, place)
                    paired = (change.value, change.low, change.high)
                    row = (model, block, head, group, found.value, found.low, found.high)
                    rows.append((*row, *(paired if which else (float("nan"),) * 3), found.n))
    return rows
