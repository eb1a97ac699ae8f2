"""Pruning: scores are the loss's slope, masks restore bit for bit, curves count what they say."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.nn.functional as F

from mechft.analysis import pruning
from mechft.analysis.pruning import (
    UnitScores,
    gradient_times_weight,
    prune_curve,
    random_scores,
)
from mechft.analysis.units import UnitMask, prunable_parameters, pruned
from mechft.errors import ConfigError, UnknownNameError
from mechft.models.build import clone, fingerprint
from mechft.randomness import generator
from mechft.training.evaluation import accuracy
from mechft.training.trained import Trained

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

    from mechft.tasks.batch import TokenBatch
    from mechft.tasks.pcfg import PCFGTask

# Where each unit's incoming weights are, written out: parameter name → (unit → index).
INCOMING: dict[str, Callable[[int], Any]] = {
    "attn.W_Q": lambda unit: (unit // 8, slice(None), unit % 8),
    "attn.W_O": lambda unit: (slice(None), slice(None), unit),
    "mlp.W_in": lambda unit: (slice(None), unit),
    "mlp.W_out": lambda unit: (slice(None), unit),
}


def answer_loss(model: HookedTransformer, batch: TokenBatch) -> torch.Tensor:
    return F.cross_entropy(model(batch.prompt)[:, -1], batch.answer)


@pytest.mark.parametrize("matrix", INCOMING)
@pytest.mark.parametrize("unit", [0, 5, 11])
def test_score_is_the_slope_of_the_loss(
    make_model: Callable[..., HookedTransformer], task: PCFGTask, matrix: str, unit: int
) -> None:
    """Shrinking a unit's weights by (1 − ε) changes the loss by −ε × its score."""
    model = make_model(dtype=torch.float64)
    batch = task.query("C", "a").sample(30, generator(0))
    name = f"blocks.1.{matrix}"
    score = float(gradient_times_weight(model, batch).scores[name][unit])
    losses = []
    with torch.no_grad():
        for epsilon in (1e-5, -1e-5):
            shrunk = clone(model)
            shrunk.get_parameter(name)[INCOMING[matrix](unit)] *= 1 - epsilon
            losses.append(float(answer_loss(shrunk, batch)))
    assert -(losses[0] - losses[1]) / 2e-5 == pytest.approx(score, rel=1e-4, abs=1e-8)


@pytest.mark.parametrize("matrix", INCOMING)
def test_pruning_zeroes_the_unit_and_nothing_else(trained: Trained, matrix: str) -> None:
    name, model = f"blocks.0.{matrix}", trained.model
    sizes = {n: len(s) for n, s in random_scores(model, 0).scores.items()}
    chosen = {n: torch.zeros(size, dtype=torch.bool) for n, size in sizes.items()}
    chosen[name][11] = True
    expected = model.get_parameter(name).detach().clone()
    expected[INCOMING[matrix](11)] = 0
    before = fingerprint(model)
    with pruned(model, UnitMask(chosen)):
        for other, parameter in prunable_parameters(model).items():
            if other == name:
                assert torch.equal(parameter, expected)
            else:
                assert bool((parameter != 0).all())
    assert fingerprint(model) == before


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_weights_come_back_after_an_error(trained: Trained, error: type[BaseException]) -> None:
    before = fingerprint(trained.model)
    with pytest.raises(error), pruned(trained.model, random_scores(trained.model, 0).top(40)):
        assert fingerprint(trained.model) != before
        raise error
    assert fingerprint(trained.model) == before


def test_top_orders_by_score() -> None:
    scores = UnitScores({"x": torch.tensor([0.1, 3.0]), "y": torch.tensor([2.0, -5.0, 3.0])})
    assert scores.top(0).counts() == {}
    assert scores.top(1).counts() == {"x": 1}  # a tie: the earlier first
    assert scores.top(3).chosen["y"].tolist() == [True, False, True]
    assert scores.top(5).counts() == {"x": 2, "y": 3} and len(scores.top(5)) == 5
    with pytest.raises(ConfigError, match=r"0\.\.5, all there are; got 6"):
        scores.top(6)


def test_random_scores_are_a_seeded_order(trained: Trained) -> None:
    one, same = (random_scores(trained.model, 0, 1).top(30) for _ in range(2))
    other = random_scores(trained.model, 1, 0).top(30)
    assert one.counts() == same.counts()
    assert any(not torch.equal(one.chosen[n], other.chosen[n]) for n in one.chosen)


def test_curve_equals_one_by_one(trained: Trained) -> None:
    model, task = trained.model, trained.task
    tasks = {"a": task.query("C", "a").sample(60, generator(1))}
    revive = task.query("C", "a").sample(50, generator(2))
    before = fingerprint(model)
    curve = prune_curve(model, revive, tasks, counts=(0, 3, 40), random_draws=2, seed=5)
    assert fingerprint(model) == before
    frame = curve.frame.set_index(["score", "k"])["accuracy"]
    for k in (0, 3, 40):
        with pruned(model, gradient_times_weight(model, revive).top(k)):
            assert frame["gradient×weight", k] == accuracy(model, tasks["a"]).value
        shares = []
        for draw in (0, 1):
            with pruned(model, random_scores(model, 5, draw).top(k)):
                shares.append(accuracy(model, tasks["a"]).value)
        assert frame["random", k] == pytest.approx(sum(shares) / 2)
    assert curve.where(40)["units"].sum() == 40
    assert set(curve.frame.query("score == 'random' and k > 0")["interval"]) == {"range"}
    with pytest.raises(ConfigError, match="all there are"):
        prune_curve(model, revive, tasks, counts=(0, 10**6))
    with pytest.raises(ConfigError, match="a random draw; got 1, 1 and 0"):
        prune_curve(model, revive, tasks, counts=(0,), random_draws=0)


def test_scores_do_not_depend_on_the_chunk(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = trained.task.query("C", "a").sample(50, generator(3))
    whole = gradient_times_weight(trained, batch)
    monkeypatch.setattr(pruning, "_CHUNK", 7)
    for name, scores in gradient_times_weight(trained, batch).scores.items():
        torch.testing.assert_close(scores, whole.scores[name], rtol=1e-4, atol=1e-5)


def test_masks_of_other_models_are_refused(trained: Trained) -> None:
    with (
        pytest.raises(ConfigError, match="made for another model"),
        pruned(trained.model, UnitMask({"blocks.0.mlp.W_in": torch.ones(3, dtype=torch.bool)})),
    ):
        pass
    with (
        pytest.raises(UnknownNameError, match=r"weight matrix 'blocks\.9\.mlp\.W_in'"),
        pruned(trained.model, UnitMask({"blocks.9.mlp.W_in": torch.ones(3, dtype=torch.bool)})),
    ):
        pass
