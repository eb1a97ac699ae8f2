"""Activations by the fused forward are those of the hooked one, and hooks in force are seen."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mechft.analysis import activations
from mechft.analysis.activations import activations_of
from mechft.models.fused import EDITABLE
from mechft.models.hook_points import resid_post
from mechft.tasks.batch import TokenBatch
from tests.models.llamas import make_llama
from tests.models.test_fused import tokens


@pytest.mark.parametrize("positions", ["answer", "all", -3, slice(-5, -1)])
def test_either_forward_gives_the_same(positions: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_llama()
    inputs = tokens(model)
    batch = TokenBatch(inputs, inputs.shape[1] - 1, inputs[:, -1])
    names = [f"blocks.{block}.{point}" for block in range(3) for point in EDITABLE]
    assert activations._fast(model, set(names))
    fast = activations_of(model, batch, names, positions)
    monkeypatch.setattr(activations, "_fast", lambda *_: False)
    slow = activations_of(model, batch, names, positions)
    for name in names:
        torch.testing.assert_close(fast[name], slow[name], rtol=1e-6, atol=1e-7)


def test_hooks_are_seen_and_other_points_computed() -> None:
    model = make_llama()
    inputs = tokens(model)
    batch = TokenBatch(inputs, inputs.shape[1] - 1, inputs[:, -1])
    name = resid_post(2)
    before = activations_of(model, batch, [name])[name]
    with model.hooks(fwd_hooks=[("blocks.1.hook_mlp_out", lambda value, hook: 2 * value)]):
        during = activations_of(model, batch, [name])[name]
    assert not torch.allclose(before, during)
    q = "blocks.1.attn.hook_q"
    assert not activations._fast(model, {q})
    assert activations_of(model, batch, [q])[q].isfinite().all()
