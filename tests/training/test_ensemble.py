"""Each member of an ensemble equals the model ``train`` makes alone; no member touches another."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from mechft.errors import ConfigError, TrainingDivergedError, UnknownNameError
from mechft.models.build import ModelConfig, build_model, clone, fingerprint
from mechft.randomness import generator
from mechft.tasks.batch import Source
from mechft.tasks.pcfg import PCFGTask
from mechft.tasks.program_config import ProgramConfig
from mechft.tasks.programs import ProgramTask
from mechft.training import loop
from mechft.training.config import TrainConfig
from mechft.training.ensemble import MemberHistory, train_ensemble
from mechft.training.loop import train

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

MakeModel = Callable[..., "HookedTransformer"]
UNEMBEDDING = ("unembed.W_U", "unembed.b_U")
ADAMW = TrainConfig(steps=14, learning_rate=3e-3, batch_size=8, evaluate_at=(0, 3, 14), seed=1)
SGD = replace(ADAMW, optimizer="sgd", gradient_clip=None, learning_rate=3e-2, frozen=UNEMBEDDING)


def counter() -> ProgramTask:
    return ProgramTask(ProgramConfig("counter", length=8))


def compiled_like(seed: int) -> HookedTransformer:
    """The form of a compiled program with random weights, in double precision."""
    task = counter()
    config = ModelConfig(
        n_layers=3, n_heads=1, d_model=14, d_vocab=len(task.vocabulary), n_ctx=task.n_ctx, d_mlp=20,
        d_head=9, d_vocab_out=len(task.answer_vocabulary), initializer_range=0.3,
        activation="relu", normalization="none", attention="bidirectional",
    )  # fmt: skip
    return build_model(config, seed, torch.float64)


def pairs(models: Sequence[HookedTransformer]) -> list[HookedTransformer]:
    return [clone(model) for model in models]


def close(one: HookedTransformer, other: HookedTransformer, rtol: float, atol: float) -> None:
    for p, q in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=rtol, atol=atol)


@pytest.mark.parametrize("loss", ["answer", "next_token"])
def test_adamw_members_equal_their_twins(make_model: MakeModel, task: PCFGTask, loss: Any) -> None:
    """Own seeds, rates, schedules, clips, decays and data; weights and histories as trained alone."""
    base = replace(ADAMW, loss=loss, answer_weight=0.5)
    configs = [
        base,
        replace(base, learning_rate=1e-3, seed=2, gradient_clip=0.05, warmup_fraction=0.5),
        replace(base, weight_decay=0.3, gradient_clip=None, betas=(0.8, 0.99), evaluate_at=(7,)),
    ]
    sources: list[Source] = [task.pretraining(), task.query("C", "a"), task.query("C", "b")]
    models = [make_model(seed, torch.float64) for seed in range(3)]
    twins = pairs(models)
    evaluations = [
        {"x": task.query("C", "a").sample(20, generator(i))} if i < 2 else {} for i in range(3)
    ]
    found = train_ensemble(models, sources, configs, evaluations=evaluations)
    for i, twin in enumerate(twins):
        expected = train(twin, sources[i], configs[i], evaluations=evaluations[i])
        close(models[i], twin, rtol=1e-9, atol=1e-11)
        same(found[i], expected)
    assert [record["step"] for record in found[0].records] == [0, 3, 14]


def same(found: MemberHistory, expected: list[dict[str, Any]]) -> None:
    assert found.diverged_at is None
    for record, other in zip(found.records, expected, strict=True):
        assert record.pop("train_loss") == pytest.approx(other.pop("train_loss"))
        assert record == other


def test_single_precision_on_long_inputs() -> None:
    """Beyond the length up to which the CPU writes attention out, in the precision of real models."""
    task = ProgramTask(ProgramConfig("counter", length=70))
    config = ModelConfig(
        2, 2, 16, len(task.vocabulary), task.n_ctx, d_vocab_out=len(task.answer_vocabulary)
    )
    models = [build_model(config, seed) for seed in range(2)]
    twins, source = pairs(models), task.query("counter", "a")
    settings = replace(ADAMW, steps=5, evaluate_at=())
    train_ensemble(models, [source, source], [settings, settings])
    for model, twin in zip(models, twins, strict=True):
        train(twin, source, settings)
        close(model, twin, rtol=1e-3, atol=1e-4)


def test_sgd_members_equal_their_twins() -> None:
    """A program's form: no LayerNorm, ReLU, both directions; momentum, decay, frozen unembedding."""
    task = counter()
    configs = [SGD, replace(SGD, learning_rate=3e-3, seed=5), replace(SGD, momentum=0.0),
               replace(SGD, weight_decay=0.1, gradient_clip=0.1)]  # fmt: skip
    correlation = task.contrast.correlation(0.5)
    sources: list[Source] = [task.query("counter", "b", correlation)] * 4
    models = [compiled_like(seed) for seed in range(4)]
    twins = pairs(models)
    before = [model.unembed.W_U.detach().clone() for model in models]
    train_ensemble(models, sources, configs)
    for model, twin, source, config, start in zip(
        models, twins, sources, configs, before, strict=True
    ):
        untrained = clone(twin)
        train(twin, source, config)
        close(model, twin, rtol=1e-9, atol=1e-11)
        assert torch.equal(model.unembed.W_U, start)
        assert not torch.equal(model.blocks[0].attn.W_K, untrained.blocks[0].attn.W_K)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_an_exploding_member_leaves_the_others_bits(optimizer: Any) -> None:
    """One member's rate is absurd: it is marked, keeps finite weights, and nobody else notices."""
    source = counter().query("counter", "b")
    config = replace(SGD, optimizer=optimizer, learning_rate=1e-3, steps=30, warmup_fraction=0.0)
    config = replace(config, evaluate_at=(0, 10, 30))
    evaluations = [{"x": source.sample(10, generator(0))}] * 3
    results = []
    for rate in (1e-3, 1e60):
        models = [compiled_like(seed) for seed in range(3)]
        configs = [config, replace(config, learning_rate=rate), replace(config, seed=9)]
        found = train_ensemble(models, [source] * 3, configs, evaluations=evaluations)
        results.append(([fingerprint(model) for model in models], found))
        diverged = models[1]
    (calm, calm_history), (wild, wild_history) = results
    assert [calm[0], calm[2]] == [wild[0], wild[2]] and calm[1] != wild[1]
    assert [calm_history[0], calm_history[2]] == [wild_history[0], wild_history[2]]
    assert all(bool(p.isfinite().all()) for p in diverged.parameters())
    with pytest.raises(TrainingDivergedError, match=f"at step {wild_history[1].diverged_at} of 30"):
        train(compiled_like(1), source, replace(config, learning_rate=1e60))
    assert [record["step"] for record in wild_history[1].records] == [0]
    assert all(h.diverged_at is None for h in (*calm_history, wild_history[0], wild_history[2]))


