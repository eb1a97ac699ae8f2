"""Scores: the loss's slope, per-row gradients squared, distances; each against a slow reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mechft.analysis.units import gradients
from mechft.analysis.units.layout import UNIT_KINDS, unit_layout
from mechft.analysis.units.masks import unit_mask
from mechft.analysis.units.scores import (
    UnitScores,
    fisher,
    gradient_times_change,
    gradient_times_weight,
    magnitude,
    movement,
    random_scores,
)
from mechft.analysis.units.weight_edit import editing
from mechft.errors import ConfigError
from mechft.models.build import clone
from mechft.models.hook_points import pattern
from mechft.models.weights import block_matrices
from mechft.randomness import generator
from mechft.tasks.batch import TokenBatch

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

    from mechft.tasks.pcfg import PCFGTask

Make = Callable[..., "HookedTransformer"]


@pytest.fixture
def batch(task: PCFGTask) -> TokenBatch:
    return task.query("C", "a").sample(20, generator(0))


def answer_loss(model: HookedTransformer, batch: TokenBatch) -> Tensor:
    return F.cross_entropy(model(batch.prompt)[:, -1], batch.answer)


def same(scores: UnitScores, expected: dict[str, Tensor], rtol: float = 1e-4) -> None:
    assert list(scores.scores) == list(expected)
    for group, values in scores.scores.items():
        scale = float(expected[group].abs().max())
        torch.testing.assert_close(values, expected[group], rtol=rtol, atol=1e-5 * scale + 1e-9)


@pytest.mark.parametrize("score", [gradient_times_weight, fisher])
def test_prompts_of_two_lengths_count_by_their_rows(
    make_any: Make, batch: TokenBatch, score: Callable[..., UnitScores]
) -> None:
    """Both scores are means over rows: of 20 rows and 10 shorter ones, two thirds and one third."""
    model = make_any()
    short = TokenBatch(batch.prompt[:10, :9], 8, batch.answer[:10])
    both, one, other = (score(model, rows).scores for rows in ([batch, short], batch, short))
    same(score(model, [batch, short]), {g: (2 * one[g] + other[g]) / 3 for g in both})


@pytest.mark.parametrize("unit", UNIT_KINDS)
def test_gradient_times_weight_is_autograd_by_hand(
    make_any: Make, batch: TokenBatch, unit: str
) -> None:
    model = make_any()
    weights = block_matrices(model)
    found = torch.autograd.grad(answer_loss(model, batch), [w.parameter for w in weights.values()])
    products = {
        name: weight.gradient(gradient) * weight.tensor
        for (name, weight), gradient in zip(weights.items(), found, strict=True)
    }
    expected = unit_layout(model, unit).totals(products)
    scores = gradient_times_weight(model, batch, unit=unit)
    same(scores, expected)
    assert all(p.grad is None for p in model.parameters())
    for group, values in abs(scores).scores.items():
        assert torch.equal(values, scores.scores[group].abs())


@pytest.mark.parametrize("unit", ["neuron", "column", "head", "mlp_neuron"])
@pytest.mark.parametrize("graft", [False, True])
def test_scores_are_the_slope_of_the_loss(
    make_any: Make, batch: TokenBatch, unit: str, graft: bool
) -> None:
    """Removing (grafting) the fraction ε of a unit changes the loss by −ε × its score."""
    model, base = make_any(0).double(), make_any(1).double()
    scores = (
        gradient_times_change(model, batch, base, unit=unit)
        if graft
        else gradient_times_weight(model, batch, unit=unit)
    )
    layout, epsilon = scores.layout, 1e-4
    for group in list(layout.sizes)[:: max(len(layout.sizes) // 3, 1)]:
        losses = []
        for sign in (1, -1):
            amounts = {g: torch.zeros(n, dtype=torch.float64) for g, n in layout.sizes.items()}
            amounts[group][1] = sign * epsilon
            with editing(model, layout, base if graft else None) as edit, torch.no_grad():
                edit.blend(amounts)
                losses.append(float(answer_loss(model, batch)))
        slope = -(losses[0] - losses[1]) / (2 * epsilon)
        # Llama's RMSNorm computes in float32 whatever the weights are.
        assert slope == pytest.approx(float(scores.scores[group][1]), rel=2e-2, abs=2e-3)


@pytest.mark.parametrize("unit", ["neuron", "weight", "head"])
def test_fisher_is_a_slow_loop_over_rows(make_any: Make, batch: TokenBatch, unit: str) -> None:
    model = make_any()
    weights = block_matrices(model)
    total = {name: torch.zeros(w.tensor.shape) for name, w in weights.items()}
    for i in range(len(batch)):
        loss = answer_loss(model, batch.rows(slice(i, i + 1)))
        for weight in weights.values():
            (gradient,) = torch.autograd.grad(loss, weight.parameter, retain_graph=True)
            total[weight.name] += (weight.gradient(gradient) * weight.tensor) ** 2
    expected = unit_layout(model, unit).totals({n: t / len(batch) for n, t in total.items()})
    scores = fisher(model, batch, unit=unit)
    same(scores, expected, rtol=1e-3)
    assert all(bool((values >= 0).all()) for values in scores.scores.values())


def test_distances(make_any: Make) -> None:
    model = make_any()
    twin = clone(model)
    assert all(not v.any() for v in movement(model, twin).scores.values())
    name = "blocks.1.mlp.W_in"
    with torch.no_grad():
        block_matrices(twin)[name].tensor[:, 5] += torch.arange(16.0)
    moved = movement(twin, model)
    assert moved.top(1).units() == {name: [5]}
    assert float(moved.scores[name][5]) == pytest.approx(float(torch.arange(16.0).norm()))
    weight = block_matrices(model)[name].tensor
    torch.testing.assert_close(magnitude(model).scores[name], weight.norm(dim=0))
    smallest = (-magnitude(model)).top(1).units()
    assert smallest == {
        g: [int(v.argmin())] for g, v in magnitude(model).scores.items() if g in smallest
    }
    assert (-magnitude(model)).name == "−magnitude" and abs(moved).name == "|movement|"


def test_top_orders_by_score(make_model: Make) -> None:
    layout = unit_layout(make_model(), "head")  # two heads in each of two blocks
    first, second = layout.sizes
    scores = UnitScores(
        {first: torch.tensor([0.1, 3.0]), second: torch.tensor([3.0, -5.0])}, layout
    )
    assert scores.top(0) == unit_mask(make_model(), unit="head")
    assert scores.top(1).units() == {first: [1]}  # a tie: the earlier first
    assert scores.top(2).units() == {first: [1], second: [0]}
    assert scores.top(4).counts() == {first: 2, second: 2} and len(scores.top(4)) == 4
    assert (-scores).top(1).units() == {second: [1]}
    assert scores.of(scores.top(3)) == pytest.approx([0.1, 3.0, 3.0])
    with pytest.raises(ConfigError, match=r"0\.\.4, all there are; got 5"):
        scores.top(5)


def test_random_scores_are_a_seeded_order(make_any: Make) -> None:
    model = make_any()
    state = torch.get_rng_state()
    one, same_again = (random_scores(model, 0, 1).top(30) for _ in range(2))
    assert one == same_again and torch.equal(torch.get_rng_state(), state)
    assert one != random_scores(model, 1, 0).top(30) and one != random_scores(model, 0, 2).top(30)


def test_chunks_and_hooks(
    make_model: Make, batch: TokenBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores do not hang on the chunk; an ablation in force is part of what is scored."""
    model = make_model()
    whole = gradient_times_weight(model, batch)
    monkeypatch.setattr(gradients, "_CHUNK", 7)
    same(gradient_times_weight(model, batch), dict(whole.scores))
    with model.hooks(fwd_hooks=[(pattern(0), lambda value, hook: value * 0)]):
        silent = gradient_times_weight(model, batch)
    assert not silent.scores["blocks.0.attn.W_Q"].any()


def test_what_is_refused(make_model: Make, batch: TokenBatch) -> None:
    model = make_model()
    with pytest.raises(ConfigError, match="at least one row; got none"):
        gradient_times_weight(model, batch.rows(slice(0, 0)))
    with pytest.raises(ConfigError, match="at least one row; got none"):
        fisher(model, batch.rows(slice(0, 0)))
    frozen = make_model().requires_grad_(False)
    with pytest.raises(ConfigError, match=r"takes no gradient.*requires_grad_"):
        gradient_times_weight(frozen, batch)
    with torch.no_grad():
        model.get_parameter("blocks.0.mlp.W_in")[0, 0] = float("nan")
    with pytest.raises(ConfigError, match=r"gradient of blocks\.0\.\S+ is not finite"):
        gradient_times_weight(model, batch)
    with pytest.raises(ConfigError, match=r"magnitude scores of blocks\.0\.mlp\.W_in hold NaN"):
        magnitude(model)
    with pytest.raises(ConfigError, match=r"one number for each neuron unit.*got 1 groups"):
        UnitScores({"x": torch.zeros(3)}, unit_layout(model))
