"""Hard-concrete gates: how much of each unit is removed, learned by gradient descent.

A gate is 0 (kept) with one probability, 1 (removed) with another, and between otherwise, so that masks
become binary while the chance of removal stays differentiable.

Source: Louizos, Welling & Kingma 2018 ("Learning sparse neural networks through L0 regularization"), with
their constants. There a gate says how much is kept; here how much is removed.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

TEMPERATURE, STRETCH_LOW, STRETCH_HIGH = 2 / 3, -0.1, 1.1
_POINTS = 32  # of the quadrature of the mean gate: within 0.001 for every location

Gates = Float[Tensor, " unit"]


def sampled_gates(location: Gates, draws: torch.Generator) -> Gates:
    """One draw of each gate, in 0..1."""
    uniform = torch.rand(location.shape, generator=draws).clamp(1e-6, 1 - 1e-6)
    concrete = torch.sigmoid((torch.logit(uniform) + location) / TEMPERATURE)
    return (concrete * (STRETCH_HIGH - STRETCH_LOW) + STRETCH_LOW).clamp(0, 1)


def chance_of_removal(location: Gates) -> Gates:
    """The probability that a gate is not 0: a unit's part in the expected L0 of what is removed."""
    return torch.sigmoid(location - TEMPERATURE * math.log(-STRETCH_LOW / STRETCH_HIGH))


def mean_gate(location: Gates) -> Gates:
    """The mean of each gate: ∫₀¹ P(gate > t) dt by the midpoint rule; differentiable everywhere."""
    t = (torch.arange(_POINTS) + 0.5) / _POINTS
    threshold = TEMPERATURE * torch.logit((t - STRETCH_LOW) / (STRETCH_HIGH - STRETCH_LOW))
    return torch.sigmoid(location[:, None] - threshold).mean(1)


def location_of(chance: float) -> float:
    """The location of a gate that is not 0 with a given probability."""
    return math.log(chance / (1 - chance)) + TEMPERATURE * math.log(-STRETCH_LOW / STRETCH_HIGH)
