"""The line between two models: exact ends, barriers known by theorem, both models left alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mechft.analysis.interpolation import barrier, interpolate, interpolated_model
from mechft.errors import ConfigError, UnknownNameError
from mechft.models.build import clone
from mechft.models.weights import all_weights, block_matrices
from mechft.randomness import generator
from mechft.shortcuts.weights import interpolate as interpolate_trained
from mechft.tasks.batch import TokenBatch
from mechft.tasks.pcfg import PCFGTask
from mechft.training.evaluation import accuracy, answer_logits
from mechft.training.trained import Trained
from tests.analysis.twins import answered_by, bits, same

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

MakeAny = Callable[..., "HookedTransformer"]


@pytest.fixture
def batch(task: PCFGTask) -> TokenBatch:
    return task.query("C", "a").sample(150, generator(0))


def test_the_ends_are_the_models_themselves(make_any: MakeAny, batch: TokenBatch) -> None:
    base, other = make_any(0), make_any(5)
    before = bits(base), bits(other)
    tasks = {"one": batch, "two": answered_by(other, batch)}
    found = interpolate(base, other, tasks, alphas=(0.3, 1.7), draws=20)
    assert sorted(set(found.frame["alpha"])) == [0, 0.3, 1, 1.7]  # the ends are always measured
    for alpha, model in ((0, base), (1, other)):
        for task, rows in tasks.items():
            frame = found.frame[found.frame["task"] == task]
            here = frame[frame["alpha"] == alpha].set_index("metric")
            expected = accuracy(model, rows)
            assert here.loc["accuracy", "value"] == expected.value
            assert here.loc["accuracy", "ci_low"] == expected.low
            assert here.loc["accuracy", "ci_high"] == expected.high
            assert here.loc["accuracy", "n"] == 150
            loss = F.cross_entropy(answer_logits(model, rows), rows.answer, reduction="none")
            assert here.loc["loss", "value"] == float(loss.double().mean())
        twin = interpolated_model(base, other, alpha)
        assert torch.equal(answer_logits(twin, batch), answer_logits(model, batch))
    assert same(before[0], bits(base)) and same(before[1], bits(other))


def test_weights_lie_on_the_line(make_any: MakeAny) -> None:
    base, other = make_any(0), make_any(5)
    for alpha in (-0.5, 0.25, 2.0):
        found = all_weights(interpolated_model(base, other, alpha))
        theirs = all_weights(other)
        for name, weight in all_weights(base).items():
            expected = torch.lerp(weight.tensor.double(), theirs[name].tensor.double(), alpha)
            torch.testing.assert_close(found[name].tensor, expected.float(), rtol=1e-6, atol=1e-7)


def test_a_convex_loss_has_no_barrier(make_any: MakeAny, batch: TokenBatch) -> None:
    """Logits are linear in the final norm's gain, and cross-entropy is convex in logits."""
    base = make_any()
    other = clone(base)
    names = [n for n, w in all_weights(base).items() if w.block < 0 and w.tensor.dim() == 1]
    gain = next(
        n for n in names if n in ("ln_final.w", "transformer.ln_f.weight", "model.norm.weight")
    )
    with torch.no_grad():
        weight = all_weights(other)[gain].tensor
        weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    tasks = {"base's": answered_by(base, batch), "random": batch}
    found = interpolate(base, other, tasks, draws=50).barriers
    rows = found[found["metric"] == "loss"]
    assert len(rows) == 2
    assert (rows["barrier"] == 0).all() and (rows["ci_high"] == 0).all()
    assert (rows["inner"] < 0).all()  # strictly below the chord between the ends


def permuted(model: HookedTransformer) -> HookedTransformer:
    """The same function: the hidden units of every MLP in another order."""
    twin = clone(model)
    weights = all_weights(twin)
    biases = {"mlp.b_in", "mlp.c_fc.bias"}
    with torch.no_grad():
        for block in range(int(model.cfg.n_layers)):
            size = weights[f"blocks.{block}.mlp.W_in"].tensor.shape[1]
            order = torch.randperm(size, generator=torch.Generator().manual_seed(block))
            for weight in weights.values():
                if weight.block != block:
                    continue
                if weight.component in ("mlp.W_in", "mlp.W_gate"):
                    weight.tensor.copy_(weight.tensor[:, order].clone())
                elif weight.component == "mlp.W_out" or weight.component in biases:
                    weight.tensor.copy_(weight.tensor[order].clone())
    return twin


def test_permuted_copies_have_a_barrier(make_any: MakeAny, batch: TokenBatch) -> None:
    """Two ends that compute the same function, and a middle that does not."""
    base = make_any()
    with torch.no_grad():
        for weight in block_matrices(base).values():
            weight.tensor.mul_(2 if weight.kind == "W_out" else 1)  # the MLPs decide
    other = permuted(base)
    torch.testing.assert_close(
        answer_logits(other, batch), answer_logits(base, batch), atol=1e-3, rtol=0
    )
    tasks = {"base's": answered_by(base, batch)}
    found = interpolate(base, other, tasks, alphas=(0.5,), draws=200)
    losses = found.frame[found.frame["metric"] == "loss"].set_index("alpha")["value"]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    row = found.barriers.set_index("metric").loc["loss"]
    assert row["barrier"] == pytest.approx(losses[0.5] - (losses[0] + losses[1]) / 2, rel=1e-5)
    assert row["alpha"] == 0.5 and row["inner"] == row["barrier"]
    assert 0 < row["ci_low"] < row["barrier"] < row["ci_high"]


