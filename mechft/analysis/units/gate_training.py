"""Training hard-concrete gates by gradient × weight, in any model and without a graph through its weights.

Gates act by writing blended weights to the model's own parameters, and their gradient follows from the
parameters' by the chain rule. ``torch.func.functional_call`` would do on a HookedTransformer; on a
TransformerBridge it leaves the weights it was called with in the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mechft.analysis.units.gates import (
    Gates,
    chance_of_removal,
    location_of,
    mean_gate,
    sampled_gates,
)
from mechft.analysis.units.gradients import loss_gradients
from mechft.analysis.units.weight_edit import WeightEdit
from mechft.randomness import generator
from mechft.tasks.batch import TokenBatch

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

# Chance of removal before training: a few units of some thousand, so nothing is hurt.
_START = 0.005


def train_gates(
    edit: WeightEdit,
    model: HookedTransformer,
    revive: TokenBatch,
    keep: TokenBatch | None,
    *,
    l0: float,
    steps: int,
    learning_rate: float,
    batch_size: int,
    seed: int,
) -> tuple[Gates, list[dict[str, float]]]:
    """Train the gates' locations at one price of a removed unit.

    Args:
        edit: The edit through which gates act on ``model``; whoever made it undoes it.
        model, revive, keep, l0, steps, learning_rate, batch_size, seed: As ``learn_mask``.

    Returns:
        The locations (a unit with one above 0 is more likely removed than not), and a record of each step.
    """
    layout = edit.layout
    location = torch.full((len(layout),), location_of(_START), requires_grad=True)
    adam = torch.optim.Adam([location], lr=learning_rate, betas=(0.9, 0.99))
    draws = generator(seed, "learn_mask")
    trace: list[dict[str, float]] = []
    for step in range(1, steps + 1):
        drawn = sampled_gates(location.detach(), draws).split(list(layout.sizes.values()))
        edit.blend(dict(zip(layout.sizes, drawn, strict=True)))
        slope = torch.zeros(len(layout))
        losses = []
        for rows in (revive, keep):
            if rows is None:
                losses.append(float("nan"))
                continue
            picked = torch.randperm(len(rows), generator=draws)[:batch_size]
            loss, gradients = loss_gradients(model, rows.rows(picked))
            losses.append(loss)
            slope += gate_slopes(edit, gradients)
        with torch.enable_grad():
            expected = chance_of_removal(location).sum()
            # To first order in the gates the expected loss moves by slope × change of the mean gate.
            objective = slope @ mean_gate(location) + l0 * expected
        (location.grad,) = torch.autograd.grad(objective, [location])
        adam.step()
        trace.append(
            {"l0": l0, "step": step, "loss_revive": losses[0], "loss_keep": losses[1]}
            | {"expected_removed": float(expected.detach())}
            | {"removed": int((location.detach() > 0).sum())}
        )
    return location.detach(), trace


def gate_slopes(edit: WeightEdit, gradients: Mapping[str, Tensor]) -> Gates:
    """The loss's derivative by each gate: gradient × (replacement − original), summed over the unit.

    A gated weight is original + gate × (replacement − original), so this is the chain rule, exact whatever
    the other gates are.
    """
    products = {name: gradient * edit.step(name) for name, gradient in gradients.items()}
    return torch.cat([part.cpu() for part in edit.layout.totals(products).values()]).float()
