"""Units: each kind splits the weights it covers into disjoint groups, the same in every model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from mechft.analysis.units.layout import UNIT_KINDS, UnitLayout, unit_layout
from mechft.errors import ConfigError, UnknownNameError
from mechft.models.weights import block_matrices

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

MakeAny = Callable[..., "HookedTransformer"]


@pytest.mark.parametrize("unit", UNIT_KINDS)
def test_every_weight_lies_in_one_unit(make_any: MakeAny, unit: str) -> None:
    """Totals of ones count weights: they add up to all that the kind covers, equally for each unit."""
    model = make_any()
    layout = unit_layout(model, unit)
    ones = {name: torch.ones(w.tensor.shape) for name, w in block_matrices(model).items()}
    covered = {name for matrices in layout.members.values() for name in matrices}
    counts = layout.totals(ones)
    assert sum(int(c.sum()) for c in counts.values()) == sum(ones[n].numel() for n in covered)
    assert all(len(set(c.tolist())) == 1 for c in counts.values())
    assert {g: len(c) for g, c in counts.items()} == layout.sizes
    parts = {name: name.split(".")[2] for name in ones}
    missing = {name for name in ones if name not in covered}
    if unit == "head":  # keys and values that several query heads share belong to none of them
        shared = model.cfg.n_heads != ones["blocks.0.attn.W_K"].shape[0]
        gone = {n for n in ones if parts[n] == "mlp" or (shared and n[-3:] in ("W_K", "W_V"))}
        assert missing == gone and len(layout) == model.cfg.n_layers * model.cfg.n_heads
    elif unit == "mlp_neuron":
        assert missing == {name for name in ones if parts[name] == "attn"}
        assert len(layout) == model.cfg.n_layers * int(model.cfg.d_mlp or 0)
    else:
        assert not missing


@pytest.mark.parametrize("unit", UNIT_KINDS)
def test_totals_and_spread_are_adjoint(make_any: MakeAny, unit: str) -> None:
    """⟨totals(X), y⟩ = ⟨X, spread(y)⟩: both speak of the same weights for the same unit."""
    layout = unit_layout(make_any(), unit)
    draws = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draws, dtype=torch.float64)

    x = {name: drawn(*shape) for name, shape in layout.shapes.items()}
    y = {group: drawn(size) for group, size in layout.sizes.items()}
    left = sum(float((total * y[g]).sum()) for g, total in layout.totals(x).items())
    spread = {n: s for g in y for n, s in layout.spread(g, y[g]).items()}
    assert left == pytest.approx(sum(float((x[n] * s).sum()) for n, s in spread.items()))


def test_numbering(make_any: MakeAny) -> None:
    """Query channel d of head h is neuron h × d_head + d; a head is one slice of each of its matrices."""
    model = make_any()
    weights = {name: w.tensor for name, w in block_matrices(model).items()}
    query, head, width = weights["blocks.1.attn.W_Q"], 1, model.cfg.d_head
    neurons = unit_layout(model).totals(weights)
    torch.testing.assert_close(
        neurons["blocks.1.attn.W_Q"][head * width + 3], query[head, :, 3].sum()
    )
    torch.testing.assert_close(
        neurons["blocks.1.mlp.W_out"][5], weights["blocks.1.mlp.W_out"][:, 5].sum()
    )
    columns = unit_layout(model, "column").totals(weights)
    torch.testing.assert_close(columns["blocks.1.attn.W_Q"][3], query[:, 3].sum())
    torch.testing.assert_close(
        columns["blocks.1.attn.W_O"][head * width + 3], weights["blocks.1.attn.W_O"][head, 3].sum()
    )
    heads = unit_layout(model, "head").totals(weights)
    kinds = ["W_Q", "W_O"]
    if weights["blocks.1.attn.W_K"].shape[0] == model.cfg.n_heads:
        kinds += ["W_K", "W_V"]
    expected = sum(float(weights[f"blocks.1.attn.{kind}"][head].sum()) for kind in kinds)
    assert float(heads["blocks.1.attn"][head]) == pytest.approx(expected, rel=1e-4)
    hidden = unit_layout(model, "mlp_neuron").totals(weights)["blocks.1.mlp"][7]
    mlp = {kind: weights.get(f"blocks.1.mlp.{kind}") for kind in ("W_in", "W_gate", "W_out")}
    assert mlp["W_in"] is not None and mlp["W_out"] is not None
    total = mlp["W_in"][:, 7].sum() + mlp["W_out"][7].sum()
    if mlp["W_gate"] is not None:
        total = total + mlp["W_gate"][:, 7].sum()
    torch.testing.assert_close(hidden, total)


def test_numbering_of_a_hooked_transformer_is_the_papers(
    make_model: Callable[..., HookedTransformer],
) -> None:
    """Groups come in the order of named_parameters, which random orders and ties have always followed."""
    model = make_model()
    known = [n for n, _ in model.named_parameters() if ".W_" in n and n.startswith("blocks.")]
    assert list(unit_layout(model).sizes) == known


def test_what_is_refused(make_model: Callable[..., HookedTransformer]) -> None:
    layout = unit_layout(make_model())
    with pytest.raises(UnknownNameError, match=r"Unknown kind of unit 'neurons'.*'neuron'"):
        unit_layout(make_model(), "neurons")
    with pytest.raises(ConfigError, match=r"one kind of unit; got 'neuron' and 'column'"):
        layout.check_same(unit_layout(make_model(), "column"))
    other = UnitLayout("neuron", {n: (*s[:-1], 3) for n, s in layout.shapes.items()})
    with pytest.raises(ConfigError, match=r"different models \(first difference: blocks\.0\.attn"):
        layout.check_same(other)
