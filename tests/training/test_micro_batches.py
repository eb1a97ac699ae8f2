"""A step computed in parts is the whole batch's step: every part counts, by its rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from mechft.errors import ConfigError
from mechft.models.build import clone
from mechft.tasks.pcfg import PCFGTask
from mechft.training.config import TrainConfig
from mechft.training.ensemble import train_ensemble
from mechft.training.loop import train

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

MakeModel = Callable[..., "HookedTransformer"]
CONFIG = TrainConfig(steps=6, learning_rate=3e-3, batch_size=14, gradient_clip=0.5)


@pytest.mark.parametrize("loss", ["answer", "next_token"])
@pytest.mark.parametrize(
    "parts", [2, 5, 14]
)  # 5: three parts of three rows, one of three, one of two
def test_parts_give_the_whole_batchs_steps(
    make_model: MakeModel, task: PCFGTask, loss: Any, parts: int
) -> None:
    config = replace(CONFIG, loss=loss)
    whole = make_model(0, torch.float64)
    split = clone(whole)
    source = task.pretraining() if loss == "next_token" else task.query("C", "a")
    one = train(whole, source, replace(config, evaluate_at=(6,)), evaluations={})
    other = train(split, source, replace(config, micro_batches=parts), evaluations={})
    assert one == other == []
    for p, q in zip(whole.parameters(), split.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-8, atol=1e-10)


def test_a_steps_loss_is_the_whole_batchs(make_model: MakeModel, task: PCFGTask) -> None:
    test = {"a": task.query("C", "a").sample(5, torch.Generator().manual_seed(0))}
    losses = [
        train(
            make_model(0, torch.float64),
            task.query("C", "a"),
            replace(CONFIG, steps=1, evaluate_at=(1,), micro_batches=parts),
            evaluations=test,
        )[-1]["train_loss"]
        for parts in (1, 4)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-10)


def test_errors(make_model: MakeModel, task: PCFGTask) -> None:
    with pytest.raises(ConfigError, match="at most as many parts"):
        replace(CONFIG, micro_batches=15)
    with pytest.raises(ConfigError, match="at least 1"):
        replace(CONFIG, micro_batches=0)
    with pytest.raises(ConfigError, match="whole batches"):
        train_ensemble([make_model()], [task.query("C", "a")], [replace(CONFIG, micro_batches=2)])
