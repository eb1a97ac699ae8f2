"""A model whose capability is hidden by a known edit of a few of its neurons."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from mechft.analysis.units.masks import UnitMask, unit_mask
from mechft.models.build import ModelConfig, build_model, clone
from mechft.models.weights import block_matrices
from mechft.randomness import generator
from mechft.tasks.batch import TokenBatch
from mechft.training.evaluation import predictions

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

    from mechft.tasks.pcfg import PCFGTask

# Neurons of W_in by block: each gets weights where the base has none, and pushes the answer away.
PLANTED = {"blocks.0.mlp.W_in": [3, 11], "blocks.1.mlp.W_in": [0, 40, 41]}


@dataclass(frozen=True)
class Planted:
    """The model with the wrapper, the one without, and which neurons the wrapper is made of.

    Removing these neurons gives the base back exactly. The base's own answers count as right.
    """

    base: HookedTransformer
    model: HookedTransformer
    mask: UnitMask
    task: PCFGTask

    def rows(self, size: int, seed: int) -> TokenBatch:
        """Rows that the base answers right by definition."""
        batch = self.task.query("C", "a").sample(size, generator(seed))
        return replace(batch, answer=predictions(self.base, batch))


def planted(task: PCFGTask, strength: float = 4.0) -> Planted:
    """A small model that gives many different answers, and the same with a few neurons that hide them."""
    base = build_model(ModelConfig(2, 2, 16, len(task.vocabulary), task.sample_length - 1), seed=1)
    draws = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in base.named_parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=draws))
            if name.endswith(("W_O", "W_Q")):
                parameter.mul_(6)  # answers that hang on the text, not on the last token alone
            if name.endswith("W_U"):
                parameter.mul_(10)  # a base that is sure of its answers, so that its loss is near 0
            if ".b_" in name:
                parameter.zero_()  # a neuron without weights into it then says nothing
        for name, neurons in PLANTED.items():
            weights = block_matrices(base)
            w_out = weights[name.replace("W_in", "W_out")].tensor
            for neuron in neurons:
                weights[name].tensor[:, neuron] = 0
                w_out[neuron] = strength * torch.randn(w_out.shape[1], generator=draws)
    model = clone(base)
    with torch.no_grad():
        for name, neurons in PLANTED.items():
            w_in = block_matrices(model)[name].tensor
            for neuron in neurons:
                w_in[:, neuron] = torch.randn(w_in.shape[0], generator=draws)
    return Planted(base, model, unit_mask(model, PLANTED), task)