def test_barrier_by_hand() -> None:
    """Costs 0, 3, 2 and 4 at 0, ¼, ½ and 1 of two equal rows: above the chord by 0, 2, 0 and 0."""
    cost = torch.tensor([[0.0, 0.0], [3.0, 3.0], [2.0, 2.0], [4.0, 4.0], [99.0, 99.0]])
    found = barrier([0.0, 0.25, 0.5, 1.0, 1.5], cost)
    assert found == {"barrier": 2, "ci_low": 2, "ci_high": 2, "alpha": 0.25, "inner": 2, "n": 2}
    assert math.isnan(barrier([0.0, 1.0], cost[[0, 3]])["inner"])
    sagging = barrier([0.0, 0.5, 1.0], cost[[0, 0, 3]])
    assert (sagging["barrier"], sagging["inner"]) == (0, -2)


def test_a_bootstrap_interval_covers() -> None:
    """Noise around a known rise of 1: the interval holds it about 95 times in 100."""
    hits = 0
    for seed in range(100):
        draws = torch.Generator().manual_seed(seed)
        cost = torch.randn(3, 80, generator=draws, dtype=torch.float64)
        cost[1] += 1
        found = barrier([0.0, 0.5, 1.0], cost, draws=200)
        hits += found["ci_low"] <= 1 <= found["ci_high"]
    assert 88 <= hits <= 100


def test_other_metrics_refer_to_the_base(make_any: MakeAny, batch: TokenBatch) -> None:
    base, other = make_any(0), make_any(5)
    found = interpolate(base, other, {"t": [batch, batch]}, alphas=(0.5,), metrics=["kl"], draws=1)
    kl = found.frame.set_index("alpha")["value"]
    assert kl[0] == pytest.approx(0, abs=1e-6) and kl[1] > 0.01
    p, q = (answer_logits(m, batch).log_softmax(-1) for m in (base, other))
    assert kl[1] == pytest.approx(float((p.exp() * (p - q)).sum(-1).mean()), rel=1e-4)
    assert set(found.frame["n"]) == {300} and found.barriers.empty


def test_models_are_left_alone_on_error(make_any: MakeAny, batch: TokenBatch) -> None:
    base, other = make_any(0), make_any(5)
    before = bits(base), bits(other)
    seen = []

    def stops(logits: Tensor, rows: TokenBatch, _: Tensor) -> Tensor:
        seen.append(len(rows))
        if len(seen) > 6:
            raise KeyboardInterrupt
        return logits[:, 0]

    with pytest.raises(KeyboardInterrupt):
        interpolate(base, other, {"t": batch}, metrics=[stops])
    assert same(before[0], bits(base)) and same(before[1], bits(other))
    for model in (base, other):
        assert not any(p._forward_hooks for p in model.hook_dict.values())


@pytest.mark.parametrize("alpha", [math.nan, math.inf, True, "1"])
def test_alphas_are_finite(trained: Trained, batch: TokenBatch, alpha: Any) -> None:
    with pytest.raises(ConfigError, match="An alpha is a finite number"):
        interpolate(trained, trained, {"t": batch}, alphas=[alpha])


def test_bad_input(make_model: MakeAny, make_bridge: MakeAny, batch: TokenBatch) -> None:
    base, other = make_model(0), make_model(1)
    empty: Any
    for empty in ({}, None, []):
        with pytest.raises(ConfigError, match="Tasks are batches by name"):
            interpolate(base, other, empty)
    with pytest.raises(ConfigError, match="at least one row"):
        interpolate(base, other, {"t": batch.rows(slice(0))})
    with pytest.raises(ConfigError, match="at least one metric"):
        interpolate(base, other, {"t": batch}, metrics=[])
    with pytest.raises(ConfigError, match="told apart by name"):
        interpolate(base, other, {"t": batch}, metrics=["loss", "loss"])
    with pytest.raises(UnknownNameError, match="Did you mean 'accuracy'"):
        interpolate(base, other, {"t": batch}, metrics=["acuracy"])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match="one kind"):
        interpolate(base, make_bridge("gpt2"), {"t": batch})
    with pytest.raises(ConfigError, match=r"one precision; embed\.W_E is torch\.float32.*bfloat16"):
        interpolate(base, make_model(1, torch.bfloat16), {"t": batch})
    changed = clone(other)
    changed.cfg.act_fn = "relu"
    with pytest.raises(ConfigError, match="act_fn = 'gelu', the other 'relu'"):
        interpolate(base, changed, {"t": batch})
    with pytest.raises(ConfigError, match=r"not finite at alpha = 1e\+38 on 't'"):
        interpolate(base, other, {"t": batch}, alphas=[1e38])


def test_one_liner(trained: Trained, make_model: MakeAny) -> None:
    others = [Trained(make_model(s), trained.task, name=f"ft {s}") for s in (1, 2)]
    found = interpolate_trained(trained, *others, alphas=(0.5,), size=20)
    assert list(dict.fromkeys(found.frame["model"])) == ["ft 1", "ft 2"]
    assert set(found.frame["task"]) == {"acc_pt", "acc_ft_cte1"}
    assert len(found.frame) == 2 * 3 * 2 * 2 and len(found.barriers) == 2 * 2 * 2
    with pytest.raises(ConfigError, match="Nothing to join"):
        interpolate_trained(trained)
