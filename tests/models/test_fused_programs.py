"""The fused forward on what compiled programs are: no LayerNorm, ReLU, attention to both sides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from mechft.models import fused, fused_blocks
from mechft.models.build import ModelConfig, build_model
from mechft.models.fused import fused_embedding, fused_logits, fused_resume
from mechft.models.hook_points import resid_post
from tests.models.test_fused import POSITIONS, gradients, reference, tokens

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

KINDS = [
    pytest.param((normalization, activation, attention), id=f"{normalization}-{activation}-{attention}")
    for normalization in ("LN", "none")
    for activation in ("gelu", "relu")
    for attention in ("causal", "bidirectional")
]  # fmt: skip
CLOSE: dict[str, Any] = {"rtol": 1e-10, "atol": 1e-12}


def model_of(kind: tuple[str, str, str], n_layers: int = 3) -> HookedTransformer:
    """Three heads whose widths do not add up to the stream's, fewer outputs than inputs, no zero bias."""
    settings: Any = dict(zip(("normalization", "activation", "attention"), kind, strict=True))
    config = ModelConfig(
        n_layers, 3, 10, 9, 20, d_mlp=14, d_head=5, d_vocab_out=7, **settings
    )  # fmt: skip
    model = build_model(config, 0, torch.float64)
    draws = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.4 * torch.randn(parameter.shape, generator=draws, dtype=torch.float64))
    return model


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_layers", [1, 3])
@pytest.mark.parametrize("where", POSITIONS)
@pytest.mark.parametrize("explicit", [True, False], ids=["explicit", "sdpa"])
def test_equals_the_hooked_forward(
    kind: tuple[str, str, str],
    n_layers: int,
    where: str,
    explicit: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fused_blocks, "EXPLICIT_LENGTH", 64 if explicit else 0)
    model = model_of(kind, n_layers)
    inputs, positions = tokens(model), POSITIONS[where]
    slow = reference(model, inputs, positions)
    fast = fused_logits(model, inputs, positions)
    assert fast.shape == (*slow.shape[:2], 7)
    torch.testing.assert_close(fast, slow, **CLOSE)
    wanted = gradients(model, slow)
    found = gradients(model, fused_logits(model, inputs, positions))
    assert max(float(g.abs().max()) for g in wanted.values()) > 1e-3
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, wanted[name], **CLOSE, msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_a_shorter_prompt(kind: tuple[str, str, str]) -> None:
    """Fewer tokens than n_ctx: positions beyond the prompt take no part, not even of the softmax."""
    model = model_of(kind)
    inputs = tokens(model)[:, :6]
    for positions in (None, torch.tensor([5]), torch.tensor([1, 4])):
        torch.testing.assert_close(
            fused_logits(model, inputs, positions), reference(model, inputs, positions), **CLOSE
        )


@pytest.mark.parametrize("kind", KINDS)
def test_later_tokens_matter_to_both_sides_only(kind: tuple[str, str, str]) -> None:
    model = model_of(kind)
    inputs = tokens(model)
    changed = inputs.clone()
    changed[:, 12:] = (changed[:, 12:] + 1) % 9
    asked = torch.tensor([3, 0, 11])
    before, after = (fused_logits(model, t, asked).detach() for t in (inputs, changed))
    if kind[2] == "causal":
        assert torch.equal(before, after)
    else:
        assert float((before - after).abs().amax(-1).min()) > 1e-6


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("block", [0, 1, 2])
@pytest.mark.parametrize("point", fused.EDITABLE)
def test_edits_equal_hooks(kind: tuple[str, str, str], block: int, point: str) -> None:
    model = model_of(kind)
    inputs, name = tokens(model), f"blocks.{block}.{point}"
    untouched = model(inputs)
    with model.hooks(fwd_hooks=[(name, lambda value, hook: value.flip(-1) * 0.5)]):
        slow = model(inputs)
    assert not torch.allclose(slow, untouched)
    for positions in (None, torch.tensor([19]), torch.tensor([3, 19])):
        fast = fused_resume(
            model,
            fused_embedding(model, inputs),
            positions,
            edits={name: lambda value, at: value.flip(-1) * 0.5},
        )
        wanted = slow if positions is None else slow[:, positions]
        torch.testing.assert_close(fast, wanted, **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("block", [0, 1, 2, 3])
@pytest.mark.parametrize("stage", ["pre", "mid"])
def test_resume_in_the_middle(kind: tuple[str, str, str], block: int, stage: Any) -> None:
    model = model_of(kind)
    inputs, last = tokens(model), torch.tensor([19])
    logits, cache = model.run_with_cache(inputs)
    stage = "pre" if block == 3 else stage
    resid = cache[resid_post(2)] if block == 3 else cache[f"blocks.{block}.hook_resid_{stage}"]
    for positions in (None, last):
        found = fused_resume(model, resid, positions, block=block, stage=stage)
        wanted: Any = logits
        wanted = wanted if positions is None else wanted[:, last]
        torch.testing.assert_close(found, wanted, **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
def test_key_biases_are_lost_in_the_softmax(kind: tuple[str, str, str]) -> None:
    """A key bias adds the same to a query's every score; it must not get a gradient in either way."""
    model = model_of(kind)
    inputs, last = tokens(model), torch.tensor([19])
    for logits in (fused_logits(model, inputs, last), reference(model, inputs, last)):
        found = gradients(model, logits)
        for block in range(3):
            assert float(found[f"blocks.{block}.attn.b_K"].abs().max()) < 1e-12
            assert float(found[f"blocks.{block}.attn.b_Q"].abs().max()) > 1e-6
