"""Steps in bfloat16: close to float32's, weights and evaluations in float32; tf32 leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from mechft.errors import ConfigError, OutputExistsError, UnknownNameError
from mechft.randomness import generator
from mechft.tasks.pcfg import PCFGTask
from mechft.training.config import TrainConfig
from mechft.training.ensemble import train_ensemble
from mechft.training.evaluation import answer_logits
from mechft.training.loop import batch_loss, train
from mechft.training.precision import PRECISIONS, computing_in
from mechft.training.recipes import finetune
from mechft.training.trained import Trained

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

MakeModel = Callable[..., "HookedTransformer"]
CPU = torch.device("cpu")
CONFIG = TrainConfig(steps=12, learning_rate=3e-3, batch_size=16)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_what_was_set_before_is_set_after(precision: Any) -> None:
    before = torch.get_float32_matmul_precision()
    with pytest.raises(KeyError), computing_in(precision, CPU):
        assert torch.is_autocast_enabled("cpu") == (precision == "bf16")
        assert (torch.get_float32_matmul_precision() == "high") == (precision == "tf32")
        raise KeyError
    assert torch.get_float32_matmul_precision() == before
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("loss", ["answer", "next_token"])
def test_bf16_gradients_are_float32s_but_for_rounding(
    make_model: MakeModel, task: PCFGTask, loss: Any
) -> None:
    batch = task.query("C", "a").sample(64, generator(0))
    gradients = {}
    for precision in ("float32", "bf16"):
        model = make_model()
        with computing_in(precision, CPU):
            value = batch_loss(model, batch, replace(CONFIG, loss=loss))
        assert value.dtype is torch.float32
        found = torch.autograd.grad(value, list(model.parameters()), allow_unused=True)
        gradients[precision] = torch.cat([g.flatten() for g in found if g is not None])
    exact, rounded = gradients["float32"], gradients["bf16"]
    assert rounded.dtype is torch.float32
    assert not torch.equal(exact, rounded)
    # bfloat16 rounds to 2^-9 relatively; a few products deep, that is a few percent.
    assert (exact - rounded).norm() < 0.05 * exact.norm()


def test_training_in_bf16_learns_the_same_and_keeps_float32(
    make_model: MakeModel, task: PCFGTask
) -> None:
    config = replace(CONFIG, evaluate_at=(12,))
    exact, rounded = make_model(), make_model()
    test = {"a": task.query("C", "a").sample(50, generator(1))}
    train(exact, task.query("C", "a"), config, evaluations=test)
    history = train(
        rounded, task.query("C", "a"), replace(config, precision="bf16"), evaluations=test
    )
    moved = torch.cat([(p - q).flatten() for p, q in _pairs(exact, make_model())])
    apart = torch.cat([(p - q).flatten() for p, q in _pairs(exact, rounded)])
    assert 0 < apart.norm() < 0.3 * moved.norm()
    assert all(p.dtype is torch.float32 for p in rounded.parameters())
    # What is measured is measured exactly: outside autocast, in float32.
    assert answer_logits(rounded, test["a"]).dtype is torch.float32
    assert history[-1]["step"] == 12


def test_ensembles_take_one_precision_and_equal_training_alone(
    make_model: MakeModel, task: PCFGTask
) -> None:
    config = replace(CONFIG, steps=4, precision="bf16")
    models, alone = [make_model(0), make_model(1)], make_model(1)
    train_ensemble(models, [task.query("C", "a")] * 2, [config] * 2)
    train(alone, task.query("C", "a"), config)
    start = make_model(1)
    moved = torch.cat([(p - q).flatten() for p, q in _pairs(alone, start)])
    apart = torch.cat([(p - q).flatten() for p, q in _pairs(alone, models[1])])
    assert apart.norm() < 0.3 * moved.norm()
    with pytest.raises(ConfigError, match="one precision"):
        train_ensemble(
            models, [task.query("C", "a")] * 2, [config, replace(config, precision="float32")]
        )


def test_precision_is_part_of_what_a_run_is(trained: Trained, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"steps": 4, "batch_size": 4, "evaluation_size": 5}
    tuned = finetune(trained, **settings, precision="bf16", directory=tmp_path)
    assert tuned.lineage[-1]["precision"] == "bf16"
    with pytest.raises(OutputExistsError, match="precision"):
        finetune(trained, **settings, directory=tmp_path)
    assert "precision" not in finetune(trained, **settings).lineage[-1]


def test_errors() -> None:
    with pytest.raises(UnknownNameError, match="bf16"):
        replace(CONFIG, precision="fp8")  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="precision"), computing_in("half", CPU):  # type: ignore[arg-type]
        pass


def _pairs(one: HookedTransformer, other: HookedTransformer) -> list[tuple[Any, Any]]:
    return [
        (p.detach(), q.detach()) for p, q in zip(one.parameters(), other.parameters(), strict=True)
    ]
