"""Weight differences: by hand for known matrices, exact zeros for twins, the same for every kind of model."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from mechft.analysis.spectrum import spectrum
from mechft.analysis.weight_diff import diff_weights, effective_rank
from mechft.analysis.weights import spectra
from mechft.analysis.weights.pairs import matrix, unmatrix
from mechft.analysis.weights.spectra import matrix_change, squared_norms
from mechft.errors import ConfigError, UnknownNameError
from mechft.models.build import ModelConfig, build_model, clone
from mechft.models.weights import all_weights, block_matrices
from mechft.tasks.pcfg import PCFGTask
from mechft.training.trained import Trained

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

MakeAny = Callable[..., "HookedTransformer"]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def edited(model: HookedTransformer, **changes: Tensor | float) -> HookedTransformer:
    """A copy with something added to weights, named with __ for dots."""
    twin = clone(model)
    weights = all_weights(twin)
    with torch.no_grad():
        for name, change in changes.items():
            weights[name.replace("__", ".")].tensor.add_(change)
    return twin


def test_twins_do_not_differ(make_any: MakeAny) -> None:
    model = make_any()
    found = diff_weights(model, clone(model))
    for frame in (found.frame, found.heads):
        assert (frame["change"] == 0).all()
        some = frame[frame["base_norm"] > 0]  # the bias of a bridge's unembedding is 0
        assert (some["relative_change"] == 0).all() and (some["cosine"] == 1).all()
        assert set(frame["rank"].dropna()) == {0}
        assert frame["share"].isna().all() and frame["effective_rank"].isna().all()
    assert (found.by_block()["change"] == 0).all()


def test_norms_are_the_same_without_spectra(make_any: MakeAny) -> None:
    whole, norms = (diff_weights(make_any(0), make_any(1), spectra=s) for s in (True, False))
    left_out = ["effective_rank", "rank", "top_k", "left_energy", "left_expected"]
    left_out += ["right_energy", "right_expected"]
    for one, two in ((whole.frame, norms.frame), (whole.heads, norms.heads)):
        assert list(one.columns) == list(two.columns) and two[left_out].isna().all(axis=None)
        pd.testing.assert_frame_equal(one.drop(columns=left_out), two.drop(columns=left_out))
        assert two["matrix"].tolist() == one["rank"].notna().tolist()
    pd.testing.assert_frame_equal(whole.by_block(), norms.by_block())


def test_norms_are_summed_in_parts() -> None:
    """More rows than a part has, and a stack of heads that does not lie in memory in its order."""
    for shape in ((1000, 3), (7,), (5, 200, 4)):
        before, after = normal(*shape), normal(*shape, seed=1)
        if len(shape) == 3:
            before = before.transpose(0, 1).contiguous().transpose(0, 1)
        sums = [(after - before).square(), before.square(), after.square(), before * after]
        assert squared_norms(before, after) == pytest.approx([float(s.sum()) for s in sums])


def test_a_known_edit_is_found_where_it_is(make_any: MakeAny) -> None:
    """A rank-one change by hand: norm, relative norm, cosine, rank, effective rank, share."""
    model = make_any()
    name = "blocks.1.mlp.W_in"
    before = block_matrices(model)[name].tensor.double()
    change = torch.zeros_like(before)
    change[:, 3] = 2.0  # one column of 16 twos: norm 2·√16
    other = edited(model, blocks__1__mlp__W_in=change.float())
    found = diff_weights(model, other, name="edited")
    frame = found.frame.set_index("parameter")
    row = frame.loc[name]
    after = before + change
    assert row["model"] == "edited" and row["block"] == 1 and row["component"] == "mlp.W_in"
    assert row["change"] == pytest.approx(8.0)
    assert row["relative_change"] == pytest.approx(8 / float(before.norm()))
    cosine = float((before * after).sum() / before.norm() / after.norm())
    assert row["cosine"] == pytest.approx(cosine)
    assert row["rank"] == 1  # although float32 rounding gives the stored change full rank
    assert row["effective_rank"] == pytest.approx(1, abs=1e-4)
    assert row["share"] == 1
    assert row["base_norm"] == pytest.approx(float(before.norm()))
    assert row["finetuned_norm"] == pytest.approx(float(after.norm()))
    assert (frame.drop(name)["change"] == 0).all()
    blocks = found.by_block().set_index("block")
    assert blocks["share"].to_dict() == {-1: 0, 0: 0, 1: 1}
    assert blocks.loc[1, "change"] == pytest.approx(8.0)
    parts = [
        float(w.tensor.double().square().sum()) for w in all_weights(model).values() if w.block == 1
    ]
    assert blocks.loc[1, "relative_change"] == pytest.approx(8 / math.sqrt(sum(parts)))
    components = found.by_component().set_index("component")
    assert components.loc["mlp.W_in", "size"] == 2 * before.numel()
    assert components.loc["mlp.W_in", "share"] == 1
    total = sum(p.numel() for p in {id(p): p for p in model.parameters()}.values())
    assert frame["size"].sum() <= total and frame["share_of_size"].sum() == pytest.approx(1)


def test_a_change_of_one_head(make_any: MakeAny) -> None:
    """It is in that head's row and no other, and moves the row of the whole stack as much."""
    model = make_any()
    for kind in ("W_Q", "W_K", "W_V", "W_O"):
        name = f"blocks.0.attn.{kind}"
        stack = block_matrices(model)[name].tensor
        change = torch.zeros_like(stack)
        change[1] = normal(*stack.shape[1:]).float()
        found = diff_weights(model, edited(model, **{name.replace(".", "__"): change}))
        rows = found.heads[found.heads["parameter"] == name].set_index("head")
        assert rows.loc[0, "change"] == 0 and len(rows) == len(stack)
        assert rows.loc[1, "share"] == pytest.approx(1)
        whole = found.frame.set_index("parameter").loc[name]
        assert whole["change"] == pytest.approx(rows.loc[1, "change"])
        # Laid as the model multiplies: one head's change has the rank of the head, at most d_head.
        assert whole["rank"] == rows.loc[1, "rank"] == min(stack.shape[1:])


