"""Masks: a Boolean algebra of units that counts what it holds, on disk as in memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import save_file

from mechft.analysis.units.layout import UNIT_KINDS, unit_layout
from mechft.analysis.units.mask_files import load_mask, save_mask
from mechft.analysis.units.masks import UnitMask, unit_mask, unit_places
from mechft.analysis.units.scores import random_scores
from mechft.errors import CheckpointError, ConfigError, OutputExistsError, UnknownNameError

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

Make = Callable[..., "HookedTransformer"]


@pytest.mark.parametrize("unit", UNIT_KINDS)
def test_algebra(make_any: Make, unit: str) -> None:
    model = make_any()
    size = len(unit_layout(model, unit))
    a, b = (random_scores(model, 0, draw, unit=unit).top(size // 2) for draw in (0, 1))
    none, every = unit_mask(model, unit=unit), ~unit_mask(model, unit=unit)
    assert len(a) == size // 2 and len(~a) == size - len(a) and len(every) == size
    assert a | ~a == every and a & ~a == none and not none and every  # a partition
    assert ~(a | b) == ~a & ~b and ~(a & b) == ~a | ~b  # De Morgan
    assert a - b == a & ~b and len(a | b) == len(a) + len(b) - len(a & b)
    assert a - a == none and ~~a == a and a != b and a != "a"


def test_counts_and_names(make_model: Make) -> None:
    model = make_model()
    named = {"blocks.0.mlp.W_in": [3, 5], "blocks.1.attn.W_O": [0], "blocks.1.mlp.W_in": [63]}
    mask = unit_mask(model, named)
    assert mask.units() == dict(sorted(named.items())) and len(mask) == 4
    assert mask.counts() == {"blocks.0.mlp.W_in": 2, "blocks.1.attn.W_O": 1, "blocks.1.mlp.W_in": 1}
    assert mask.by_block() == {0: 2, 1: 2}
    assert mask.by_component()["mlp.W_in"] == 3 and sum(mask.by_component().values()) == 4
    assert "4 of 288 neuron units" in repr(mask)
    union = unit_mask(model)
    for single in mask.singles():
        assert len(single) == 1 and not single & union
        union = union | single
    assert union == mask
    frame = unit_places({"one": mask, "all": ~unit_mask(model)}).frame
    assert frame[frame["model"] == "one"]["units"].sum() == 4
    assert (frame[frame["model"] == "all"]["share"] == 1).all()
    heads = unit_mask(model, {"blocks.1.attn": [1]}, "head")
    assert heads.by_component() == {"attn": 1} and heads.by_block() == {0: 0, 1: 1}


def test_what_does_not_combine(make_model: Make, make_bridge: Make) -> None:
    model, other = make_model(), make_bridge("llama")
    mask = unit_mask(model)
    anything: Any = 3
    with pytest.raises(ConfigError, match=r"one kind of unit; got 'neuron' and 'head'"):
        mask | unit_mask(model, unit="head")
    with pytest.raises(ConfigError, match=r"models of one shape.*first difference: blocks\.0\."):
        mask & unit_mask(other)
    with pytest.raises(ConfigError, match=r"combines with another mask; got int"):
        mask | anything
    with pytest.raises(UnknownNameError, match=r"group of neuron units 'blocks\.0\.mlp\.W_im'"):
        unit_mask(model, {"blocks.0.mlp.W_im": [1]})
    with pytest.raises(ConfigError, match=r"has head units 0\.\.1; got 2"):
        unit_mask(model, {"blocks.0.attn": [2]}, "head")
    with pytest.raises(
        ConfigError, match=r"neuron units says yes or no for each of .*unit_mask\(\)"
    ):
        UnitMask({"blocks.0.mlp.W_in": torch.ones(3, dtype=torch.bool)}, mask.layout)
    with pytest.raises(ConfigError, match="no mask"):
        unit_places({})
    with pytest.raises(TypeError, match="unhashable"):
        hash(mask)


@pytest.mark.parametrize("unit", UNIT_KINDS)
def test_disk_round_trip(make_any: Make, tmp_path: Path, unit: str) -> None:
    mask = random_scores(make_any(), 0, unit=unit).top(2)
    path = save_mask(mask, tmp_path / "new folder" / "mask.safetensors")
    loaded = load_mask(path)
    assert loaded == mask and list(loaded.chosen) == list(mask.chosen)
    before = path.read_bytes()
    with pytest.raises(OutputExistsError, match="is not overwritten"):
        save_mask(~mask, path)
    assert path.read_bytes() == before and [*path.parent.iterdir()] == [path]


def test_damaged_and_foreign_files(make_model: Make, tmp_path: Path) -> None:
    mask = random_scores(make_model(), 0).top(5)
    path = save_mask(mask, tmp_path / "mask")
    half = tmp_path / "half"
    half.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    foreign = tmp_path / "foreign"
    save_file({"x": torch.zeros(2)}, foreign)
    with pytest.raises(CheckpointError, match="no mask file"):
        load_mask(tmp_path / "missing")
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        load_mask(half)
    with pytest.raises(CheckpointError, match="not a mask that save_mask wrote"):
        load_mask(foreign)
    shapes = [[name, list(shape)] for name, shape in mask.layout.shapes.items()]
    good: dict[str, Any] = {"format": 1, "unit": "neuron", "shapes": shapes}
    bad: dict[str, tuple[dict[str, Any], str]] = {
        "version": ({"format": 2}, "mask format 2; this version reads 1"),
        "kind": ({"unit": "gnome"}, "does not describe the mask in it.*gnome"),
        "other kind": ({"unit": "column"}, "does not describe"),
        "shape": ({"shapes": [[n, [*s[:-1], 3]] for n, s in shapes]}, "does not describe"),
        "nonsense": ({"shapes": 7}, "does not describe"),
    }
    for name, (change, message) in bad.items():
        save_file(dict(mask.chosen), tmp_path / name, {"mechft_mask": json.dumps(good | change)})
        with pytest.raises(CheckpointError, match=message):
            load_mask(tmp_path / name)
