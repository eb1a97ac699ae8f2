"""Optimisers over stacked parameters: a first axis of members, each with settings of its own.

Elementwise arithmetic, so that no member's numbers depend on another's; a member that is not alive keeps
its parameters, whatever its gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mechft.training.config import TrainConfig

ADAM_EPSILON = 1e-8  # torch.optim.AdamW's


class StackedOptimizer(Protocol):
    """One step for all members at once."""

    def step(
        self,
        parameters: Sequence[Float[Tensor, "member ..."]],
        gradients: Sequence[Float[Tensor, "member ..."]],
        rates: Float[Tensor, " member"],
        alive: Bool[Tensor, " member"],
    ) -> None:
        """Change the parameters in place, those of members that are alive."""
        ...


class StackedSGD:
    """SGD with momentum, without dampening: each member as ``torch.optim.SGD`` would treat it.

    Args:
        configs: Momentum and weight decay of each member.
        parameters: What will be stepped.
    """

    def __init__(self, configs: Sequence[TrainConfig], parameters: Sequence[Tensor]) -> None:
        self.momentum = per_member([config.momentum for config in configs], parameters[0])
        self.decay = per_member([config.decay for config in configs], parameters[0])
        self.buffers = [torch.zeros_like(p) for p in parameters]

    @torch.no_grad()
    def step(
        self,
        parameters: Sequence[Tensor],
        gradients: Sequence[Tensor],
        rates: Tensor,
        alive: Tensor,
    ) -> None:
        """As ``StackedOptimizer.step``."""
        for p, gradient, buffer in zip(parameters, gradients, self.buffers, strict=True):
            if is_decayed(p):
                gradient = gradient + column(self.decay, p) * p
            buffer.mul_(column(self.momentum, p)).add_(gradient)
            keep_or_take(p, p - column(rates, p) * buffer, alive)


class StackedAdamW:
    """AdamW: each member as ``torch.optim.AdamW`` would treat it.

    Args:
        configs: Betas and weight decay of each member.
        parameters: What will be stepped.
    """

    def __init__(self, configs: Sequence[TrainConfig], parameters: Sequence[Tensor]) -> None:
        first, second = zip(*(config.betas for config in configs), strict=True)
        self.betas = per_member(first, parameters[0]), per_member(second, parameters[0])
        # Powers of them come close to 1, so they are taken in double precision.
        self.exact = tuple(per_member(b, parameters[0], torch.float64) for b in (first, second))
        self.decay = per_member([config.decay for config in configs], parameters[0])
        self.means = [torch.zeros_like(p) for p in parameters]
        self.squares = [torch.zeros_like(p) for p in parameters]
        self.steps = 0

    @torch.no_grad()
    def step(
        self,
        parameters: Sequence[Tensor],
        gradients: Sequence[Tensor],
        rates: Tensor,
        alive: Tensor,
    ) -> None:
        """As ``StackedOptimizer.step``."""
        self.steps += 1
        bias, bias_square = ((1 - b**self.steps).to(rates) for b in self.exact)
        for p, gradient, mean, square in zip(
            parameters, gradients, self.means, self.squares, strict=True
        ):
            beta, beta_square = (column(betas, p) for betas in self.betas)
            mean.mul_(beta).add_((1 - beta) * gradient)
            square.mul_(beta_square).add_((1 - beta_square) * gradient * gradient)
            rate = column(rates, p)
            left = p * (1 - rate * column(self.decay, p)) if is_decayed(p) else p
            spread = (square / column(bias_square, p)).sqrt_().add_(ADAM_EPSILON)
            keep_or_take(p, left - rate / column(bias, p) * mean / spread, alive)


def per_member(
    values: Sequence[float], like: Tensor, dtype: torch.dtype | None = None
) -> Float[Tensor, " member"]:
    """One number a member, where and as a stacked tensor is."""
    return torch.tensor(values, dtype=dtype or like.dtype, device=like.device)


def column(values: Float[Tensor, " member"], like: Tensor) -> Float[Tensor, "member ..."]:
    """One number a member, in a shape that multiplies a stacked tensor."""
    return values.view(-1, *[1] * (like.dim() - 1))


def is_decayed(stacked: Tensor) -> bool:
    """Whether weight decay is for this parameter: two or more axes besides the members'."""
    return stacked.dim() > 2


def keep_or_take(parameter: Tensor, new: Tensor, alive: Bool[Tensor, " member"]) -> None:
    """The new values in place for members alive; chosen, not multiplied, so that NaN goes nowhere."""
    parameter.copy_(torch.where(column(alive, parameter), new, parameter))


def clipped(
    gradients: Sequence[Float[Tensor, "member ..."]], clips: Float[Tensor, " member"] | None
) -> tuple[list[Tensor], Float[Tensor, " member"]]:
    """Gradients scaled so that no member's norm exceeds its clip, and the norms before that.

    Args:
        gradients: Of all trained parameters.
        clips: Largest norm a member, infinity for none; None for none at all.
    """
    each = [torch.linalg.vector_norm(g.flatten(1), dim=1) for g in gradients]
    norms = torch.linalg.vector_norm(torch.stack(each), dim=0)
    if clips is None:
        return list(gradients), norms
    scale = (column(clips, norms) / (norms + 1e-6)).clamp(max=1.0)  # as clip_grad_norm_ does
    return [g * column(scale, g) for g in gradients], norms
