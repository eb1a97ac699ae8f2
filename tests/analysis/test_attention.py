"""Attention: divergence between 0 and 1 bit, mass that adds up, maps that are the patterns."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import torch

from mechft.analysis.attention import diff_attention, jensen_shannon
from mechft.analysis.attention_maps import attention_maps
from mechft.errors import ConfigError
from mechft.models.build import ModelConfig, build_model, clone
from mechft.models.hook_points import pattern
from mechft.models.weights import block_matrices
from mechft.randomness import generator
from mechft.statistics import mean_estimate
from mechft.tasks.batch import TokenBatch
from mechft.tasks.pcfg import PCFGTask

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

Make = Callable[..., "HookedTransformer"]


@pytest.fixture
def batch(task: PCFGTask) -> TokenBatch:
    return task.query("C", "a").sample(40, generator(0))


def patterns_of(model: HookedTransformer, batch: TokenBatch, block: int) -> torch.Tensor:
    return model.run_with_cache(batch.prompt)[1][pattern(block)].detach().double()


def test_jensen_shannon() -> None:
    """0 for the same, 1 bit for disjoint ones, in between the textbook formula; symmetric."""
    draws = torch.Generator().manual_seed(0)
    p, q = torch.rand(2, 50, 7, generator=draws, dtype=torch.float64).unbind()
    p[:, 0] = 0
    p, q = p / p.sum(-1, keepdim=True), q / q.sum(-1, keepdim=True)
    middle = (p + q) / 2
    expected = sum(torch.where(r > 0, r * (r / middle).log2(), r).sum(-1) for r in (p, q)) / 2
    torch.testing.assert_close(jensen_shannon(p, q), expected)
    torch.testing.assert_close(jensen_shannon(p, q), jensen_shannon(q, p))
    assert (jensen_shannon(p, p) == 0).all()
    disjoint = jensen_shannon(torch.tensor([0.5, 0.5, 0, 0]), torch.tensor([0, 0, 0.1, 0.9]))
    assert float(disjoint) == pytest.approx(1)
    assert float(jensen_shannon(torch.tensor([1.0, 0]), torch.tensor([0.5, 0.5]))) == pytest.approx(
        1.5 - 0.75 * math.log2(3)
    )


@pytest.mark.parametrize("query", ["answer", "all"])
def test_twins_look_alike(batch: TokenBatch, make_any: Make, query: Any) -> None:
    model = make_any(0)
    result = diff_attention(model, clone(model), batch, tokens=[0], query=query)
    assert (result.frame[["js", "ci_low", "ci_high"]] == 0).all().all()
    change = result.mass.frame.query("model == 'finetuned'")[
        ["change", "change_low", "change_high"]
    ]
    assert (change == 0).all().all()


@pytest.mark.parametrize("query", ["answer", "all"])
def test_numbers_by_hand(batch: TokenBatch, make_any: Make, query: Any) -> None:
    one, two = make_any(0), make_any(1)
    n_heads = int(one.cfg.n_heads)
    result = diff_attention(
        one,
        two,
        batch,
        tokens={"a": [0], "bc": [1, 2]},
        key_positions={"last": [-1, 0]},
        query=query,
    )
    assert len(result) == 2 * n_heads
    here = slice(-1, None) if query == "answer" else slice(None)
    for block in (0, 1):
        p, q = (patterns_of(m, batch, block)[:, :, here] for m in (one, two))
        for head in range(n_heads):
            row = result.frame.query("block == @block and head == @head").iloc[0]
            wanted = mean_estimate(jensen_shannon(p[:, head], q[:, head]).mean(1))
            assert row[["js", "ci_low", "ci_high"]].tolist() == pytest.approx(
                [wanted.value, wanted.low, wanted.high], abs=1e-6
            )
            assert row["n"] == 40
            masks = {
                "a": batch.prompt == 0,
                "bc": (batch.prompt == 1) | (batch.prompt == 2),
                "last": torch.arange(batch.prompt.shape[1]).expand_as(batch.prompt) % 18 == 0,
            }
            assert masks["last"].sum(1).tolist() == [2] * 40
            for group, mask in masks.items():
                before, after = ((r[:, head] * mask[:, None]).sum(-1).mean(1) for r in (p, q))
                rows = result.mass.frame.set_index(["group", "block", "head"]).loc[
                    (group, block, head)
                ]
                found = rows.set_index("model").loc["finetuned"]
                one_, change = mean_estimate(before), mean_estimate(after - before)
                assert rows.set_index("model").loc["base"]["mass"] == pytest.approx(one_.value)
                assert found["mass"] == pytest.approx(float(after.mean()))
                assert found[["change", "change_low", "change_high"]].tolist() == pytest.approx(
                    [change.value, change.low, change.high], abs=1e-6
                )


def test_all_tokens_hold_all_the_mass(batch: TokenBatch, make_any: Make) -> None:
    model = make_any(0)
    everything = list(range(int(model.cfg.d_vocab)))
    result = diff_attention(model, make_any(1), batch, tokens=everything, query="all")
    sums = result.mass.frame.groupby(["model", "block", "head"])["mass"].sum()
    assert len(sums) == 4 * int(model.cfg.n_heads)
    assert sums.tolist() == pytest.approx([1] * len(sums))
    whole = diff_attention(model, make_any(1), batch, tokens={"all": everything}).mass.frame
    assert whole["mass"].tolist() == pytest.approx([1] * len(whole))


def test_a_change_of_one_block_shows_from_there(batch: TokenBatch, make_any: Make) -> None:
    base = make_any(0)
    edited = clone(base)
    with torch.no_grad():
        block_matrices(edited)["blocks.1.attn.W_Q"].tensor[0].mul_(-3)  # one head's queries
    frame = diff_attention(base, edited, batch).frame.set_index(["block", "head"])
    assert frame.loc[(1, 0), "js"] > 0
    assert (frame.drop((1, 0))["js"] == 0).all()


def test_batches_add_up_and_hooks_stay(batch: TokenBatch, make_any: Make) -> None:
    one, two = make_any(0), make_any(1)
    seen = []
    one.add_hook(pattern(0), lambda value, hook: seen.append(len(value)))
    whole = diff_attention(one, two, batch, tokens=[0, 1])
    split = diff_attention(
        one, two, (batch.rows(slice(i, i + 8)) for i in range(0, 40, 8)), tokens=[0, 1]
    )
    for a, b in ((whole.frame, split.frame), (whole.mass.frame, split.mass.frame)):
        for column in a.select_dtypes("number"):
            assert b[column].tolist() == pytest.approx(a[column].tolist(), abs=1e-6, nan_ok=True)
    assert seen == [40] + 5 * [8]  # the caller's hook ran, and is still there
    one(batch.prompt)
    assert len(seen) == 7
    for model in (one, two):
        model.reset_hooks()
        assert not any(point.fwd_hooks for point in model.hook_dict.values())


def test_maps_are_the_patterns(batch: TokenBatch, make_any: Make) -> None:
    models = {"base": make_any(0), "ft": make_any(1)}
    heads = [(0, 1), (1, 0)]
    mean = attention_maps(
        models, (batch.rows(slice(i, i + 9)) for i in range(0, 40, 9)), heads=heads
    )
    single = attention_maps(models, batch, row=33, heads=heads)
    assert (mean.n, single.n) == (40, 1)
    for (name, block, head), weights in mean.patterns.items():
        wanted = patterns_of(models[name], batch, block)[:, head]
        torch.testing.assert_close(weights, wanted.mean(0), atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(
            single.patterns[name, block, head], wanted[33], atol=1e-6, rtol=1e-5
        )
    length = batch.prompt.shape[1]
    assert len(mean) == 2 * 2 * length**2
    row = mean.frame.query("model == 'ft' and block == 1 and head == 0 and query == 9 and key == 4")
    assert row["weight"].item() == float(mean.patterns["ft", 1, 0][9, 4])
    assert (mean.frame.query("key > query")["weight"] == 0).all()
    assert attention_maps(models, batch).patterns.keys() >= mean.patterns.keys()


def test_half_precision(batch: TokenBatch, make_model: Make) -> None:
    everything = {"all": list(range(36))}
    result = diff_attention(make_model(0), make_model(0, torch.bfloat16), batch, tokens=everything)
    assert (result.frame["js"] < 0.01).all()
    assert result.mass.frame["mass"].tolist() == pytest.approx([1] * 8, abs=0.01)


def test_bad_input(batch: TokenBatch, make_model: Make, task: PCFGTask) -> None:
    model = make_model(0)
    other = build_model(ModelConfig(2, 4, 16, len(task.vocabulary), task.sample_length - 1))
    with pytest.raises(ConfigError, match=r"base 2 × 2, finetuned 2 × 4 \(blocks × heads\)"):
        diff_attention(model, other, batch)
    with pytest.raises(ConfigError, match=r"Token ids are 0\.\.35 .* 'x' has \[36\]"):
        diff_attention(model, model, batch, tokens={"x": [36]})
    with pytest.raises(ConfigError, match="'x' has none"):
        diff_attention(model, model, batch, tokens={"x": []})
    with pytest.raises(ConfigError, match="'x' comes twice"):
        diff_attention(model, model, batch, tokens={"x": [1]}, key_positions={"x": [1]})
    with pytest.raises(ConfigError, match=r"prompt of 19 tokens .* 'x' has \[19\]"):
        diff_attention(model, model, batch, key_positions={"x": [19]})
    with pytest.raises(ConfigError, match="no batch to work on"):
        diff_attention(model, model, [])
    with pytest.raises(ConfigError, match=r"need different names .* both are called 'base'"):
        diff_attention(model, model, batch, name="base")
    wrong: Any = "last"
    with pytest.raises(ConfigError, match="got 'last'"):
        diff_attention(model, model, batch, query=wrong)
    with pytest.raises(ConfigError, match="at least one model"):
        attention_maps({}, batch)
    with pytest.raises(ConfigError, match=r"Rows of the data are 0\.\.39; got row=40"):
        attention_maps({"one": model}, batch, row=40)
    with pytest.raises(ConfigError, match="each of the 19 positions of the prompt; got 2"):
        attention_maps({"one": model}, batch, labels=["a", "b"])
    with pytest.raises(ConfigError, match=r"got \(2, 0\)"):
        attention_maps({"one": model}, batch, heads=[(2, 0)])
    with torch.no_grad():
        block_matrices(model)["blocks.0.attn.W_Q"].tensor.fill_(float("nan"))
    with pytest.raises(
        ConfigError, match=r"blocks\.0\.attn\.hook_pattern has queries that attend to"
    ):
        diff_attention(make_model(0), model, batch)
