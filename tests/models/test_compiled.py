"""Compiled programs: strings in, values out, hooks like any model's, and files that need no jax."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mechft.errors import CheckpointError, ConfigError, OutputExistsError, UnknownNameError
from mechft.models.build import ModelConfig, build_model, clone, fingerprint
from mechft.models.checkpoint import read_header, save_checkpoint
from mechft.models.compiled import CompiledProgram, Value
from mechft.models.fused import fused_logits
from tests.models.programs import case

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer


def _model(d_vocab: int = 5, d_vocab_out: int = 2) -> HookedTransformer:
    config = ModelConfig(
        1, 2, 8, d_vocab, 4, d_head=3, d_vocab_out=d_vocab_out, activation="relu",
        normalization="none", attention="bidirectional",
    )  # fmt: skip
    return build_model(config)


def test_encode() -> None:
    counter = case("counter").compiled
    assert counter.encode("ad").tolist() == [0, 2, 5]
    assert counter.encode("").tolist() == [0]
    assert case("sort_unique").compiled.encode([3, 1]).tolist() == [0, 3, 1]


@pytest.mark.parametrize(
    ("string", "error", "message"),
    [
        ("abx", UnknownNameError, "Unknown letter 'x'.* Known: a, b, c, d"),
        ("$ab", UnknownNameError, r"'\$' is put first by itself"),
        (["a", "PAD"], UnknownNameError, "Unknown letter 'PAD'"),
        ("a" * 9, ConfigError, "at most 8 letters; got 9. Shorten it, or compile again"),
        (
            [["a"]],
            ConfigError,
            r"list of values; got \['a'\] \(list\) among them.*many to run_many",
        ),
        ([("a", ["b"])], ConfigError, r"\(tuple\) among them"),
        ([["a", "b"], ["c"]], ConfigError, "one string at a time"),
        (5, ConfigError, "text or a list of values; got 5"),
        (None, ConfigError, "text or a list of values; got None"),
        ([None], UnknownNameError, "Unknown letter None"),
    ],
)
def test_strings_it_refuses(string: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        case("counter").compiled.run(string)


def test_run_many_is_run() -> None:
    counter = case("counter").compiled
    strings = ["abca", "", "dd", "aaaa"]
    assert counter.run_many(strings) == [counter.run(string) for string in strings]
    assert counter.run("") == ["$"]
    assert counter.run_many([]) == []


def test_numbers_are_decoded_but_are_no_classes() -> None:
    shares = case("frac_prevs").compiled
    assert not shares.categorical
    assert shares.run("abca")[1:] == pytest.approx([1, 1 / 2, 1 / 3, 2 / 4], abs=1e-5)
    with pytest.raises(ConfigError, match="frac_prevs is numerical: its output is a number"):
        shares.require_categorical()
    case("counter").compiled.require_categorical()


def test_what_cannot_be_decoded() -> None:
    counter = case("counter").compiled
    with pytest.raises(ConfigError, match=r"are \[pos, 9\]; got \[3, 4\]"):
        counter.decode(torch.zeros(3, 4))
    broken = replace(counter, model=clone(counter.model))
    with torch.no_grad():
        broken.model.W_E.fill_(float("nan"))
    with pytest.raises(ConfigError, match="the model's weights have diverged"):
        broken.run("ab")
    with pytest.raises(ConfigError, match=r"got None \(NoneType\), which cannot be decoded"):
        CompiledProgram(_model(), ("$", "PAD", "a", "b", "c"), (None, 1))  # type: ignore[arg-type]
    with pytest.raises(
        ConfigError, match="reads 5 tokens and writes 2 numbers; got names of 2 and 2"
    ):
        CompiledProgram(_model(), ("$", "a"), (0, 1))


@pytest.mark.parametrize("name", ["counter", "pair_balance"])
def test_hooks_and_the_fast_forward(name: str) -> None:
    compiled = case(name).compiled
    tokens = torch.stack([compiled.encode(s) for s in case(name).strings(6, [compiled.length])])
    output, cache = compiled.model.run_with_cache(tokens)
    logits: Any = output
    assert cache["blocks.1.attn.hook_pattern"].shape[1] == compiled.model.cfg.n_heads
    torch.testing.assert_close(fused_logits(compiled.model, tokens), logits, atol=1e-5, rtol=0)

    def silence(value: torch.Tensor, hook: Any) -> torch.Tensor:
        return torch.zeros_like(value)

    # Everything a program says it writes on the way: without the last writes there is nothing to read.
    hooks: list[Any] = [
        (f"blocks.{i}.hook_{part}_out", silence)
        for i in range(compiled.model.cfg.n_layers)
        for part in ("attn", "mlp")
    ]
    silenced = compiled.model.run_with_hooks(tokens, fwd_hooks=hooks)
    assert not silenced.any()


@pytest.mark.parametrize("name", ["counter", "frac_prevs", "sort_unique", "detect_pattern"])
def test_files(name: str, tmp_path: Path) -> None:
    compiled = case(name).compiled
    path = compiled.save(tmp_path / "program.safetensors")
    again = CompiledProgram.load(path)
    assert fingerprint(again.model) == fingerprint(compiled.model)
    assert replace(again, model=compiled.model) == compiled
    assert list(map(type, again.outputs)) == list(map(type, compiled.outputs))
    assert again.residual_labels == compiled.residual_labels
    with pytest.raises(OutputExistsError, match="not overwritten"):
        compiled.save(path)


def test_tuples_come_back(tmp_path: Path) -> None:
    inputs: tuple[Value, ...] = ("$", "PAD", 1.5, ("a", (2, True)), False)
    compiled = CompiledProgram(_model(), inputs, (("x", 1), "y"))
    again = CompiledProgram.load(compiled.save(tmp_path / "c"))
    assert (again.inputs, again.outputs) == (compiled.inputs, compiled.outputs)


def test_files_need_no_jax(tmp_path: Path) -> None:
    """And where Tracr is missing, compiling says how to get it."""
    path = case("counter").compiled.save(tmp_path / "counter.safetensors")
    code = f"""
import sys
for name in ("jax", "haiku", "tracr"):
    sys.modules[name] = None  # importing it fails
from mechft.errors import ConfigError
from mechft.models.compiled import CompiledProgram
from mechft.models.tracr import compile_program
from mechft.models.rasp_programs import counter_program, max_program
print(CompiledProgram.load({str(path)!r}).run("abca"))
for attempt in (lambda: counter_program("a"), lambda: max_program(5), lambda: compile_program(1, "a", 2)):
    try:
        attempt()
    except ConfigError as error:
        print('pip install "mechft[tracr]"' in str(error))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["['$', 2, 2, 2, 2]", "True", "True", "True"]


def test_other_files(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not a compiled program"):
        CompiledProgram.load(save_checkpoint(tmp_path / "a", _model(), {"kind": "pcfg"}))
    path = CompiledProgram(_model(), ("$", "PAD", "a", "b", "c"), (0, 1)).save(tmp_path / "b")
    tensors, header = load_file(path), read_header(path)
    for change in ({"outputs": [0]}, {"inputs": None}, {"outputs": [0, None]}):
        described = {**header, "description": {**header["description"], **change}}
        save_file(tensors, tmp_path / "c", {"mechft": json.dumps(described)})
        with pytest.raises(CheckpointError, match="does not fit a compiled program"):
            CompiledProgram.load(tmp_path / "c")
