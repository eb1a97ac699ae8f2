"""The HookedTransformer is Tracr's own model, activation for activation, and the program's meaning."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mechft.errors import ConfigError
from mechft.models.build import fingerprint
from mechft.models.channels import variable
from mechft.models.compiled import BOS, Value
from mechft.models.rasp_programs import counter_program, max_program
from mechft.models.tracr import compile_program
from tests.models.programs import NAMES, NUMERICAL, SHAPES, case

# Residual values are at most 1 and attention scores at most 50, both in single precision (1e-7 of their
# size); weights up to 100 act on one-hot values, so that errors do not pile up. Measured: 2e-6.
ATOL = 1e-5


@pytest.mark.parametrize(
    ("name", "missing"), [*((name, 0) for name in NAMES), ("counter", 3), ("reverse", 1)]
)
def test_every_activation_is_tracrs_own(name: str, missing: int) -> None:
    """On strings of the compiled length, and on shorter ones."""
    import jax

    found = case(name)
    compiled, encoder = found.compiled, found.tracr.output_encoder
    strings = found.strings(12, [compiled.length - missing])
    tokens = torch.stack([compiled.encode(string) for string in strings])
    # What Tracr's apply() calls on one string, here on a batch and compiled by jax in one piece.
    theirs = jax.jit(found.tracr.forward)(found.tracr.params, tokens.numpy())
    with torch.no_grad():
        logits, cache = compiled.model.run_with_cache(tokens)

    def close(ours: Any, value: Any) -> None:
        np.testing.assert_allclose(np.asarray(ours), np.asarray(value), atol=ATOL, rtol=0)

    inner = theirs.transformer_output
    close(cache["blocks.0.hook_resid_pre"], inner.input_embeddings)
    assert len(inner.residuals) == 2 * compiled.model.cfg.n_layers
    for i in range(compiled.model.cfg.n_layers):
        close(cache[f"blocks.{i}.attn.hook_attn_scores"], inner.attn_logits[i])
        close(cache[f"blocks.{i}.hook_attn_out"], inner.layer_outputs[2 * i])
        close(cache[f"blocks.{i}.hook_resid_mid"], inner.residuals[2 * i])
        close(cache[f"blocks.{i}.hook_mlp_out"], inner.layer_outputs[2 * i + 1])
        close(cache[f"blocks.{i}.hook_resid_post"], inner.residuals[2 * i + 1])
    if not compiled.categorical:
        close(logits[..., 0], theirs.unembedded_output)  # type: ignore[call-overload]
    for string, row in zip(strings, theirs.unembedded_output.tolist(), strict=True):
        decoded = encoder.decode(row)[1:]
        ours = compiled.run(string)[1:]
        assert ours == (decoded if compiled.categorical else pytest.approx(decoded, abs=ATOL))


@pytest.mark.parametrize("name", NAMES)
def test_the_interpreter_agrees(name: str) -> None:
    """Wherever the program says anything: where nothing is selected it says None."""
    found = case(name)
    strings = found.strings(60, range(1, found.compiled.length + 1), seed=1)
    said = 0
    for string, (first, *decoded) in zip(strings, found.compiled.run_many(strings), strict=True):
        assert first == BOS
        wanted = found.program(string)
        for value, meant in zip(decoded, wanted, strict=True):
            if meant is not None:
                said += 1
                # Soft attention leaves a little weight on what is not selected.
                if name in NUMERICAL:
                    meant = pytest.approx(float(meant), abs=1e-5)
                assert value == meant
    assert said >= 60


def test_programs_of_the_paper() -> None:
    """Its example of the Max-identifier, and answers counted and sorted by Python."""
    letters, place = case("max").compiled, 5
    assert letters.run("bdafhmxpqn")[-1] == "h"
    assert letters.run("qhdzx#####")[-1] == "z"  # the padding comes after every letter
    assert letters.run("hdb#######")[-1] == "#"
    for string in case("max").strings(20, [10], seed=2):
        ordered = sorted((str(x) for x in string), key=lambda x: (x == "#", x))
        assert letters.run(string)[-1] == ordered[place - 1]
    for string in case("counter").strings(20, [8], seed=2):
        assert case("counter").compiled.run(string)[-1] == string.count("a")
    for name in ("max", "counter"):
        assert case(name).compiled.model.cfg.n_layers == 3
        assert case(name).compiled.model.cfg.n_heads == 1


def test_vocabularies() -> None:
    counter, letters = case("counter").compiled, case("max").compiled
    assert counter.inputs == ("$", "PAD", "a", "b", "c", "d")
    assert counter.outputs == tuple(range(9))
    assert letters.inputs == tuple(sorted(["#", "$", "PAD", *"abcdefghijklmnopqrstuvwxyz"]))
    assert letters.outputs == tuple(sorted("#abcdefghijklmnopqrstuvwxyz"))
    assert case("detect_pattern").compiled.outputs == (False, True)
    assert case("frac_prevs").compiled.outputs == ()


def test_channel_names() -> None:
    labels = case("counter").compiled.residual_labels
    assert {"one", "tokens:a", "indices:0", "hit:True", "count:3", "answer:8"} <= set(labels)
    assert len(set(labels)) == len(labels) == case("counter").compiled.model.cfg.d_model
    # Steps of the same name keep a number; those with one of their own need none.
    patterns = case("detect_pattern").compiled.residual_labels
    assert {label.split(":")[0] for label in patterns} == {
        "detect_pattern(ab)", "shift_by(1)", "map_5", "map_7", "tokens", "indices", "one",
    }  # fmt: skip
    # The unembedding reads the last step's channels and nothing else.
    answer = variable(case("counter").compiled.model, "answer")
    expected = torch.zeros(len(labels), 9)
    for value, place in answer.items():
        expected[place, int(value)] = 1
    assert torch.equal(case("counter").compiled.model.W_U, expected)


def test_same_program_same_bits() -> None:
    """Tracr numbers steps through a process; what was compiled before leaves no mark."""
    from tracr.rasp import rasp

    def steps() -> Any:  # nine steps of one name: 9 and 10 would change places
        step = rasp.tokens
        for _ in range(9):
            step = rasp.Map(lambda letter: letter, step)
        return step

    first = compile_program(steps(), "ab", 2).model
    _ = steps().label
    again = compile_program(steps(), "ba", 2).model
    assert fingerprint(first) == fingerprint(again)
    assert first.residual_labels == again.residual_labels


def test_causal() -> None:
    """Attention to the past only: the length of what has been seen so far."""
    from tracr.compiler import lib

    compiled = compile_program(lib.make_length(), "ab", 4, causal=True)
    assert compiled.model.cfg.attention_dir == "causal"
    assert compiled.run("abba") == [BOS, 1, 2, 3, 4]


def _unsupported(what: str) -> Any:
    from tracr.rasp import rasp

    total = rasp.numerical(rasp.Map(lambda letter: 3 if letter == "a" else 0, rasp.tokens))
    everywhere = rasp.Select(rasp.tokens, rasp.tokens, rasp.Comparison.TRUE)
    return {
        "average": lambda: rasp.numerical(rasp.Aggregate(everywhere, total, default=0)),
        "default": lambda: rasp.Aggregate(everywhere, rasp.tokens, default="a"),
        "no tokens": lambda: rasp.Map(lambda i: i + 1, rasp.indices),
        "raises": lambda: rasp.Map(lambda letter: letter.nothing, rasp.tokens),
        "nan": lambda: rasp.Map(lambda letter: float("nan"), rasp.tokens),
        "object": lambda: rasp.Map(lambda letter: frozenset(letter), rasp.tokens),
        "alike": lambda: rasp.Map(lambda letter: 1 if letter == "a" else "1", rasp.tokens),
    }[what]()


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("average", "Tracr cannot compile mine: NotImplementedError: .*binary variables"),
        ("default", "only supports None as default"),
        ("no tokens", "does not include rasp.tokens"),
        ("raises", "AttributeError: 'str' object has no attribute 'nothing'"),
        ("nan", "got nan .float., which cannot be decoded"),
        ("object", "output value of a program is a string.*frozenset"),
        ("alike", "print alike cannot be told apart"),
    ],
)
def test_programs_that_cannot_be_compiled(what: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compile_program(_unsupported(what), "ab", 2, name="mine")


@pytest.mark.parametrize(
    ("vocabulary", "length", "message"),
    [
        ("ab$", 3, r"keeps '\$' and 'PAD' for itself; the vocabulary holds \['\$'\]"),
        (["a", "PAD"], 3, r"holds \['PAD'\]"),
        ("", 3, "at least one value"),
        ("ab", 0, "length, in letters, must be at least 1; got 0"),
        ([1.0, float("inf")], 3, "got inf"),
        (["a", None], 3, "input value of a program .* got None"),
        ([["a"]], 3, r"input value of a program .* got \['a'\] \(list\)"),
        (5, 3, "collection of values, or a string of letters; got 5"),
    ],
)
def test_bad_settings(vocabulary: Any, length: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compile_program(counter_program("a"), vocabulary, length)


@pytest.mark.parametrize("exactness", ["x", 0, 2.5, None])
def test_bad_exactness(exactness: Any) -> None:
    with pytest.raises(ConfigError, match="exactness is a whole number, at least 1; got "):
        compile_program(counter_program("a"), "ab", 2, exactness=exactness)


def test_not_a_program() -> None:
    from tracr.rasp import rasp

    selector = rasp.Select(rasp.tokens, rasp.tokens, rasp.Comparison.EQ)
    for thing in (selector, "counter"):
        with pytest.raises(ConfigError, match="A RASP program is a tracr"):
            compile_program(thing, "ab", 2)
    for name, bare in (("tokens", rasp.tokens), ("indices", rasp.indices.named("mine"))):
        with pytest.raises(ConfigError, match=f"at least one step; rasp.{name} alone is an input"):
            compile_program(bare, "ab", 2)
    copied = compile_program(rasp.Map(lambda token: token, rasp.tokens), "ab", 2)  # the remedy
    assert copied.run("ba") == ["$", "b", "a"]
    with pytest.raises(ConfigError, match="counts one letter; got 'ab'"):
        counter_program("ab")
    with pytest.raises(ConfigError, match="count from 1, the largest letter; got 0"):
        max_program(0)


def test_shapes_are_what_the_cases_say() -> None:
    for name in ("counter", "sort_unique"):
        values: tuple[Value, ...] = tuple(SHAPES[name][0])
        assert case(name).compiled.letters == values
        assert case(name).compiled.length == SHAPES[name][1]


@pytest.mark.parametrize(("exactness", "right"), [(100, 9), (14 * 15 + 1, 14)])
def test_counts_are_right_up_to_what_the_exactness_tells_apart(exactness: int, right: int) -> None:
    # The one-hot of c has 1 - L / (2 c (c + 1)) at c - 1 (never below 0): a half at L = c (c + 1).
    length = 14
    made = compile_program(counter_program("a"), "ab", length, exactness=exactness)
    strings = ["a" * count + "b" * (length - count) for count in range(length + 1)]
    found = [made.run(string)[-1] for string in strings]
    assert found[: right + 1] == list(range(right + 1))
    assert all(answer == count - 1 for count, answer in enumerate(found) if count > right)
