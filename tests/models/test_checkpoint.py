"""Checkpoints come back bit for bit, are written whole or not at all, and foreign files are safe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mechft.errors import CheckpointError, ConfigError, OutputExistsError, UnknownNameError
from mechft.models.build import ModelConfig, build_model
from mechft.models.bundled import BUNDLE, manifest
from mechft.models.checkpoint import load_checkpoint, read_header, save_checkpoint
from mechft.training.trained import Trained, load, save

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformer_lens import HookedTransformer


def test_round_trip(trained: Trained, tmp_path: Path) -> None:
    path = save(trained, tmp_path / "model.safetensors")
    again = load(path)
    assert again.task.config == trained.task.config and again.name == trained.name
    for (name, p), q in zip(
        trained.model.named_parameters(), again.model.parameters(), strict=True
    ):
        assert torch.equal(p, q), name
    with pytest.raises(OutputExistsError, match="not overwritten"):
        save(trained, path)


def test_same_content_same_bytes(trained: Trained, tmp_path: Path) -> None:
    one, other = (save(trained, tmp_path / name).read_bytes() for name in ("a", "b"))
    assert one == other


def test_extra_tensors_and_dtype(
    make_model: Callable[..., HookedTransformer], tmp_path: Path
) -> None:
    model = make_model(dtype=torch.float64)
    extra = {"x.step": torch.tensor(3.0), "y": torch.arange(4)}
    found = load_checkpoint(save_checkpoint(tmp_path / "c", model, {"note": "é"}, extra))
    assert found.description == {"note": "é"}
    assert found.model.W_E.dtype == torch.float64
    assert found.extra.keys() == extra.keys() and torch.equal(found.extra["y"], extra["y"])


def test_gpt_style_files_say_what_they_always_said(trained: Trained, tmp_path: Path) -> None:
    """A bundled model written again gives the file's own bytes; its hash is in the manifest."""
    path = save(trained, tmp_path / "a")
    assert read_header(path).keys() == {"format", "model", "dtype", "description"}
    assert read_header(path)["model"].keys() == {
        "n_layers", "n_heads", "d_model", "d_vocab", "n_ctx", "d_mlp", "initializer_range",
    }  # fmt: skip
    bundled = BUNDLE / manifest()["pcfg-tiny-low"]["file"]
    found = load_checkpoint(bundled)
    again = save_checkpoint(tmp_path / "b", found.model, found.description, found.extra)
    assert again.read_bytes() == bundled.read_bytes()


@pytest.mark.parametrize(
    "field",
    [
        {"d_head": 3},
        {"d_vocab_out": 4},
        {"activation": "relu"},
        {"normalization": "none"},
        {"attention": "bidirectional"},
    ],
)
def test_other_shapes_come_back(field: dict[str, Any], tmp_path: Path) -> None:
    model = build_model(ModelConfig(1, 2, 8, 10, 6, **field))
    path = save_checkpoint(tmp_path / "c", model, {})
    assert read_header(path)["model"].items() >= field.items()
    again = load_checkpoint(path).model
    tokens = torch.arange(6)[None]
    assert torch.equal(again(tokens), model(tokens))


def test_failed_write_leaves_the_old_file(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_checkpoint(tmp_path / "c", trained.model, {"version": 1})
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("mechft.files.os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(path, trained.model, {"version": 2})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_models_it_cannot_describe_are_refused(trained: Trained, tmp_path: Path) -> None:
    trained.model.cfg.act_fn = "gelu_new"
    with pytest.raises(ConfigError, match="act_fn='gelu_new' and would come back as another model"):
        save(trained, tmp_path / "c")
    trained.model.cfg.act_fn = "gelu"
    with torch.no_grad():
        trained.model.W_E[0, 0] = float("nan")
    with pytest.raises(ConfigError, match=r"embed\.W_E holds weights that are not finite"):
        save(trained, tmp_path / "c")
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    "change",
    [
        None,
        [],
        {"format": 1},
        {"model": {"layers": 2}},
        {"dtype": "float33"},
        {"description": {}},
        {"description": {"task": {"kind": "tracr"}}},
    ],
)
def test_malformed_headers(trained: Trained, tmp_path: Path, change: object) -> None:
    path = save(trained, tmp_path / "a.safetensors")
    tensors, header = load_file(path), read_header(path)
    text = "not json" if change is None else json.dumps(change)
    if isinstance(change, dict) and change != {"format": 1}:
        text = json.dumps({**header, **change})
    save_file(tensors, tmp_path / "b.safetensors", {"mechft": text})
    with pytest.raises(CheckpointError, match=r"b\.safetensors"):
        load(tmp_path / "b.safetensors")


@pytest.mark.parametrize("keep", [0, 5, 2000, -1])
def test_truncated_file(trained: Trained, tmp_path: Path, keep: int) -> None:
    path = save(trained, tmp_path / "model.safetensors")
    whole = path.read_bytes()
    path.write_bytes(whole[:keep])
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        load(path)
    assert path.read_bytes() == whole[:keep]


def test_foreign_files(trained: Trained, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(2)}, foreign)
    with pytest.raises(CheckpointError, match="mechft did not write it"):
        load(foreign)
    with pytest.raises(CheckpointError, match="no checkpoint file"):
        load(tmp_path / "missing.safetensors")
    path = save_checkpoint(tmp_path / "c", trained.model, {})
    header = read_header(path)
    tensors = {"model.embed.W_E": torch.zeros(2, 2)}
    save_file(tensors, tmp_path / "d", {"mechft": json.dumps(header)})
    with pytest.raises(CheckpointError, match="weights do not fit"):
        load_checkpoint(tmp_path / "d")


def test_unknown_bundled_name() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'pcfg-tiny-low'"):
        load("pcfg-tiny-lo")


@pytest.mark.parametrize("name", ["low", "medium", "high", "never-a"])
def test_bundled_models_match_their_manifest(name: str) -> None:
    """Hash and accuracy as stated; and each prior's mark: what was asked often is answered right."""
    from mechft.experiments.store.entry import file_hash
    from mechft.randomness import generator
    from mechft.training.evaluation import accuracy

    entry = manifest()[f"pcfg-tiny-{name}"]
    assert file_hash(BUNDLE / entry["file"]) == entry["sha256"]
    bundled = load(f"pcfg-tiny-{name}")
    assert list(bundled.task.config.operand_prior) == entry["task"]["operand_prior"]
    for operand in "ab":
        batch = bundled.task.query("C", operand).sample(500, generator(5, operand))
        share = accuracy(bundled.model, batch)
        assert share.low - 0.03 <= entry["accuracy"][f"C({operand})"] <= share.high + 0.03
        if bundled.task.config.operand_prior["ab".index(operand)] >= 0.3:
            assert share.value >= 0.95
