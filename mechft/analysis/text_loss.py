"""What a text costs a language model: nats a token, from some position of each row on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from mechft.analysis.activations import chunks
from mechft.analysis.batches import Data
from mechft.analysis.result import Result
from mechft.errors import require, unknown_name
from mechft.models.fused import fused_logits, unsupported_features
from mechft.models.hook_points import ModelLike, as_model, device_of, has_hooks
from mechft.statistics import mean_estimate

_ROWS = 16  # a forward's logits, rows × positions × vocabulary, are the memory of it


@dataclass(frozen=True)
class TextLoss(Result):
    """Mean loss of next tokens, over rows.

    Columns: model, texts (the name of the rows), loss (nats a token: the mean over rows of each row's mean),
    ci_low, ci_high (95%, over rows), n (rows), tokens (predicted in all).
    """


def text_loss(
    models: Mapping[str, ModelLike], texts: Mapping[str, Data], start: str | None = None
) -> TextLoss:
    """The loss of next tokens, for every model on every set of rows; nats a token.

    Args:
        models: Causal models that predict their own tokens, by the name they get in the frame.
        texts: Rows by name.
        start: A label that says where in each row the first predicted token stands, at least 1; by default
            all tokens but the first are predicted.

    Raises:
        ConfigError: If a start is below 1 or behind the row's end, or a loss is not finite.
        UnknownNameError: If rows have no such label.

    Source: Jain et al. (2024), Fig. 11: loss on stories with a Twist.

    Cost: one forward over the rows a model, the logits of every position included.

    Example:
        >>> import mechft as mf
        >>> base = mf.load("pcfg-tiny-low")
        >>> rows = base.task.pretraining().sample(20, mf.generator(0))
        >>> found = mf.text_loss({"base": base}, {"pretraining": rows})
        >>> found.frame[["model", "texts", "n", "tokens"]].values.tolist()  # 40 a row are predicted
        [['base', 'pretraining', 20, 800]]
    """
    import pandas as pd

    frames = []
    for name, model in models.items():
        for which, data in texts.items():
            losses, counts = row_losses(model, data, start)
            mean = mean_estimate(losses)
            frames.append(
                {
                    "model": name,
                    "texts": which,
                    "loss": mean.value,
                    "ci_low": mean.low,
                    "ci_high": mean.high,
                    "n": len(losses),
                    "tokens": int(counts.sum()),
                }
            )
    return TextLoss(pd.DataFrame(frames))


@torch.no_grad()
def row_losses(
    model: ModelLike, data: Data, start: str | None = None
) -> tuple[Float[Tensor, " row"], Int[Tensor, " row"]]:
    """Each row's mean loss, and over how many tokens, on the CPU; arguments and errors as ``text_loss``."""
    model = as_model(model)
    fast = not has_hooks(model) and not unsupported_features(model)
    losses, counts = [], []
    for rows in chunks(data, _ROWS):
        if start is not None and start not in rows.labels:
            raise unknown_name("label", start, rows.labels)
        rows = rows.to(device_of(model))
        tokens = rows.tokens
        first = rows.labels[start] if start is not None else torch.ones_like(rows.answer)  # [row]
        length = tokens.shape[1]
        require(
            bool(((first >= 1) & (first < length)).all()),
            f"A loss is of tokens with one before them: they start at 1 to {length - 1} in rows of {length}; "
            f"got {int(first.min())} to {int(first.max())}.",
        )
        shown = tokens[:, :-1]
        logits = fused_logits(model, shown) if fast else model(shown)
        each = F.cross_entropy(
            logits.float().flatten(0, 1), tokens[:, 1:].flatten(), reduction="none"
        ).view(shown.shape)  # [row, pos]
        wanted = torch.arange(1, length, device=tokens.device) >= first[:, None]
        counts.append(wanted.sum(1).cpu())
        losses.append(((each * wanted).sum(1) / wanted.sum(1)).double().cpu())
    found = torch.cat(losses)
    require(
        bool(found.isfinite().all()),
        "A loss is not finite: the model has diverged or overflowed. Use weights from before that.",
    )
    return found, torch.cat(counts)
