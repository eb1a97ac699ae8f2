"""From logits and one uniform number a row to the next tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechft.errors import require

_BELOW_ONE = 1.0 - 2.0**-40  # times a sum it still rounds to less than the sum


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen.

    Attributes:
        temperature: Logits are divided by it; 0 takes the likeliest token.
        top_k: Only this many likeliest tokens can be drawn (all that tie with the last of them, too).
        top_p: Only the likeliest tokens that are needed to reach this probability can be drawn, at least
            one; after ``top_k``.

    Raises:
        ConfigError: If the temperature is negative or not finite, ``top_k`` is below 1, or ``top_p`` is not
            in (0, 1].
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        require(
            0 <= self.temperature < float("inf"),
            f"temperature is 0 (the likeliest token) or positive; got {self.temperature}.",
        )
        require(
            self.top_k is None or self.top_k >= 1, f"top_k is at least 1 or None; got {self.top_k}."
        )
        require(
            self.top_p is None or 0 < self.top_p <= 1,
            f"top_p is a probability in (0, 1] or None; got {self.top_p}.",
        )


def probabilities(
    logits: Float[Tensor, "row d_vocab"], sampling: Sampling
) -> Float[Tensor, "row d_vocab"]:
    """Each token's chance to be drawn, in float64; the temperature must be positive."""
    scores = logits.double() / sampling.temperature
    if sampling.top_k is not None and sampling.top_k < scores.shape[1]:
        least = scores.topk(sampling.top_k).values[:, -1:]
        scores = scores.masked_fill(scores < least, float("-inf"))
    shares = scores.softmax(-1)
    if sampling.top_p is not None:
        ordered, tokens = shares.sort(-1, descending=True)
        likelier = ordered.cumsum(-1) - ordered  # what the tokens before this one reach
        kept = ordered.masked_fill(likelier >= sampling.top_p, 0.0)
        kept[:, :1] = ordered[:, :1]
        shares = torch.zeros_like(shares).scatter(1, tokens, kept)
        shares = shares / shares.sum(-1, keepdim=True)
    return shares


def next_tokens(
    logits: Float[Tensor, "row d_vocab"], sampling: Sampling, uniform: Float[Tensor, " row"]
) -> Int[Tensor, " row"]:
    """One token a row: the one at whose share of [0, 1) the row's uniform number lies.

    So what a row gets depends on its own logits and number only.

    Args:
        logits: Of the next token.
        sampling: How to choose.
        uniform: A number in [0, 1) for each row, float64; not looked at where the temperature is 0.

    Raises:
        ConfigError: If a logit is not finite: no token is right then.
    """
    require(
        bool(logits.isfinite().all()),
        "The model's logits are not finite, so there is no next token. It has diverged; use an earlier "
        "checkpoint.",
    )
    if sampling.temperature == 0:
        return logits.argmax(-1)
    reached = probabilities(logits, sampling).cumsum(-1)
    wanted = uniform[:, None].clamp(max=_BELOW_ONE) * reached[:, -1:]
    # right=True: the first token that goes beyond what is wanted, which has a share of its own.
    return torch.searchsorted(reached, wanted, right=True)[:, 0]
