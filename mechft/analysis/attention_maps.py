"""Attention patterns as they are drawn: the attending token down, the attended token across."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from torch import Tensor

from mechft.analysis.batches import Data
from mechft.analysis.result import Result
from mechft.analysis.streaming.attention_patterns import attention_chunks, check_models, patterns
from mechft.analysis.streaming.means import finite_float64
from mechft.errors import require
from mechft.models.hook_points import ModelLike, as_model, check_heads


@dataclass(frozen=True)
class AttentionMaps(Result):
    """Attention patterns of several models, head by head, of one row or averaged over rows.

    Columns: model, block, head, query, key (positions in the prompt), query_token, key_token (their
    labels), weight (share of the query's attention; mean over rows), n (rows). Every pair is there, the
    zeros of keys after their query too.

    Attributes:
        patterns: Float["query key"] by (model, block, head).
        labels: What the positions of the prompt are called.
        n: Rows averaged.
    """

    patterns: Mapping[tuple[str, int, int], Float[Tensor, "query key"]] = field(repr=False)
    labels: tuple[str, ...]
    n: int

    def _repr_html_(self) -> str:
        heads = len({(block, head) for _, block, head in self.patterns})
        models = ", ".join(dict.fromkeys(model for model, _, _ in self.patterns))
        return (
            f"<p><b>AttentionMaps</b>: {heads} heads of {models}, {len(self.labels)} tokens, mean over "
            f"{self.n} rows. <code>.frame</code> is long; draw it with <code>plot</code>.</p>"
        )


def attention_maps(
    models: Mapping[str, ModelLike],
    data: Data,
    *,
    row: int | None = None,
    heads: Sequence[tuple[int, int]] | None = None,
    labels: Sequence[str] | None = None,
) -> AttentionMaps:
    """The patterns of models on the same rows, to be looked at side by side.

    Args:
        models: By name; the base first.
        data: Rows of the same length; the prompts are shown.
        row: One row of the data, by its place; the mean over all rows by default.
        heads: (block, head) pairs; all by default.
        labels: What to call the positions of the prompt; their numbers by default.

    Raises:
        UnknownNameError: If a model lacks ``blocks.i.attn.hook_pattern``.
        ConfigError: If models differ in blocks or heads, a head or the row does not exist, prompts differ
            in length, or there are not as many labels as positions.

    Source: Jain et al. (2024), Fig. 10.

    Cost: one hooked forward a model. The frame has models × heads × length² rows.
    """
    named = {name: as_model(model) for name, model in models.items()}
    require(bool(named), "Attention maps need at least one model, by name; got none.")
    check_models(named)
    first = next(iter(named.values()))
    if heads is None:
        heads = [
            (b, h) for b in range(int(first.cfg.n_layers)) for h in range(int(first.cfg.n_heads))
        ]
    check_heads(first, heads)
    sums: dict[tuple[str, int, int], Tensor] = {}
    seen = length = used = 0
    for chunk in attention_chunks(data, first, "all"):
        length = length or chunk.prompt.shape[1]
        require(
            chunk.prompt.shape[1] == length,
            f"Maps need prompts of the same length; got {length} and {chunk.prompt.shape[1]} tokens.",
        )
        require(
            labels is None or len(labels) == length,
            f"A label names each of the {length} positions of the prompt; got {len(labels or ())}.",
        )
        place, seen = seen, seen + len(chunk)
        if row is not None:
            if not place <= row < seen:
                continue
            chunk = chunk.rows(slice(row - place, row - place + 1))
        used += len(chunk)
        for name, model in named.items():
            found = patterns(model, chunk.prompt)
            for block, head in dict.fromkeys(heads):
                total = finite_float64(found[block][:, head]).sum(0).cpu()
                key = (name, block, head)
                sums[key] = sums[key] + total if key in sums else total
    require(used > 0, f"Rows of the data are 0..{seen - 1}; got row={row}.")
    means = {key: total / used for key, total in sums.items()}
    names = tuple(labels) if labels is not None else tuple(str(i) for i in range(length))
    import pandas as pd

    query, key_place = (axis.ravel() for axis in np.indices((length, length)))
    called = np.array(names, dtype=object)
    frames = [
        pd.DataFrame(
            {
                "model": name,
                "block": block,
                "head": head,
                "query": query,
                "key": key_place,
                "query_token": called[query],
                "key_token": called[key_place],
                "weight": weights.flatten().numpy(),
                "n": used,
            }
        )
        for (name, block, head), weights in means.items()
    ]
    return AttentionMaps(pd.concat(frames, ignore_index=True), means, names, used)
