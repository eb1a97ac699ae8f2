"""Pruning and grafting: exactly the chosen weights change, and all come back bit for bit."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor

from mechft.analysis.units import editing as managers_file
from mechft.analysis.units import weight_edit
from mechft.analysis.units.editing import (
    grafted,
    grafted_copy,
    pruned,
    pruned_copy,
)
from mechft.analysis.units.layout import unit_layout
from mechft.analysis.units.masks import unit_mask
from mechft.analysis.units.scores import random_scores
from mechft.analysis.units.weight_edit import WeightEdit, editing
from mechft.errors import ConfigError
from mechft.models.build import clone, fingerprint
from mechft.models.weights import all_weights, block_matrices

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

Make = Callable[..., "HookedTransformer"]
TOKENS = torch.randint(10, (4, 7), generator=torch.Generator().manual_seed(0))

# Where the weights of a unit are, written out: kind → (matrix, unit, d_head) → index.
WEIGHTS: dict[str, Callable[[str, int, int], Any]] = {
    "neuron": lambda matrix, unit, width: {
        "W_Q": (unit // width, slice(None), unit % width),
        "W_V": (unit // width, slice(None), unit % width),
        "W_O": (slice(None), slice(None), unit),
    }.get(matrix, (slice(None), unit)),
    "column": lambda matrix, unit, width: {
        "W_Q": (slice(None), unit),
        "W_V": (slice(None), unit),
        "W_O": (unit // width, unit % width),
    }.get(matrix, unit),
}


def snapshot(model: HookedTransformer) -> dict[str, Tensor]:
    return {name: weight.tensor.clone() for name, weight in all_weights(model).items()}


@pytest.mark.parametrize("unit", WEIGHTS)
@pytest.mark.parametrize("matrix", ["attn.W_Q", "attn.W_V", "attn.W_O", "mlp.W_in", "mlp.W_out"])
def test_pruning_is_zeroing_by_hand(make_any: Make, unit: str, matrix: str) -> None:
    model, by_hand = make_any(), make_any()
    name, chosen = f"blocks.1.{matrix}", 5
    index = WEIGHTS[unit](matrix.split(".")[1], chosen, model.cfg.d_head)
    with torch.no_grad():
        block_matrices(by_hand)[name].tensor[index] = 0
    before = fingerprint(model)
    mask = unit_mask(model, {name: [chosen]}, unit)
    with pruned(model, mask) as inside:
        assert inside is model
        expected = snapshot(by_hand)
        assert all(torch.equal(w, expected[n]) for n, w in snapshot(model).items())
        assert torch.equal(model(TOKENS), by_hand(TOKENS))
    assert fingerprint(model) == before
    copy = pruned_copy(model, mask)
    assert torch.equal(copy(TOKENS), by_hand(TOKENS)) and fingerprint(model) == before


@pytest.mark.parametrize("unit", ["head", "mlp_neuron"])
def test_a_removed_head_or_mlp_neuron_writes_nothing(make_any: Make, unit: str) -> None:
    """Equal to ablating its activation, where the activation is all that reads from the unit."""
    model = make_any()
    group = "blocks.1.attn" if unit == "head" else "blocks.1.mlp"
    hook = f"{group}.hook_z" if unit == "head" else f"{group}.hook_post"

    def ablate(value: Tensor, hook: Any) -> Tensor:
        value = value.clone()
        value[:, :, 1] = 0
        return value

    ablated = model.run_with_hooks(TOKENS, fwd_hooks=[(hook, ablate)])
    with pruned(model, unit_mask(model, {group: [1]}, unit)):
        torch.testing.assert_close(model(TOKENS), ablated, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("unit", ["neuron", "column", "weight", "head", "mlp_neuron"])
def test_grafting_everything_gives_the_base(make_any: Make, unit: str) -> None:
    model, base = make_any(0), make_any(1)
    before, theirs = fingerprint(model), fingerprint(base)
    every = ~unit_mask(model, unit=unit)
    with grafted(model, every, base, everything=True):
        assert torch.equal(model(TOKENS), base(TOKENS))
    assert fingerprint(model) == before and fingerprint(base) == theirs
    assert torch.equal(grafted_copy(model, every, base, everything=True)(TOKENS), base(TOKENS))
    with grafted(model, every, base):  # biases, norms and embeddings are not units
        assert not torch.equal(model(TOKENS), base(TOKENS))


def test_grafting_takes_the_chosen_units_and_no_others(make_any: Make) -> None:
    model, base = make_any(0), make_any(1)
    mask = random_scores(model, 0).top(30)
    own, theirs = snapshot(model), snapshot(base)
    pruned_model = snapshot(pruned_copy(model, mask))
    with grafted(model, mask, base):
        for name, weight in snapshot(model).items():
            taken = pruned_model[name] != own[name]
            assert torch.equal(weight, torch.where(taken, theirs[name], own[name]))
    with grafted(model, mask, model):
        assert all(torch.equal(w, own[n]) for n, w in snapshot(model).items())


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_weights_come_back_after_an_error(make_any: Make, error: type[BaseException]) -> None:
    model = make_any()
    before = fingerprint(model)
    with pytest.raises(error), pruned(model, random_scores(model, 0).top(40)):
        assert fingerprint(model) != before
        raise error
    assert fingerprint(model) == before


@contextmanager
def interrupted_at(line: int) -> Iterator[list[int]]:
    """Ctrl-C at the given line run in the files under test, counted from the first."""
    seen: list[int] = []

    def trace(frame: Any, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename not in (managers_file.__file__, weight_edit.__file__):
            return None
        if event == "line":
            seen.append(frame.f_lineno)
            if len(seen) == line:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield seen
    finally:
        sys.settrace(before)


def test_weights_come_back_wherever_ctrl_c_strikes(make_model: Make) -> None:
    """On the way in, between applying and yielding, on the way out: each line, first and last run."""
    model, base = make_model(0), make_model(1)
    mask = unit_mask(model, {"blocks.0.mlp.W_in": [1], "blocks.1.attn.W_O": [2]})
    before = fingerprint(model)

    def managers() -> list[AbstractContextManager[Any]]:
        return [pruned(model, mask), grafted(model, mask, base, everything=True)]

    for which in (0, 1):
        with interrupted_at(0) as lines, managers()[which]:
            pass
        assert len(lines) > 30
        first_and_last = {lines.index(n) for n in lines} | {
            len(lines) - 1 - lines[::-1].index(n) for n in lines
        }
        for line in (1 + place for place in first_and_last):
            with interrupted_at(line), pytest.raises(KeyboardInterrupt), managers()[which]:
                pass
            assert fingerprint(model) == before, f"line {lines[line - 1]}"


def test_steps_from_set_to_set(make_any: Make) -> None:
    """Going through sets one after the other ends where going there at once does."""
    model = make_any()
    before = fingerprint(model)
    order = random_scores(model, 0)
    with editing(model, order.layout) as edit:
        for count in (3, 50, 20, 0, 7):
            edit.replace(order.top(count))
            expected = snapshot(pruned_copy(model, order.top(count)))
            assert all(torch.equal(w, expected[n]) for n, w in snapshot(model).items())
    assert fingerprint(model) == before


def test_blending_is_linear(make_any: Make) -> None:
    model, base = make_any(0), make_any(1)
    layout = unit_layout(model)
    half = {group: torch.full((size,), 0.5) for group, size in layout.sizes.items()}
    own, theirs = block_matrices(model), block_matrices(base)
    before = fingerprint(model)
    expected = {n: (w.tensor + theirs[n].tensor) / 2 for n, w in own.items()}
    with editing(model, layout, base) as edit:
        edit.blend(half)
        for name, weight in own.items():
            torch.testing.assert_close(weight.tensor, expected[name])
        edit.replace(unit_mask(model))  # and back to nothing
        assert all(torch.equal(w.tensor, edit.original(n)) for n, w in own.items())
        assert fingerprint(model) == before
    edit = WeightEdit(model, layout)
    edit.blend(half)
    assert torch.equal(own["blocks.0.mlp.W_in"].tensor, edit.original("blocks.0.mlp.W_in") / 2)
    edit.undo()


def test_half_precision_comes_back(make_model: Make) -> None:
    model = make_model(dtype=torch.bfloat16)
    before = snapshot(model)
    with grafted(
        model, ~unit_mask(model), make_model(1)
    ):  # in float32: rounded to the model's precision
        assert not torch.equal(model.W_in, before["blocks.0.mlp.W_in"])
        assert model.W_in.dtype == torch.bfloat16
    assert all(torch.equal(w, before[n]) for n, w in snapshot(model).items())


def test_a_clone_can_be_grafted_from_its_original(make_any: Make) -> None:
    """A copy keeps its joint QKV in memory of its own; it is no weight the original lacks."""
    base = make_any()
    tuned = clone(base)
    with torch.no_grad():
        for weight in block_matrices(tuned).values():
            weight.tensor.add_(0.5)
    with grafted(tuned, ~unit_mask(tuned), base):
        assert torch.equal(tuned(TOKENS), base(TOKENS))
    assert not torch.allclose(tuned(TOKENS), base(TOKENS))


def test_masks_and_bases_of_other_models_are_refused(make_model: Make, make_bridge: Make) -> None:
    model, other = make_model(), make_bridge("llama")
    with pytest.raises(ConfigError, match=r"made for another model \(first difference"):
        pruned_copy(model, unit_mask(other))
    with (
        pytest.raises(ConfigError, match="made for another model"),
        pruned(model, unit_mask(other)),
    ):
        pass
    with (
        pytest.raises(ConfigError, match=r"A base has the same weights.*first difference"),
        grafted(model, unit_mask(model), other),
    ):
        pass
