"""Canonical weights: the same names and layout in every model, memory shared, gradients mapped."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from mechft.errors import ConfigError
from mechft.models.build import clone
from mechft.models.hook_points import as_model
from mechft.models.weights import all_weights, block_matrices
from mechft.randomness import preserved_random_state

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

MakeAny = Callable[..., "HookedTransformer"]


def tokens() -> Tensor:
    return torch.randint(10, (4, 7), generator=torch.Generator().manual_seed(0))


def test_layout(make_any: MakeAny) -> None:
    """Z @ W_O is what attention adds, up to its bias: the canonical layout, checked on activations."""
    model = make_any()
    cfg = model.cfg
    found = block_matrices(model)
    gated = "blocks.0.mlp.W_gate" in found
    assert len(found) == cfg.n_layers * (7 if gated else 6)
    for name, weight in found.items():
        assert name == f"blocks.{weight.block}.{weight.component}"
        if weight.kind == "W_Q":
            assert weight.tensor.shape == (cfg.n_heads, cfg.d_model, cfg.d_head)
    _, cache = model.run_with_cache(tokens())
    z, out = cache["blocks.1.attn.hook_z"], cache["blocks.1.hook_attn_out"]
    written = torch.einsum("bphd,hdm->bpm", z, found["blocks.1.attn.W_O"].tensor)
    bias = (out - written)[0, 0]
    torch.testing.assert_close(out, written + bias, rtol=1e-4, atol=1e-5)
    hidden, out = cache["blocks.1.mlp.hook_post"], cache["blocks.1.hook_mlp_out"]
    written = hidden @ found["blocks.1.mlp.W_out"].tensor
    torch.testing.assert_close(out, written + (out - written)[0, 0], rtol=1e-4, atol=1e-5)


def test_writing_changes_the_model_and_gradients_fit(make_any: MakeAny) -> None:
    """The gradient, in canonical layout, predicts the change of the loss when the view is written to."""
    model = make_any().to(torch.float64)
    draws = torch.Generator().manual_seed(1)
    found = block_matrices(model)
    loss = model(tokens()).square().mean()
    gradients = torch.autograd.grad(loss, [w.parameter for w in found.values()])
    for weight, gradient in zip(found.values(), gradients, strict=True):
        step = 1e-3 * torch.randn(weight.tensor.shape, generator=draws, dtype=torch.float64)
        losses = []
        for sign in (1, -2, 1):
            with torch.no_grad():
                weight.tensor.add_(sign * step)
                losses.append(float(model(tokens()).square().mean()))
        predicted = float((weight.gradient(gradient) * step).sum())
        # Llama's RMSNorm computes in float32 whatever the weights are.
        assert (losses[0] - losses[1]) / 2 == pytest.approx(predicted, rel=1e-2, abs=1e-7)
        assert losses[2] == pytest.approx(float(loss.detach()), rel=1e-6)


def test_every_parameter_once(make_any: MakeAny) -> None:
    model = make_any()
    weights = all_weights(model)
    before = model(tokens())
    for weight in weights.values():
        with torch.no_grad():
            weight.tensor.zero_()
    assert not torch.equal(before, model(tokens()))
    for name, parameter in model.named_parameters():
        assert not parameter.any(), f"{name} was not reached"
    extents = [w.parameter.data_ptr() for w in weights.values()]
    assert len(set(extents)) == len(extents)


def test_a_clone_is_independent(make_any: MakeAny) -> None:
    model = make_any()
    model(tokens()).sum().backward()
    twin = clone(model)
    torch.testing.assert_close(twin(tokens()), model(tokens()), rtol=0, atol=0)
    before = model(tokens())
    with torch.no_grad():
        for weight in all_weights(twin).values():
            weight.tensor.mul_(2)
    torch.testing.assert_close(model(tokens()), before, rtol=0, atol=0)


def test_what_is_not_a_model() -> None:
    with pytest.raises(ConfigError, match=r"got Linear.*boot_transformers"):
        as_model(torch.nn.Linear(2, 2))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="has no blocks"):
        block_matrices(torch.nn.Linear(2, 2))  # type: ignore[arg-type]


def test_grouped_keys_of_a_hooked_transformer() -> None:
    """Its W_K is a repeated copy; what is shown and written to is the parameter behind it."""
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    with warnings.catch_warnings(), preserved_random_state():
        warnings.simplefilter("ignore")
        model = HookedTransformer(
            HookedTransformerConfig(
                n_layers=1, n_heads=4, n_key_value_heads=2, d_model=16, d_head=4, d_mlp=32, d_vocab=11,
                n_ctx=8, act_fn="gelu", seed=0, device="cpu",
            )
        )  # fmt: skip
    weight = block_matrices(model)["blocks.0.attn.W_K"]
    assert weight.tensor.shape == (2, 16, 4)
    assert len(all_weights(model)) == len(list(model.named_parameters()))
    before = model(tokens() % 11)
    with torch.no_grad():
        weight.tensor.mul_(3)
    assert not torch.equal(model(tokens() % 11), before)


def test_dropout_is_refused(make_bridge: MakeAny) -> None:
    """With dropout every forward differs, so a model against itself would look changed."""
    bridge = make_bridge("gpt2")
    as_model(bridge)
    bridge.train()
    with pytest.raises(ConfigError, match=r"training mode and has dropout.*model\.eval\(\)"):
        as_model(bridge)
    as_model(bridge.eval())
