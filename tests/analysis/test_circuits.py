"""Circuits: the factored comparison equals the dense one, grouped heads included."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from mechft.analysis.circuits import compare_products, diff_circuits
from mechft.analysis.weights.spectra import effective_rank
from mechft.errors import ConfigError
from mechft.models.build import clone
from mechft.models.weights import all_weights, block_matrices

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

MakeAny = Callable[..., "HookedTransformer"]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def dense(model: HookedTransformer, block: int, head: int, circuit: str) -> Tensor:
    """A head's circuit written out; query head h shares the key head h // group size."""
    weights = {
        kind: block_matrices(model)[f"blocks.{block}.attn.{kind}"].tensor.double()
        for kind in ("W_Q", "W_K", "W_V", "W_O")
    }
    shared = head // (len(weights["W_Q"]) // len(weights["W_K"]))
    if circuit == "QK":
        return weights["W_Q"][head] @ weights["W_K"][shared].T
    return weights["W_V"][shared] @ weights["W_O"][head]


def test_factored_equals_dense(make_any: MakeAny) -> None:
    base, other = make_any(0), make_any(3)
    frame = diff_circuits(base, other, name="ft").frame
    heads = int(base.cfg.n_heads)
    assert len(frame) == base.cfg.n_layers * heads * 2
    for row in frame.itertuples():
        mine, theirs = (dense(m, row.block, row.head, row.circuit) for m in (base, other))
        assert row.change == pytest.approx(float((theirs - mine).norm()))
        assert row.base_norm == pytest.approx(float(mine.norm()))
        assert row.relative_change == pytest.approx(float((theirs - mine).norm() / mine.norm()))
        cosine = float((mine * theirs).sum() / mine.norm() / theirs.norm())
        assert row.cosine == pytest.approx(cosine)
        assert row.effective_rank == pytest.approx(effective_rank(theirs - mine), rel=1e-5)
        assert row.base_effective_rank == pytest.approx(effective_rank(mine), rel=1e-5)


def test_grouped_heads_are_expanded(make_bridge: MakeAny) -> None:
    """A change of key head 1 moves query heads 2 and 3, which share it, and no other."""
    base = make_bridge("llama")
    other = clone(base)
    with torch.no_grad():
        block_matrices(other)["blocks.0.attn.W_K"].tensor[1].add_(0.1)
    frame = diff_circuits(base, other).frame.query("circuit == 'QK' and block == 0")
    assert frame["key_value_head"].tolist() == [0, 0, 1, 1]
    assert (frame["change"] > 0).tolist() == [False, False, True, True]


def test_twins_have_the_same_circuits(make_any: MakeAny) -> None:
    model = make_any()
    frame = diff_circuits(model, clone(model)).frame
    assert (frame["change"] == 0).all() and (frame["cosine"] == 1).all()
    assert frame["effective_rank"].isna().all()


def test_a_rotation_inside_a_head_is_no_change(make_any: MakeAny) -> None:
    """W_Q R and W_K R with R orthogonal: the factors move, the circuit does not."""
    model = make_any().double()
    other = clone(model)
    found = block_matrices(other)
    q, k = found["blocks.1.attn.W_Q"].tensor, found["blocks.1.attn.W_K"].tensor
    rotation = torch.linalg.qr(normal(q.shape[-1], q.shape[-1])).Q
    with torch.no_grad():
        q.copy_(q @ rotation)
        k.copy_(k @ rotation)
    frame = diff_circuits(model, other).frame.query("circuit == 'QK' and block == 1")
    assert frame["relative_change"].max() < 1e-12
    assert frame["cosine"].tolist() == pytest.approx([1] * len(frame))
    assert frame["effective_rank"].isna().all()  # rounding is no change, and has no rank


@pytest.mark.parametrize(("width", "inner"), [(30, 3), (6, 5)])
def test_products_of_any_shape(width: int, inner: int) -> None:
    """Also where 2 d_head exceeds d_model, and for a change too small for a difference of products."""
    a, b = normal(1, width, inner), normal(1, width, inner, seed=1)
    step = normal(1, width, inner, seed=2)
    for size in (1.0, 1e-13):
        (found,) = compare_products(a, a + size * step, b, b)
        moved = (a + size * step) - a
        assert found["change"] == pytest.approx(float((moved @ b.mT).norm()), rel=1e-9)
        assert found["effective_rank"] == pytest.approx(effective_rank((moved @ b.mT)[0]), rel=1e-6)


def test_bad_input(make_any: MakeAny) -> None:
    model = make_any()
    broken = clone(model)
    with torch.no_grad():
        all_weights(broken)["blocks.0.attn.W_O"].tensor.fill_(float("inf"))
    with pytest.raises(ConfigError, match=r"blocks\.0\.attn\.W_O of the fine-tuned model"):
        diff_circuits(model, broken)
