"""Differences: none between twins, by hand for a known edit; CKA ignores rotation and scale."""

from __future__ import annotations

import pytest
import torch

from mechft.analysis.activation_diff import diff_activations, linear_cka
from mechft.analysis.weight_diff import diff_weights, effective_rank
from mechft.errors import ConfigError
from mechft.models.build import ModelConfig, build_model, clone
from mechft.randomness import generator
from mechft.training.trained import Trained


def test_twins_do_not_differ(trained: Trained) -> None:
    twin = clone(trained.model)
    batch = trained.task.query("C", "a").sample(30, generator(0))
    assert (diff_weights(trained.model, twin).frame["change"] == 0).all()
    frame = diff_activations(trained.model, twin, batch).frame
    assert (frame["relative_change"] == 0).all()
    assert frame["cka"].tolist() == pytest.approx([1] * len(frame))


def test_a_known_edit_is_found_where_it_is(trained: Trained) -> None:
    model, edited = trained.model, clone(trained.model)
    with torch.no_grad():
        edited.blocks[1].mlp.W_in[:, 3] += 2.0  # a rank-one change of norm 2·√16
    frame = diff_weights(model, edited).frame.set_index("parameter")
    row = frame.loc["blocks.1.mlp.W_in"]
    assert row["change"] == pytest.approx(8.0)
    assert row["relative_change"] == pytest.approx(
        8 / float(model.blocks[1].mlp.W_in.detach().norm())
    )
    assert row["effective_rank"] == pytest.approx(1, abs=1e-6)
    assert (frame.drop("blocks.1.mlp.W_in")["change"] == 0).all()
    batch = trained.task.query("C", "a").sample(50, generator(1))
    sites = diff_activations(model, edited, batch).frame.set_index("hook")
    assert sites.loc["blocks.1.hook_attn_out", "relative_change"] == 0
    assert sites.loc["blocks.1.hook_mlp_out", "relative_change"] > 0


def test_activation_change_by_hand(trained: Trained) -> None:
    model, edited = trained.model, clone(trained.model)
    with torch.no_grad():
        edited.get_parameter("blocks.1.mlp.b_out").add_(1.0)
    batch = trained.task.query("C", "a").sample(50, generator(2))
    _, cache = model.run_with_cache(batch.prompt)
    norms = cache["blocks.1.hook_resid_post"][:, -1].norm(dim=1)
    frame = diff_activations(model, edited, batch, hook_names=["blocks.1.hook_resid_post"]).frame
    assert frame["relative_change"].item() == pytest.approx(4 / float(norms.mean()), rel=1e-4)


def test_cka_is_one_under_rotation_and_scale() -> None:
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(200, 12, generator=draws, dtype=torch.float64)
    rotation, _ = torch.linalg.qr(torch.randn(12, 12, generator=draws, dtype=torch.float64))
    noise = torch.randn(200, 12, generator=draws, dtype=torch.float64)
    assert linear_cka(x, 3 * x @ rotation + 5) == pytest.approx(1)
    assert linear_cka(x, noise) < 0.2


def test_effective_rank() -> None:
    assert effective_rank(torch.eye(7)) == pytest.approx(7)
    assert effective_rank(torch.diag(torch.tensor([1.0, 1.0, 0.0]))) == pytest.approx(2)
    assert effective_rank(torch.ones(3, 4)) == pytest.approx(1, abs=1e-4)


def test_models_of_other_shapes(trained: Trained) -> None:
    task = trained.task
    other = build_model(ModelConfig(2, 2, 8, len(task.vocabulary), task.sample_length - 1))
    with pytest.raises(ConfigError, match="need the same shape"):
        diff_weights(trained.model, other)
    batch = task.query("C", "a").sample(5, generator(3))
    with pytest.raises(ConfigError, match="width 16 in one model and 8 in the other"):
        diff_activations(trained.model, other, batch)
