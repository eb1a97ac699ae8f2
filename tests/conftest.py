"""Shared fixtures: a task and a model small enough that a forward takes a millisecond."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import torch

from mechft.models.build import ModelConfig, build_model
from mechft.tasks.pcfg import PCFGTask
from mechft.tasks.pcfg_config import PCFGConfig
from mechft.training.trained import Trained

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

SMALL = PCFGConfig(text_length=12, counting_window=6, occurrence=2, pair_occurrence=1, lookback=6)


@pytest.fixture(scope="session")
def task() -> PCFGTask:
    return PCFGTask(SMALL)


@pytest.fixture
def make_model(task: PCFGTask) -> Callable[..., HookedTransformer]:
    """A model for the small task; biases and norms are random too, so that no term is hidden by 0."""

    def make(seed: int = 0, dtype: torch.dtype = torch.float32) -> HookedTransformer:
        config = ModelConfig(2, 2, 16, len(task.vocabulary), task.sample_length - 1)
        model = build_model(config, seed, dtype)
        draws = torch.Generator().manual_seed(seed + 1)
        with torch.no_grad():
            for parameter in model.parameters():
                noise = torch.randn(parameter.shape, generator=draws, dtype=torch.float64)
                parameter.add_(0.3 * noise.to(dtype))
        return model

    return make


@pytest.fixture
def trained(task: PCFGTask, make_model: Callable[..., HookedTransformer]) -> Trained:
    return Trained(make_model(), task, name="small")