@pytest.mark.parametrize("kind", ["W_Q", "W_O", "W_in"])
def test_matrices_are_what_the_model_multiplies_by(make_any: MakeAny, kind: str) -> None:
    model = make_any()
    part = "attn" if kind in ("W_Q", "W_O") else "mlp"
    stack = block_matrices(model)[f"blocks.0.{part}.{kind}"].tensor
    laid = matrix(stack, kind)
    torch.testing.assert_close(unmatrix(laid, stack, kind), stack, rtol=0, atol=0)
    x = normal(5, laid.shape[0]).float()
    if kind == "W_Q":
        expected = torch.einsum("bm,hmd->bhd", x, stack).flatten(1)
    elif kind == "W_O":
        expected = torch.einsum("bhd,hdm->bm", x.view(5, *stack.shape[:2]), stack)
    else:
        expected = x @ stack
    torch.testing.assert_close(x @ laid, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rows", [12, 3])
def test_a_change_along_the_strongest_direction(rows: int) -> None:
    """Base diag(3, 1, 1): the first direction holds 9 of 11, so 80% needs one and 90% two."""
    base = torch.zeros(rows, 5, dtype=torch.float64)
    base[0, 0], base[1, 1], base[2, 2] = 3, 1, 1
    along = torch.zeros_like(base)
    along[0, 0] = 0.1
    inside = matrix_change(base, base + along).directions(0.8)
    assert inside.k == 1
    assert [inside.left, inside.right] == pytest.approx([1, 1])
    assert (inside.expected_left, inside.expected_right) == (1 / rows, 1 / 5)
    reads = torch.zeros_like(base)
    reads[0, 3] = 0.1  # reads the strongest input, writes where the base writes nothing
    found = matrix_change(base, base + reads).directions(0.8)
    assert [found.left, found.right] == pytest.approx([1, 0])
    assert matrix_change(base, base + reads).directions(0.9).k == 2
    assert matrix_change(base, base + reads).directions(1.0).k == 3


@pytest.mark.parametrize("shape", [(40, 7), (7, 40), (20, 20)])
def test_directions_and_spectra_against_the_decomposition(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gathered in blocks of rows, everything equals what a full decomposition gives."""
    monkeypatch.setattr(spectra, "_ROWS", 6)
    base, change = normal(*shape), 0.1 * normal(*shape, seed=1)
    found = matrix_change(base, base + change)
    u, s, vt = torch.linalg.svd(base, full_matrices=False)
    torch.testing.assert_close(found.base_values(), s)
    torch.testing.assert_close(found.change_values(), torch.linalg.svdvals(change))
    directions = found.directions(0.7)
    k = directions.k
    energy = s.square().cumsum(0) / s.square().sum()
    assert energy[k - 1] >= 0.7 > (energy[k - 2] if k > 1 else 0)
    total = change.square().sum()
    assert directions.left == pytest.approx(float((u[:, :k].T @ change).square().sum() / total))
    assert directions.right == pytest.approx(float((change @ vt[:k].T).square().sum() / total))
    assert found.squared_change == pytest.approx(float(total))
    assert found.inner == pytest.approx(float((base * (base + change)).sum()))


def test_a_random_change_has_the_expected_energy() -> None:
    base, draws = normal(30, 50), []
    for seed in range(200):
        found = matrix_change(base, base + normal(30, 50, seed=seed + 1)).directions(0.5)
        draws.append([found.left, found.right])
    mean = torch.tensor(draws).mean(0).tolist()
    assert mean == pytest.approx([found.expected_left, found.expected_right], rel=0.02)


@pytest.mark.parametrize("rank", [1, 3])
def test_the_rank_of_an_edit_survives_rounding(rank: int) -> None:
    """Stored in half precision an edit of rank r has full rank; counted past rounding it has rank r."""
    base = normal(30, 40)
    for dtype in (torch.float32, torch.bfloat16):
        before = base.to(dtype)
        edit = 2 * normal(30, rank, seed=1) @ normal(rank, 40, seed=2)
        after = (before.double() + edit).to(dtype)
        found = matrix_change(before, after)
        values = found.change_values()
        assert int((values > found.tolerance(float(values[0]))).sum()) == rank
        assert int((values > 1e-12).sum()) == 30


def test_effective_rank() -> None:
    assert effective_rank(torch.eye(7)) == pytest.approx(7)
    assert effective_rank(torch.diag(torch.tensor([1.0, 1.0, 0.0]))) == pytest.approx(2)
    assert effective_rank(torch.ones(3, 4)) == pytest.approx(1, abs=1e-4)
    assert effective_rank(torch.eye(4).reshape(2, 2, 4)) == pytest.approx(
        effective_rank(torch.eye(4).reshape(2, 2, 4).transpose(0, 1).flatten(1))
    )
    assert math.isnan(effective_rank(torch.ones(3))) and math.isnan(
        effective_rank(torch.zeros(2, 2))
    )


def test_spectrum(make_any: MakeAny) -> None:
    model = make_any()
    other = edited(model, blocks__0__attn__W_O=0.5)
    frame = spectrum(model, other, name="ft").frame
    assert set(frame["parameter"]) == set(block_matrices(model))
    part = frame[(frame["parameter"] == "blocks.0.attn.W_O") & (frame["of"] == "change")]
    stack = block_matrices(model)["blocks.0.attn.W_O"].tensor
    side = stack.flatten(0, 1).shape
    assert part["index"].tolist() == list(range(1, min(side) + 1))
    assert part["value"].iloc[0] == pytest.approx(0.5 * math.sqrt(side[0] * side[1]), rel=1e-5)
    assert part["value"].iloc[1:].max() < 1e-5 and part["energy"].iloc[0] == pytest.approx(1)
    twin = frame[(frame["parameter"] == "blocks.1.mlp.W_in") & (frame["of"] == "change")]
    assert (twin["value"] == 0).all() and twin["energy"].isna().all()
    base = frame[(frame["parameter"] == "blocks.0.attn.W_O") & (frame["of"] == "base")]["value"]
    expected = torch.linalg.svdvals(stack.double().flatten(0, 1))
    assert base.tolist() == pytest.approx(expected.tolist(), rel=1e-6)
    one = spectrum(model, other, parameters=["blocks.1.mlp.W_out"]).frame
    assert set(one["parameter"]) == {"blocks.1.mlp.W_out"}
    with pytest.raises(UnknownNameError, match=r"Unknown matrix .*blocks.1.mlp.W_out"):
        spectrum(model, other, parameters=["blocks.1.mlp.W_outt"])


def test_half_precision_is_exact(make_model: Callable[..., HookedTransformer]) -> None:
    """Half precision is converted, not computed in: the same numbers as from its float64 copy."""
    model = make_model(dtype=torch.bfloat16)
    other = edited(model, blocks__0__mlp__W_out=0.25)
    half = diff_weights(model, other).frame
    double = diff_weights(clone(model).double(), clone(other).double()).frame
    for column in ("change", "relative_change", "cosine", "effective_rank"):
        assert half[column].dropna().tolist() == pytest.approx(double[column].dropna().tolist())


def test_nothing_is_changed(make_any: MakeAny) -> None:
    model = make_any()
    other = edited(model, blocks__0__attn__W_Q=0.1)
    kept = [[w.tensor.clone() for w in all_weights(m).values()] for m in (model, other)]
    diff_weights(model, other)
    spectrum(model, other)
    for m, before in zip((model, other), kept, strict=True):
        assert all(
            torch.equal(w.tensor, b) for w, b in zip(all_weights(m).values(), before, strict=True)
        )


def test_models_of_other_shapes(trained: Trained, task: PCFGTask) -> None:
    other = build_model(ModelConfig(2, 2, 8, len(task.vocabulary), task.sample_length - 1))
    with pytest.raises(
        ConfigError, match=r"need the same shape; they differ in embed\.W_E: \[36, 16\]"
    ):
        diff_weights(trained.model, other)
    deeper = build_model(ModelConfig(3, 2, 16, len(task.vocabulary), task.sample_length - 1))
    with pytest.raises(ConfigError, match=r"blocks\.2\.\S+: only the other has it"):
        diff_weights(trained, deeper)


def test_models_of_other_kinds(trained: Trained, make_bridge: MakeAny) -> None:
    with pytest.raises(ConfigError, match=r"one kind.*HookedTransformer and TransformerBridge"):
        diff_weights(trained.model, make_bridge("gpt2"))
    with pytest.raises(ConfigError, match=r"they differ in blocks\.0\.attn\.W_Q"):
        diff_weights(make_bridge("llama"), make_bridge("gpt2"))


@pytest.mark.parametrize("energy", [0, 1.5])
def test_bad_input(make_any: MakeAny, energy: Any) -> None:
    model = make_any()
    with pytest.raises(ConfigError, match="energy is a share"):
        diff_weights(model, model, energy=energy)
    broken = edited(model, blocks__1__attn__W_V=math.nan)
    with pytest.raises(
        ConfigError, match=r"blocks\.1\.attn\.W_V of the fine-tuned model .*not finite"
    ):
        diff_weights(model, broken)
