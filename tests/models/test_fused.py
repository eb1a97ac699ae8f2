"""The fused forward equals the hooked one: logits, every gradient, any positions; and is causal."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mechft.errors import ConfigError
from mechft.models import fused, fused_blocks
from mechft.models.fused import fused_logits, unsupported_features
from mechft.models.hook_points import resid_post

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

MakeModel = Callable[..., "HookedTransformer"]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5}
POSITIONS = {
    "all": None,
    "last": torch.tensor([19]),
    "some": torch.tensor([3, 0, 11]),
    "per row": torch.tensor([[0, 5], [19, 2], [7, 7]]),
}


def tokens(model: HookedTransformer) -> Tensor:
    draws = torch.Generator().manual_seed(0)
    return torch.randint(int(model.cfg.d_vocab), (3, 20), generator=draws)


def reference(model: HookedTransformer, inputs: Tensor, positions: Tensor | None) -> Tensor:
    logits: Tensor = model(inputs)
    if positions is None:
        return logits
    rows = torch.arange(len(inputs))[:, None]
    return logits[rows, positions.expand(len(inputs), -1)]


def gradients(model: HookedTransformer, logits: Tensor) -> dict[str, Tensor]:
    model.zero_grad(set_to_none=True)
    target = torch.arange(logits[..., 0].numel()) % logits.shape[-1]
    F.cross_entropy(logits.flatten(0, 1), target).backward()  # type: ignore[no-untyped-call]
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for name, p in model.named_parameters()
    }


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("where", POSITIONS)
@pytest.mark.parametrize("explicit", [True, False], ids=["explicit", "sdpa"])
def test_equals_the_hooked_forward(
    make_model: MakeModel,
    monkeypatch: pytest.MonkeyPatch,
    dtype: torch.dtype,
    where: str,
    explicit: bool,
) -> None:
    monkeypatch.setattr(fused_blocks, "EXPLICIT_LENGTH", 64 if explicit else 0)
    model = make_model(dtype=dtype)
    inputs, positions = tokens(model), POSITIONS[where]
    fast = fused_logits(model, inputs, positions)
    slow = reference(model, inputs, positions)
    close: dict[str, Any] = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    torch.testing.assert_close(fast, slow, **close)
    slow_gradients = gradients(model, slow)
    for name, gradient in gradients(model, fused_logits(model, inputs, positions)).items():
        torch.testing.assert_close(gradient, slow_gradients[name], **close, msg=name)


@pytest.mark.parametrize("where", ["all", "some"])
def test_causal(make_model: MakeModel, where: str) -> None:
    """Logits do not change with later tokens."""
    model = make_model(dtype=torch.float64)
    inputs, positions = tokens(model), POSITIONS[where]
    changed = inputs.clone()
    changed[:, 12:] = (changed[:, 12:] + 1) % int(model.cfg.d_vocab)
    kept = slice(0, 12) if positions is None else slice(None)
    assert torch.equal(
        fused_logits(model, inputs, positions)[:, kept],
        fused_logits(model, changed, positions)[:, kept],
    )


def test_tokens_after_the_last_position_may_exceed_the_context(make_model: MakeModel) -> None:
    model = make_model()
    inputs = tokens(model)
    longer = torch.cat([inputs, inputs], 1)
    asked = torch.tensor([4])
    torch.testing.assert_close(
        fused_logits(model, longer, asked), fused_logits(model, inputs, asked)
    )
    with pytest.raises(ConfigError, match="at most n_ctx = 20 tokens; got 40"):
        fused_logits(model, longer)


def test_attached_hooks_are_refused_not_skipped(make_model: MakeModel) -> None:
    model = make_model()
    hook = (resid_post(0), lambda value, hook: value * 0)
    with model.hooks(fwd_hooks=[hook]), pytest.raises(ConfigError, match="runs no hooks"):
        fused_logits(model, tokens(model))
    fused_logits(model, tokens(model))  # the hook is gone


def test_other_architectures_are_refused() -> None:
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    shape: dict[str, Any] = {
        "n_layers": 1,
        "d_model": 8,
        "n_ctx": 4,
        "d_head": 4,
        "n_heads": 2,
        "d_vocab": 5,
    }
    cfg = HookedTransformerConfig(
        **shape, act_fn="silu", normalization_type="RMS", positional_embedding_type="rotary"
    )
    model = HookedTransformer(cfg)
    assert len(unsupported_features(model)) == 3
    with pytest.raises(ConfigError, match="normalization_type='RMS', act_fn='silu'"):
        fused_logits(model, torch.zeros(1, 2, dtype=torch.long))


def test_soft_caps_and_other_classes_are_refused(make_model: MakeModel) -> None:
    model = make_model()
    model.cfg.attn_scores_soft_cap = 2.0
    assert unsupported_features(model) == ["attn_scores_soft_cap=2.0"]
    other: Any = torch.nn.Linear(2, 2)
    assert unsupported_features(other) == ["class=Linear"]


@pytest.mark.parametrize(
    "positions", [torch.tensor([20]), torch.tensor([-1]), torch.tensor([], dtype=torch.long)]
)
def test_positions_outside(make_model: MakeModel, positions: Tensor) -> None:
    model = make_model()
    with pytest.raises(ConfigError, match=r"positions lie in 0\.\.19"):
        fused_logits(model, tokens(model), positions)


@pytest.mark.parametrize("point", fused.EDITABLE)
@pytest.mark.parametrize("block", [0, 1])
def test_edits_equal_hooks(make_model: MakeModel, point: str, block: int) -> None:
    """Changing a value on the way gives what a hook at that point gives, at the asked position too."""
    model = make_model(dtype=torch.float64)
    inputs, name = tokens(model), f"blocks.{block}.{point}"
    with model.hooks(fwd_hooks=[(name, lambda value, hook: value.flip(-1) * 0.5)]):
        slow = model(inputs)
    for positions in (None, torch.tensor([19]), torch.tensor([3, 19])):
        fast = fused.fused_resume(
            model,
            fused.fused_embedding(model, inputs),
            positions,
            edits={name: lambda value, at: value.flip(-1) * 0.5},
        )
        wanted = slow if positions is None else slow[:, positions]
        torch.testing.assert_close(fast, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("block", [0, 1, 2])
@pytest.mark.parametrize("stage", ["pre", "mid"])
def test_resume_in_the_middle(make_model: MakeModel, block: int, stage: Any) -> None:
    model = make_model(dtype=torch.float64)
    inputs, last = tokens(model), torch.tensor([19])
    logits, cache = model.run_with_cache(inputs)
    if block == 2:
        resid = cache[resid_post(1)]
        stage = "pre"
    else:
        resid = cache[f"blocks.{block}.hook_resid_{stage}"]
    for positions in (None, last):
        found = fused.fused_resume(model, resid, positions, block=block, stage=stage)
        wanted: Any = logits
        wanted = wanted if positions is None else wanted[:, last]
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def test_edits_that_are_not_passed(make_model: MakeModel) -> None:
    model = make_model()
    resid = fused.fused_embedding(model, tokens(model))
    for name in ("blocks.1.attn.hook_z", "blocks.0.hook_mlp_out", "blocks.2.attn.hook_z", "hook_x"):
        with pytest.raises(ConfigError, match=f"does not pass {name}"):
            fused.fused_resume(model, resid, block=1, stage="mid", edits={name: lambda v, at: v})