def test_a_member_that_diverged_keeps_its_last_good_weights() -> None:
    """They are what ``train`` leaves behind when it raises, and the ensemble ends if none is left."""
    source, models = counter().query("counter", "b"), [compiled_like(seed) for seed in (0, 1)]
    config = replace(SGD, learning_rate=1e60, steps=1000, warmup_fraction=0.0)
    twins = pairs(models)
    found = train_ensemble(models, [source] * 2, [config] * 2)
    for model, twin, history in zip(models, twins, found, strict=True):
        with pytest.raises(TrainingDivergedError):
            train(twin, source, config)
        assert history.diverged_at is not None and history.diverged_at > 1
        close(model, twin, rtol=1e-6, atol=0.0)


def test_a_member_stops_where_it_has_reached_its_aim(task: PCFGTask, make_model: MakeModel) -> None:
    source = task.query("C", "a")
    evaluations = [{"x": source.sample(10, generator(0))}] * 2
    models = [make_model(0), make_model(1)]
    twins = pairs(models)
    configs = [replace(ADAMW, stop_at=("x", 0.0)), ADAMW]
    found = train_ensemble(models, [source] * 2, configs, evaluations=evaluations)
    assert fingerprint(models[0]) == fingerprint(twins[0]) != fingerprint(models[1])
    assert [len(history.records) for history in found] == [1, 3]
    assert found[0].diverged_at is None


def test_ctrl_c_leaves_every_model_after_the_same_step(
    task: PCFGTask, make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, models = task.query("C", "a"), [make_model(0), make_model(1)]
    twins, real, calls = pairs(models), loop.batch_loss, []

    def pressed(*arguments: Any) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 5:
            signal.raise_signal(signal.SIGINT)
        return real(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("mechft.training.ensemble.batch_loss", pressed)
        train_ensemble(models, [source] * 2, [replace(ADAMW, evaluate_at=())] * 2)
    monkeypatch.setattr(TrainConfig, "rate", _rate_of(ADAMW))
    train_ensemble(twins, [source] * 2, [replace(ADAMW, steps=5, evaluate_at=())] * 2)
    assert [fingerprint(m) for m in models] == [fingerprint(m) for m in twins]


def _rate_of(config: TrainConfig) -> Callable[[TrainConfig, int], float]:
    rates = [config.rate(step) for step in range(config.steps)]
    return lambda _, step: rates[step]


def test_shared_data_are_drawn_once(task: PCFGTask, make_model: MakeModel) -> None:
    drawn: list[int] = []

    class Counted:
        def sample(self, size: int, draws: torch.Generator) -> Any:
            drawn.append(size)
            return task.query("C", "a").sample(size, draws)

    source, configs = (
        Counted(),
        [replace(ADAMW, steps=8, evaluate_at=(), seed=s) for s in (1, 1, 2)],
    )
    train_ensemble([make_model(i) for i in range(3)], [source] * 3, configs)
    assert drawn == [64, 64]


def test_members_that_do_not_fit(task: PCFGTask, make_model: MakeModel) -> None:
    source, models = task.query("C", "a"), [make_model(0), make_model(1)]
    with pytest.raises(ConfigError, match=r"one batch_size; got \[8, 9\]"):
        train_ensemble(models, [source] * 2, [ADAMW, replace(ADAMW, batch_size=9)])
    with pytest.raises(ConfigError, match="2 models, 1 sources, 2 configs and 2"):
        train_ensemble(models, [source], [ADAMW] * 2)
    with pytest.raises(ConfigError, match="twice"):
        train_ensemble([models[0]] * 2, [source] * 2, [ADAMW] * 2)
    with pytest.raises(ConfigError, match="one shape"):
        train_ensemble([models[0], compiled_like(0)], [source] * 2, [ADAMW] * 2)
    with pytest.raises(UnknownNameError, match=r"parameter to freeze 'unembed\.W'"):
        train_ensemble(models, [source] * 2, [replace(ADAMW, frozen=("unembed.W",))] * 2)
    with pytest.raises(UnknownNameError, match="evaluation to stop at 'x'"):
        train_ensemble(models, [source] * 2, [replace(ADAMW, stop_at=("x", 0.5))] * 2)
    with pytest.raises(ConfigError, match="one length"):
        both: list[Source] = [source, counter().query("counter", "a")]
        train_ensemble(models, both, [ADAMW] * 2)
