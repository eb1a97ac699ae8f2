"""Models are what their config says, the same for the same seed, and copies are independent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from mechft.errors import ConfigError, UnknownNameError
from mechft.models import build
from mechft.models.build import ModelConfig, build_model, clone, model_config
from mechft.models.hook_points import check_heads, check_hook_points

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformer_lens import HookedTransformer


@pytest.mark.parametrize(("name", "millions"), [("tiny", 0.6), ("small", 1.3), ("paper", 2.8)])
def test_preset_sizes(name: str, millions: float) -> None:
    model = build_model(build.preset(name, 274, 258))
    size = sum(p.numel() for p in model.parameters()) / 1e6
    assert size == pytest.approx(millions, abs=0.15)


def test_initial_weights_follow_mingpt() -> None:
    config = ModelConfig(4, 4, 64, 50, 30)
    model = build_model(config, seed=3)
    for name, p in model.named_parameters():
        kind = name.split(".")[-1]
        if kind in ("W_O", "W_out"):
            assert float(p.detach().std()) == pytest.approx(0.02 / 8**0.5, rel=0.05)
        elif kind.startswith("W_"):
            assert float(p.detach().std()) == pytest.approx(0.02, rel=0.06)
        else:
            assert torch.equal(p, torch.full_like(p, float(kind == "w")))
    assert model_config(model) == config


def test_seeds() -> None:
    config = ModelConfig(1, 2, 8, 10, 6)
    one, same, other = (build_model(config, seed) for seed in (0, 0, 1))
    assert torch.equal(one.W_E, same.W_E)
    assert not torch.equal(one.W_E, other.W_E)


def test_clone_is_independent(make_model: Callable[..., HookedTransformer]) -> None:
    model = make_model()
    twin = clone(model)
    with torch.no_grad():
        twin.W_E.add_(1)
    assert not torch.equal(model.W_E, twin.W_E)
    assert torch.equal(model.W_U, twin.W_U)


@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
@pytest.mark.parametrize("normalization", ["LN", "none"])
def test_other_shapes(attention: Any, normalization: Any) -> None:
    """Heads and outputs of their own sizes; what a position sees; whether the stream's scale matters."""
    config = ModelConfig(
        2, 3, 8, 10, 6, d_mlp=5, d_head=7, d_vocab_out=4, activation="relu",
        normalization=normalization, attention=attention, initializer_range=0.5,
    )  # fmt: skip
    model = build_model(config)
    assert model_config(model) == config
    assert model.W_Q.shape == (2, 3, 8, 7) and model.W_U.shape == (8, 4)
    tokens = torch.tensor([[1, 2, 3, 4], [1, 2, 3, 5]])
    with torch.no_grad():
        output, cache = model.run_with_cache(tokens)
        logits: Any = output
        norm: Any = getattr(
            model, "ln_final", torch.nn.Identity()
        )  # without LayerNorm there is none
        doubled = model.unembed(norm(2 * cache["blocks.1.hook_resid_post"]))
    assert logits.shape == (2, 4, 4)
    assert torch.equal(logits[0, 0], logits[1, 0]) == (attention == "causal")
    assert bool((cache["blocks.0.mlp.hook_post"] >= 0).all())
    # A LayerNorm before the unembedding undoes the scale; without one the logits have it.
    expected = logits if normalization == "LN" else 2 * logits
    torch.testing.assert_close(doubled, expected, atol=1e-3, rtol=1e-3)


def test_defaults_follow_from_the_sizes() -> None:
    config = ModelConfig(1, 2, 8, 10, 6)
    assert config == ModelConfig(1, 2, 8, 10, 6, d_mlp=32, d_head=4, d_vocab_out=10)
    assert ModelConfig(1, 3, 8, 10, 6, d_head=5).d_head == 5  # need not divide the width


def test_bad_shapes_and_names(make_model: Callable[..., HookedTransformer]) -> None:
    with pytest.raises(ConfigError, match="3 heads for width 8"):
        ModelConfig(1, 3, 8, 10, 6)
    with pytest.raises(ConfigError, match="n_layers must be at least 1"):
        ModelConfig(0, 2, 8, 10, 6)
    with pytest.raises(ConfigError, match="activation is one of gelu, relu; got 'silu'"):
        ModelConfig(1, 2, 8, 10, 6, activation="silu")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="d_head must be at least 1; got -1"):
        ModelConfig(1, 2, 8, 10, 6, d_head=-1)
    with pytest.raises(UnknownNameError, match="Did you mean 'paper'"):
        build.preset("papers", 10, 10)
    model = make_model()
    with pytest.raises(UnknownNameError, match=r"Did you mean 'blocks\.1\.hook_resid_post'"):
        check_hook_points(model, ["blocks.1.hook_resid_pst"])
    with pytest.raises(ConfigError, match=r"head in 0\.\.1; got \(0, 2\)"):
        check_heads(model, [(0, 2)])
