"""The paper's way to train probes: AdamW with a falling learning rate, all sites at once.

Source: Jain et al. (2024), App. D: 4,000 steps, learning rate 1e-3 divided by 10 at 2,000, 3,000 and 3,500.
What the paper leaves open is taken from its other runs: mini-batches of 96 rows. Features are
standardised, and the outputs are the labels that occur instead of the whole vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechft.randomness import generator

PAPER_STEPS = 4000
_RATE, _DIVISOR, _DROPS = 1e-3, 10.0, (0.5, 0.75, 0.875)  # drops at these shares of the steps
_BATCH = 96


def fit_adamw(
    features: Mapping[str, Float[Tensor, "row width"]],
    index: Int[Tensor, " row"],
    n_classes: int,
    *,
    steps: int = PAPER_STEPS,
    seed: int = 0,
) -> dict[str, tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Train one probe a site by mini-batches drawn with replacement.

    Args:
        features: By site.
        index: Class of each row, in 0..n_classes − 1.
        n_classes: Number of classes.
        steps: Optimiser steps; the learning rate falls at the same shares of them.
        seed: Seed of the mini-batches.

    Returns:
        By site: weight Float["width class"], bias Float["class"], mean and std Float["width"].

    Cost: some seconds for 3 sites of width 128; ``python -m tests.benchmarks.probing`` measures it.
    """
    found: dict[str, tuple[Tensor, ...]] = {}
    for width in dict.fromkeys(value.shape[1] for value in features.values()):
        sites = [site for site, value in features.items() if value.shape[1] == width]
        trained = _train(
            torch.stack([features[site] for site in sites]), index, n_classes, steps, seed
        )
        found |= {site: tuple(part[i] for part in trained) for i, site in enumerate(sites)}
    return {site: found[site] for site in features}  # type: ignore[misc]


def _train(
    features: Float[Tensor, "site row width"],
    index: Tensor,
    n_classes: int,
    steps: int,
    seed: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sites of one width, as one stack: their losses add up, so that each site trains as if alone."""
    mean, std = features.mean(1, keepdim=True), features.std(1, keepdim=True, unbiased=False)
    std = torch.where(std > 1e-6 * std.amax(2, keepdim=True), std, torch.ones_like(std))
    inputs = ((features - mean) / std).transpose(0, 1).contiguous()  # row first: batches are rows
    n_sites, width = len(features), features.shape[2]
    weight = torch.nn.Parameter(inputs.new_zeros(n_sites, width, n_classes))
    bias = torch.nn.Parameter(inputs.new_zeros(n_sites, 1, n_classes))
    optimizer = torch.optim.AdamW([weight, bias], lr=_RATE, fused=True)
    schedule = torch.optim.lr_scheduler.MultiStepLR(
        optimizer, [max(1, round(share * steps)) for share in _DROPS], gamma=1 / _DIVISOR
    )
    truth = torch.nn.functional.one_hot(index, n_classes).to(inputs.dtype)
    draws = generator(seed, "probe", "mini-batches")
    with torch.no_grad():
        for _ in range(steps):
            rows = torch.randint(len(index), (_BATCH,), generator=draws)
            batch = inputs[rows].transpose(0, 1)
            # Written out: the gradient of cross-entropy is probability minus truth.
            residual = ((batch @ weight + bias).softmax(-1) - truth[rows]) / _BATCH
            weight.grad = batch.transpose(1, 2) @ residual
            bias.grad = residual.sum(1, keepdim=True)
            optimizer.step()
            schedule.step()
    return weight.detach(), bias.detach()[:, 0], mean[:, 0], std[:, 0]
