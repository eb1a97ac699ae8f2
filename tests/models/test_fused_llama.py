"""The fused forward on Llama-style models equals the hooked one: logits, gradients, edits, under vmap."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from mechft.errors import ConfigError
from mechft.models import fused, fused_blocks
from mechft.models.fused import (
    fused_activations,
    fused_embedding,
    fused_logits,
    fused_resume,
    unsupported_features,
)
from mechft.models.hook_points import resid_post
from mechft.models.llama_parts import rotary_tables
from tests.models.llamas import SHAPE, make_llama
from tests.models.test_fused import POSITIONS, gradients, reference, tokens

CLOSE: dict[str, Any] = {"rtol": 1e-10, "atol": 1e-12}


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("n_layers", [1, 3])
@pytest.mark.parametrize("where", POSITIONS)
@pytest.mark.parametrize("explicit", [True, False], ids=["explicit", "sdpa"])
def test_equals_the_hooked_forward(
    tied: bool, n_layers: int, where: str, explicit: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused_blocks, "EXPLICIT_LENGTH", 64 if explicit else 0)
    model = make_llama(shape=replace(SHAPE, tied=tied, n_layers=n_layers))
    inputs, positions = tokens(model), POSITIONS[where]
    slow = reference(model, inputs, positions)
    torch.testing.assert_close(fused_logits(model, inputs, positions), slow, **CLOSE)
    wanted = gradients(model, slow)
    found = gradients(model, fused_logits(model, inputs, positions))
    assert min(float(g.abs().max()) for g in wanted.values()) > 1e-4
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, wanted[name], **CLOSE, msg=name)


def test_float32() -> None:
    model = make_llama(torch.float32)
    inputs = tokens(model)
    torch.testing.assert_close(fused_logits(model, inputs), model(inputs), rtol=2e-5, atol=2e-5)


def test_activations_are_those_at_hooks() -> None:
    model = make_llama()
    inputs = tokens(model)
    names = [f"blocks.{block}.{point}" for block in range(3) for point in fused.EDITABLE]
    found = fused_activations(model, inputs, names)
    _, cache = model.run_with_cache(inputs)
    assert set(found) == set(names)
    for name in names:
        torch.testing.assert_close(found[name], cache[name], **CLOSE, msg=name)
    assert set(fused_activations(model, inputs, [resid_post(0)])) == {resid_post(0)}
    for name in ("blocks.3.hook_resid_post", "blocks.0.attn.hook_q", "hook_embed"):
        with pytest.raises(ConfigError, match="blocks 0 to 2"):
            fused_activations(model, inputs, [name])


@pytest.mark.parametrize("block", [0, 1, 2])
@pytest.mark.parametrize("point", fused.EDITABLE)
def test_edits_equal_hooks(block: int, point: str) -> None:
    model = make_llama()
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


@pytest.mark.parametrize("block", [0, 1, 2, 3])
@pytest.mark.parametrize("stage", ["pre", "mid"])
def test_resume_in_the_middle(block: int, stage: Any) -> None:
    model = make_llama()
    inputs, last = tokens(model), torch.tensor([19])
    logits, cache = model.run_with_cache(inputs)
    stage = "pre" if block == 3 else stage
    resid = cache[resid_post(2)] if block == 3 else cache[f"blocks.{block}.hook_resid_{stage}"]
    for positions in (None, last):
        found = fused_resume(model, resid, positions, block=block, stage=stage)
        wanted: Any = logits
        wanted = wanted if positions is None else wanted[:, last]
        torch.testing.assert_close(found, wanted, **CLOSE)


@pytest.mark.parametrize("where", ["all", "some"])
def test_members_of_an_ensemble(where: str) -> None:
    """Under vmap and functional_call each member gets its own logits and gradients, tied matrix included."""
    members = [make_llama(seed=seed) for seed in (0, 5)]
    inputs = torch.stack([tokens(members[0]), tokens(members[0]).flip(1)])
    stacked = {
        name: torch.stack([m.get_parameter(name).detach() for m in members]).requires_grad_()
        for name, _ in members[0].named_parameters()
    }
    asked = POSITIONS[where]

    class Forward(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = members[0]

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return fused_logits(self.model, rows, asked)

    forward = Forward()

    def one(parameters: dict[str, torch.Tensor], rows: torch.Tensor) -> torch.Tensor:
        lent = {f"model.{name}": value for name, value in parameters.items()}
        logits: torch.Tensor = torch.func.functional_call(forward, lent, (rows,))
        return logits

    with sdpa_kernel(
        SDPBackend.MATH
    ):  # as ensembles do on the CPU, whose flash kernel cannot be mapped
        found = torch.func.vmap(one)(stacked, inputs)
    found_gradients = torch.autograd.grad(found.square().sum(), list(stacked.values()))
    for i, member in enumerate(members):
        alone = reference(member, inputs[i], asked)
        torch.testing.assert_close(found[i], alone, **CLOSE)
        alone.square().sum().backward()  # type: ignore[no-untyped-call]
        for name, gradient in zip(stacked, found_gradients, strict=True):
            torch.testing.assert_close(
                gradient[i], member.get_parameter(name).grad, rtol=1e-9, atol=1e-10, msg=name
            )


def test_under_autocast_it_is_the_same_up_to_bfloat16() -> None:
    model = make_llama(torch.float32, scale=0.2)
    inputs = tokens(model)
    exact = fused_logits(model, inputs)
    with torch.autocast("cpu", torch.bfloat16):
        rough = fused_logits(model, inputs)
    assert rough.dtype == torch.bfloat16
    assert (
        0 < float((rough - exact).detach().abs().max()) < 0.05 * float(exact.detach().abs().max())
    )


def test_rotary_angles_by_hand() -> None:
    """Position p turns pair j by p × base^(−2j / d_head), and the two halves of a head are the pairs."""
    cosines, sines = rotary_tables(6, 4, 100.0)
    assert cosines.shape == sines.shape == (6, 4)
    angles = torch.tensor([[p * 1.0, p * 0.1, p * 1.0, p * 0.1] for p in range(6)])
    torch.testing.assert_close(cosines, angles.cos())
    torch.testing.assert_close(sines, angles.sin())


def test_logits_depend_on_distances_only() -> None:
    """Rotary positions: the same text later in the context attends as it did."""
    model = make_llama(shape=replace(SHAPE, n_layers=1))
    inputs = tokens(model)[:, :8]
    shifted = fused_embedding(model, inputs)
    attn: Any = model.blocks[0].attn
    plain = fused_resume(model, shifted)
    attn.rotary_cos = attn.rotary_cos.roll(-5, 0)
    attn.rotary_sin = attn.rotary_sin.roll(-5, 0)
    torch.testing.assert_close(fused_resume(model, shifted), plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("rotary_adjacent_pairs", True),
        ("rotary_dim", 4),
        ("use_yarn_rope", True),
        ("n_key_value_heads", 1),
        ("normalization_type", "LN"),
        ("attention_dir", "bidirectional"),
        ("act_fn", "gelu"),
    ],
)
def test_other_llamas_are_refused(setting: str, value: Any) -> None:
    model = make_llama()
    assert unsupported_features(model) == []
    setattr(model.cfg, setting, value)
    assert unsupported_features(model) == [f"{setting}={value!r}"]
    with pytest.raises(ConfigError, match=f"this one has {setting}="):
        fused_logits(model, tokens(model))


def test_biases_are_refused_not_left_out() -> None:
    model = make_llama()
    attn: Any = model.blocks[1].attn
    del attn.b_O
    attn.b_O = torch.nn.Parameter(torch.ones(12, dtype=torch.float64))
    assert unsupported_features(model) == ["biases=True"]
