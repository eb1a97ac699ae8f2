"""How far activations moved from the base model's, on the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from mechft.analysis.activations import gather_activations
from mechft.analysis.result import Result
from mechft.errors import ConfigError
from mechft.models.hook_points import attention_out, mlp_out, resid_post
from mechft.statistics import Z_95
from mechft.tasks.batch import TokenBatch

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer


@dataclass(frozen=True)
class ActivationDiff(Result):
    """How far activations at the answer position moved from the base model's, on the same rows.

    Columns: model, hook, block, component, relative_change (mean over rows of ‖Δ‖ over the base's mean
    norm), ci_low, ci_high (95%, over rows), cosine (mean), cka (linear CKA; 1 means the same up to
    rotation and scale), n.
    """


def diff_activations(
    base: HookedTransformer,
    finetuned: HookedTransformer,
    batch: TokenBatch,
    *,
    hook_names: Sequence[str] | None = None,
    name: str = "finetuned",
) -> ActivationDiff:
    """Compare what two models compute on the same rows, at the answer position.

    Args:
        base, finetuned: Models with the same hook points and widths.
        batch: Rows to run both on.
        hook_names: Sites; by default each block's attention, MLP and residual output.
        name: What the frame calls the fine-tuned model.

    Raises:
        UnknownNameError: If a model lacks a hook point.
        ConfigError: If a site's width differs between the models.
    """
    blocks = range(int(base.cfg.n_layers))
    names = list(hook_names or [f(b) for b in blocks for f in (attention_out, mlp_out, resid_post)])
    before, after = (gather_activations(m, batch, names) for m in (base, finetuned))
    rows = []
    for hook in names:
        x, y = before[hook].double(), after[hook].double()
        if x.shape != y.shape:
            raise ConfigError(
                f"{hook} has width {x.shape[1]} in one model and {y.shape[1]} in the other; sites "
                "are compared channel by channel. Choose sites of equal width."
            )
        change = (y - x).norm(dim=1) / x.norm(dim=1).mean()
        half = Z_95 * float(change.std()) / len(change) ** 0.5
        parts = hook.split(".")
        rows.append(
            {
                "model": name,
                "hook": hook,
                "block": int(parts[1]) if parts[0] == "blocks" else -1,
                "component": parts[-1].removeprefix("hook_"),
                "relative_change": float(change.mean()),
                "ci_low": float(change.mean()) - half,
                "ci_high": float(change.mean()) + half,
                "cosine": float(torch.cosine_similarity(x, y).mean()),
                "cka": linear_cka(x, y),
                "n": len(change),
            }
        )
    import pandas as pd

    return ActivationDiff(pd.DataFrame(rows))


def linear_cka(x: Float[Tensor, "row width"], y: Float[Tensor, "row width2"]) -> float:
    """Linear centred kernel alignment (Kornblith et al. 2019): 1 up to rotation and scale."""
    x, y = x - x.mean(0), y - y.mean(0)
    denominator = float((x.T @ x).norm() * (y.T @ y).norm())
    return float((x.T @ y).square().sum()) / denominator if denominator else float("nan")
