"""SGD by hand, parameters that stay, and runs with both that stop and go on."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from mechft.errors import (
    ConfigError,
    OutputExistsError,
    TrainingDivergedError,
    UnknownNameError,
)
from mechft.models.build import clone, fingerprint
from mechft.models.checkpoint import read_header
from mechft.tasks.pcfg import PCFGTask
from mechft.training import run
from mechft.training.config import TrainConfig
from mechft.training.loop import _batches, batch_loss, train

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

MakeModel = Callable[..., "HookedTransformer"]
FROZEN = ("unembed.W_U", "unembed.b_U")
SGD = TrainConfig(
    steps=9, learning_rate=1e-2, batch_size=8, optimizer="sgd", gradient_clip=None, seed=3,
    checkpoint_every=4,
)  # fmt: skip


@pytest.mark.parametrize("decay", [None, 0.1])
@pytest.mark.parametrize("clip", [None, 0.2])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_by_hand(
    make_model: MakeModel, task: PCFGTask, momentum: float, clip: float | None, decay: float | None
) -> None:
    """V ← μ v + g + λ w (λ for two axes or more), w ← w − η v, with g shortened to the clip."""
    config = replace(SGD, momentum=momentum, gradient_clip=clip, weight_decay=decay)
    model = make_model(dtype=torch.float64)
    twin = clone(model)
    train(model, task.query("C", "a"), config)
    velocity = {name: torch.zeros_like(p) for name, p in twin.named_parameters()}
    lengths = []
    for step, batch in zip(range(9), _batches(task.query("C", "a"), config, 0), strict=False):
        gradients = torch.autograd.grad(batch_loss(twin, batch, config), list(twin.parameters()))
        length = float(torch.cat([g.flatten() for g in gradients]).norm())
        lengths.append(length)
        shorter = 1.0 if clip is None else min(1.0, clip / (length + 1e-6))
        with torch.no_grad():
            for (name, p), g in zip(twin.named_parameters(), gradients, strict=True):
                decayed = (decay or 0.0) * p if p.dim() > 1 else torch.zeros_like(p)
                velocity[name] = momentum * velocity[name] + shorter * g + decayed
                p.sub_(config.rate(step) * velocity[name])
    assert max(lengths) > 0.2  # so that the clip did something
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_frozen_parameters_keep_every_bit(
    make_model: MakeModel, task: PCFGTask, optimizer: Any
) -> None:
    """With decay on; everything else moves, and no gradient is left on what is frozen."""
    model = make_model()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    config = replace(SGD, optimizer=optimizer, weight_decay=0.5, frozen=FROZEN)
    train(model, task.pretraining(), replace(config, loss="next_token"))
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) == (name in FROZEN), name
        assert parameter.requires_grad
        assert (parameter.grad is None) == (name in FROZEN)


def test_the_clip_counts_trained_parameters_only(make_model: MakeModel, task: PCFGTask) -> None:
    """One step of SGD without momentum is as long as rate × clip, over what is trained."""
    config = replace(SGD, steps=1, momentum=0.0, gradient_clip=1e-3, frozen=FROZEN)
    model = make_model(dtype=torch.float64)
    before = clone(model)
    train(model, task.query("C", "a"), replace(config, warmup_fraction=0.0))
    moved = [p - q for p, q in zip(model.parameters(), before.parameters(), strict=True)]
    length = float(torch.cat([m.detach().flatten() for m in moved]).norm())
    assert length == pytest.approx(1e-2 * 1e-3, rel=1e-3)


@pytest.mark.parametrize(
    ("frozen", "error", "message"),
    [
        (("unembed.W",), UnknownNameError, r"parameter to freeze 'unembed\.W'.*'unembed\.W_U'"),
        (None, ConfigError, "Every parameter is frozen"),
    ],
)
def test_what_cannot_be_frozen(
    make_model: MakeModel, task: PCFGTask, frozen: Any, error: type[Exception], message: str
) -> None:
    model = make_model()
    names = tuple(name for name, _ in model.named_parameters()) if frozen is None else frozen
    with pytest.raises(error, match=message):
        train(model, task.query("C", "a"), replace(SGD, frozen=names))


@pytest.mark.parametrize("call", [2, 6])
def test_stopped_and_resumed_gives_the_same_bits(
    make_model: MakeModel,
    task: PCFGTask,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: int,
) -> None:
    """The momentum is in the checkpoint."""
    config = replace(SGD, frozen=FROZEN)
    whole, start = make_model(), make_model()
    train(whole, task.pretraining(), config)
    real, calls = torch.optim.SGD.step, []

    def pressed(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == call:
            signal.raise_signal(signal.SIGINT)
        return real(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(torch.optim.SGD, "step", pressed)
        train(clone(start), task.pretraining(), config, directory=tmp_path)
    assert read_header(tmp_path / run.CHECKPOINT_FILE)["description"]["step"] == call
    resumed = clone(start)
    train(resumed, task.pretraining(), config, directory=tmp_path)
    assert fingerprint(resumed) == fingerprint(whole)
    with pytest.raises(OutputExistsError, match=r"config\.momentum is None there and 0\.5 here"):
        other = replace(config, momentum=0.5)
        train(clone(start), task.pretraining(), other, directory=tmp_path)


def test_settings_the_first_checkpoints_did_not_know_are_named_only_where_used() -> None:
    """A run begun before there was a choice of optimiser goes on."""
    before = {"optimizer", "momentum", "frozen"}
    plain = run._settings(TrainConfig(steps=5, learning_rate=1e-3))
    assert not before & plain.keys() and plain["weight_decay"] == 0.01
    chosen = run._settings(replace(SGD, momentum=0.5, frozen=FROZEN))
    assert before <= chosen.keys() and chosen["weight_decay"] == 0.0


def test_without_clipping_a_bad_gradient_still_stops_the_run(
    make_model: MakeModel, task: PCFGTask
) -> None:
    model = make_model()
    with pytest.raises(TrainingDivergedError, match="Lower the learning rate"):
        train(model, task.query("C", "a"), replace(SGD, learning_rate=1e30, steps=50))
    assert all(bool(p.isfinite().all()) for p in model.parameters())
