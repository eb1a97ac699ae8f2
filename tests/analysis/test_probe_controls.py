"""Controls: a twin that differs in its weights only, and labels that mean nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
import torch

from mechft.analysis.probes.controls import (
    control_labels,
    permuted,
    random_twin,
)
from mechft.analysis.probing import probe
from mechft.errors import ConfigError
from mechft.models.build import ModelConfig, build_model
from mechft.models.hook_points import resid_post
from mechft.randomness import generator
from mechft.statistics import paired_difference
from mechft.tasks.pcfg import PCFGTask

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer


def test_twin_has_the_same_shape_and_fresh_weights(
    make_any: Callable[..., HookedTransformer], task: PCFGTask
) -> None:
    """Another function of the same inputs, the same for the same seed; the model given is as before."""
    model = make_any()
    prompt = task.query("C", "a").sample(8, generator(0)).prompt
    with torch.no_grad():
        before = model(prompt)
        one, same, other = (random_twin(model, seed)(prompt) for seed in (0, 0, 1))
        torch.testing.assert_close(model(prompt), before, rtol=0, atol=0)
    torch.testing.assert_close(one, same, rtol=0, atol=0)
    assert not torch.allclose(one, other) and not torch.allclose(one, before)
    twin = random_twin(model)
    assert [(n, p.shape) for n, p in twin.named_parameters()] == [
        (n, p.shape) for n, p in model.named_parameters()
    ]
    for name, parameter in twin.named_parameters():
        value = parameter.detach()
        kind = name.split(".")[-1]
        if value.dim() == 1 or kind.startswith("b_"):
            assert value.unique().tolist() in ([0.0], [1.0]), name
        else:
            assert 0.003 < float(value.std()) < 0.05, name
            assert abs(float(value.mean())) < 0.02, name


def test_twin_keeps_dtype(make_model: Callable[..., HookedTransformer]) -> None:
    twin = random_twin(make_model(dtype=torch.bfloat16))
    assert next(twin.parameters()).dtype == torch.bfloat16


def test_control_labels_are_a_function_of_the_type(task: PCFGTask) -> None:
    """Rows of one type have one label, in both batches; labels are distributed about as the target's."""
    batches = [task.query("C", "a").sample(n, generator(n)) for n in (2000, 500)]
    target = batches[0].labels["C(a)"]
    found = control_labels(target, batches, type_of=3)
    seen: dict[tuple[int, ...], int] = {}
    varying = (batches[0].prompt != batches[0].prompt[0]).any(0).nonzero()[-3:, 0]
    for batch, labels in zip(batches, found, strict=True):
        for row, label in zip(batch.prompt[:, varying].tolist(), labels.tolist(), strict=True):
            assert seen.setdefault(tuple(row), label) == label
    assert 9 < len(seen) <= 27 and len(set(seen.values())) > 1  # the grammar lacks some
    largest = int(target.max()) + 1
    ours, theirs = (torch.bincount(x, minlength=largest) / 2000 for x in (found[0], target))
    assert float((ours - theirs).abs().sum()) / 2 < 0.15  # total variation
    again = control_labels(target, batches, type_of=3, seed=1)
    assert not torch.equal(again[0], found[0])


def test_control_types_of_ones_own(task: PCFGTask) -> None:
    batch = task.query("C", "a").sample(300, generator(0))
    target = batch.labels["C(a)"]
    (found,) = control_labels(target, [batch], type_of=lambda b: b.labels["C(b)"])
    for value in batch.labels["C(b)"].unique():
        assert len(found[batch.labels["C(b)"] == value].unique()) == 1
    with pytest.raises(ConfigError, match="all training rows are of one"):
        control_labels(target, [batch], type_of=lambda b: b.answer * 0)
    rows = batch.rows(slice(0, 30)), batch.rows(slice(30, 300))
    with pytest.raises(ConfigError, match=r"1% of the other rows.*Give fewer tokens"):
        control_labels(target[:30], rows, type_of=12)
    with pytest.raises(ConfigError, match="at least its last token"):
        control_labels(target, [batch], type_of=0)


def test_permuted_keeps_the_shares() -> None:
    labels = torch.randint(4, (200,), generator=generator(0))
    dealt = permuted(labels, 0, "x")
    assert torch.equal(dealt.sort().values, labels.sort().values)
    assert not torch.equal(dealt, labels)


def test_paired_difference_of_newcombes_example() -> None:
    """Newcombe (1998, Stat. Med. 17, 2635), Table II, 50 pairs (36, 12, 2, 0): method 10."""
    first = torch.tensor([True] * 48 + [False] * 2)
    second = torch.tensor([True] * 36 + [False] * 12 + [True] * 2)
    found = paired_difference(first, second)
    assert found.value == pytest.approx(0.20)
    assert (found.low, found.high) == pytest.approx((0.0569, 0.3404), abs=2e-3)


def test_paired_difference_covers() -> None:
    """The interval holds the true difference in about 95% of draws; of certain shares it keeps a width."""
    draws = generator(0, "coverage")
    held = 0
    for _ in range(400):
        shared = torch.rand(200, generator=draws)
        first, second = shared < 0.9, (shared + 0.1 * torch.randn(200, generator=draws)) < 0.8
        true = (
            0.9
            - float(((torch.linspace(0, 1, 20001) - 0.8) / 0.1).neg().mul(2**-0.5).erf().mean() + 1)
            / 2
        )
        found = paired_difference(first, second)
        held += found.low <= true <= found.high
    assert 0.91 < held / 400 < 0.99
    sure = paired_difference(torch.ones(50, dtype=torch.bool), torch.ones(50, dtype=torch.bool))
    assert sure.low < 0 < sure.high and sure.value == 0


def test_models_of_one_shape_share_a_twin_and_nothing_changes(
    make_model: Callable[..., HookedTransformer], task: PCFGTask
) -> None:
    """Probed together, models get what each gets alone, also where another shape stands between them."""
    fit, test = (task.query("C", "a").sample(n, generator(n)) for n in (60, 30))
    wider = build_model(ModelConfig(1, 2, 24, len(task.vocabulary), task.sample_length - 1))
    models = {"one": make_model(), "wider": wider, "other": make_model(1)}
    asked: dict[str, Any] = {"controls": ["random_model"], "hook_names": [resid_post(0)]}
    together = probe(models, fit, test, "C(a)", **asked).frame
    alone = [probe({n: m}, fit, test, "C(a)", **asked).frame for n, m in models.items()]
    pd.testing.assert_frame_equal(together, pd.concat(alone, ignore_index=True))
    twins = together[together["control"] == "random_model"].set_index("model")
    assert twins.loc["one", "accuracy"] == twins.loc["other", "accuracy"]
