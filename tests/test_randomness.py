"""Streams are functions of their name, and the global state is left alone."""

from __future__ import annotations

import random

import numpy as np
import torch

from mechft.models.build import ModelConfig, build_model
from mechft.randomness import derive_seed, generator, preserved_random_state


def test_streams_are_named_and_independent() -> None:
    draw = [
        torch.rand(4, generator=generator(*name))
        for name in ((0, "a"), (0, "a"), (0, "b"), (1, "a"))
    ]
    assert torch.equal(draw[0], draw[1])
    assert not torch.equal(draw[0], draw[2])
    assert not torch.equal(draw[0], draw[3])
    assert derive_seed(0, 1, 2) != derive_seed(0, 12)  # the path's parts are kept apart


def test_global_state_is_left_as_found() -> None:
    def snapshot() -> tuple[float, float, float]:
        return float(torch.rand(1)), float(np.random.rand()), random.random()

    torch.manual_seed(3), np.random.seed(3), random.seed(3)
    expected = snapshot()
    torch.manual_seed(3), np.random.seed(3), random.seed(3)
    with preserved_random_state(seed=9):
        torch.rand(5)
    build_model(ModelConfig(1, 2, 8, 10, 6), seed=5)
    assert snapshot() == expected
