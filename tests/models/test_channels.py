"""Channels by name hold what their name says, and the names stay with the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mechft.errors import CheckpointError, ConfigError, UnknownNameError
from mechft.models.build import clone
from mechft.models.channels import attach_labels_, channel, residual_labels, variable
from mechft.models.checkpoint import load_checkpoint, read_header, save_checkpoint
from tests.models.programs import case

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformer_lens import HookedTransformer


def _resid(strings: list[Any], hook: str) -> torch.Tensor:
    counter = case("counter").compiled
    tokens = torch.stack([counter.encode(string) for string in strings])
    return counter.model.run_with_cache(tokens)[1][hook]


def test_channels_hold_what_they_are_called() -> None:
    model, strings = case("counter").compiled.model, case("counter").strings(200, [8], seed=3)
    count = torch.tensor([string.count("a") for string in strings])
    assert {0, 1, 2, 3, 4, 5} <= set(count.tolist())
    start = _resid(strings, "blocks.0.hook_resid_pre")
    binarised = _resid(strings, "blocks.0.hook_resid_post")
    counted = _resid(strings, "blocks.1.hook_resid_post")
    is_a = torch.tensor([[letter == "a" for letter in string] for string in strings])
    assert torch.equal(start[:, 1:, channel(model, "tokens:a")], is_a.float())
    assert torch.equal(start[..., channel(model, "one")], torch.ones(200, 9))
    assert torch.equal(start[:, 4, channel(model, "indices:3")], torch.ones(200))
    assert torch.equal(binarised[:, 1:, channel(model, "hit:True")], is_a.float())
    # After the count's MLP and not before it: 1 exactly where the count is 3.
    for value in range(9):
        wanted = (count == value).float()[:, None].expand(-1, 8)
        place = channel(model, f"count:{value}")
        torch.testing.assert_close(counted[:, 1:, place], wanted, atol=1e-5, rtol=0)
        assert not binarised[..., place].any()


def test_writing_a_channel_changes_the_answer() -> None:
    """The count is moved from its channel to that of 7, and the program says 7."""
    counter = case("counter").compiled
    places = list(variable(counter.model, "count").values())
    seven = channel(counter.model, "count:7")

    def rewrite(resid: torch.Tensor, hook: Any) -> torch.Tensor:
        resid = resid.clone()
        resid[..., places] = 0
        resid[..., seven] = 1
        return resid

    logits = counter.model.run_with_hooks(
        counter.encode("abca")[None], fwd_hooks=[("blocks.1.hook_resid_post", rewrite)]
    )
    assert counter.run("abca")[1:] == [2] * 4
    assert counter.decode(logits[0])[1:] == [7] * 4


def test_variables() -> None:
    model = case("counter").compiled.model
    assert list(variable(model, "count")) == [str(n) for n in range(9)]
    assert set(variable(model, "tokens")) == {"$", "PAD", *"abcd"}
    assert list(variable(case("frac_prevs").compiled.model, "frac_prevs")) == [""]
    with pytest.raises(UnknownNameError, match="Did you mean 'count'"):
        variable(model, "coun")


def test_names_stay(tmp_path: Path) -> None:
    model = case("counter").compiled.model
    labels = residual_labels(model)
    assert residual_labels(clone(model)) == labels
    path = save_checkpoint(tmp_path / "c", clone(model), {})
    assert residual_labels(load_checkpoint(path).model) == labels
    tensors, header = load_file(path), read_header(path)
    for wrong in (labels[1:], [labels[0], *labels[:-1]], None):
        save_file(
            tensors, tmp_path / "d", {"mechft": json.dumps({**header, "residual_labels": wrong})}
        )
        with pytest.raises(CheckpointError, match="names the residual channels wrongly"):
            load_checkpoint(tmp_path / "d")


def test_errors(make_model: Callable[..., HookedTransformer]) -> None:
    model = case("counter").compiled.model
    with pytest.raises(UnknownNameError, match="Did you mean 'count:3'"):
        channel(model, "cout:3")
    with pytest.raises(ConfigError, match="only compiled models' have"):
        channel(make_model(), "count:3")
    with pytest.raises(
        ConfigError, match=r"Each of the 16 residual channels .* got 2 names, 1 of them"
    ):
        attach_labels_(make_model(), ["a", "a"])
