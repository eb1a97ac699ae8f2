"""Any model fine-tuned on rows: what a plain loop gives, every row once an epoch, nothing else touched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import torch

from mechft.errors import ConfigError, TrainingDivergedError
from mechft.models.build import fingerprint
from mechft.tasks.batch import TokenBatch
from mechft.training.evaluation import accuracy
from mechft.training.rows import MOMENTS, _endless, finetune_rows
from tests.compare_pairs import own_answers

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

Make = Callable[..., "HookedTransformer"]


def test_steps_are_those_of_a_plain_loop(make_model: Make) -> None:
    """All rows in every step, in float64: AdamW, the gradient cut to norm 1, half the rate at first."""
    model = make_model(0, torch.float64)
    rows = own_answers(make_model(1), rows=12)
    found = finetune_rows(model, rows, {"rows": rows}, steps=20, learning_rate=3e-3, batch_size=12)
    twin = make_model(0, torch.float64)
    optimizer = torch.optim.AdamW(twin.parameters(), lr=3e-3, weight_decay=0.0)
    for step in range(1, 21):
        optimizer.param_groups[0]["lr"] = 3e-3 * min(1.0, step / 2)
        loss = torch.nn.functional.cross_entropy(twin(rows.prompt)[:, -1], rows.answer)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(twin.parameters(), 1.0)
        optimizer.step()
    for ours, theirs in zip(found.model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)
    last = found.history.iloc[-1]
    assert last["step"] == 20 and last["train_loss"] == pytest.approx(float(loss.detach()))
    assert last["accuracy"] == accuracy(found.model, rows).value
    assert list(found.history["step"]) == [m for m in MOMENTS if m < 20] + [20]
    assert (found.hits[20, "rows"].double().mean() == last["accuracy"]).item()


def test_any_model_learns_and_the_one_given_stays(make_any: Make) -> None:
    model, teacher = make_any(0), make_any(1)
    before, hooks = fingerprint(model), _hooks(model)
    rows = [own_answers(teacher, rows=20, length=length, seed=length) for length in (6, 9)]
    tests: dict[str, TokenBatch | list[TokenBatch]] = {"seen": rows, "first": rows[0]}
    found = finetune_rows(model, rows, tests, steps=34, learning_rate=1e-2, seed=3)
    assert fingerprint(model) == before and _hooks(model) == hooks
    seen = found.history[found.history["evaluation"] == "seen"].set_index("step")["accuracy"]
    assert seen.iloc[-1] > seen.loc[0] + 0.3
    assert all(parameter.grad is None for parameter in found.model.parameters())
    again = finetune_rows(model, rows, tests, steps=34, learning_rate=1e-2, seed=3)
    assert fingerprint(again.model) == fingerprint(found.model)
    other = finetune_rows(model, rows, tests, steps=34, learning_rate=1e-2, seed=4)
    assert fingerprint(other.model) != fingerprint(found.model)


def test_every_row_comes_once_before_any_comes_again() -> None:
    def batch(first: int, n: int, length: int) -> TokenBatch:
        tokens = torch.arange(first, first + n)[:, None].expand(n, length)
        return TokenBatch(tokens, length - 2, tokens[:, -1])

    parts = [batch(0, 9, 4), batch(9, 5, 6)]
    stream = _endless(parts, size=4, seed=0)
    epochs = [[next(stream) for _ in range(3 + 2)] for _ in range(2)]
    orders = [[int(answer) for part in epoch for answer in part.answer] for epoch in epochs]
    assert all(Counter(order) == Counter(range(14)) for order in orders) and orders[0] != orders[1]
    assert sorted(len(part) for part in epochs[0]) == [2, 3, 3, 3, 3]  # no step of a single row


def test_it_stops_where_it_is_told_to(make_model: Make) -> None:
    model = make_model()
    rows = own_answers(model)
    found = finetune_rows(
        model, rows, {"own": rows}, steps=50, learning_rate=1e-4, stop_at=("own", 0.97)
    )
    assert list(found.history["step"]) == [0] and fingerprint(found.model) == fingerprint(model)


def test_half_precision_is_trained_in_float32(make_bridge: Callable[..., Any]) -> None:
    model = make_bridge("llama").to(torch.bfloat16)
    rows = own_answers(make_bridge("llama", 1), rows=8)
    found = finetune_rows(model, rows, {"rows": rows}, steps=2, learning_rate=1e-5)
    assert {parameter.dtype for parameter in found.model.parameters()} == {torch.float32}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    moved = [
        float((ours.detach() - theirs.detach().float()).abs().max())
        for ours, theirs in zip(found.model.parameters(), model.parameters(), strict=True)
    ]
    assert 0 < max(moved) < 3e-5  # bfloat16 would have rounded steps of this size away


def test_divergence_says_at_which_step(make_model: Make) -> None:
    rows = own_answers(make_model())
    model = make_model()
    with torch.no_grad():
        model.W_E[rows.tokens[:, 0]] = float("nan")  # what is answered is never a number
    with pytest.raises(ConfigError, match="finite"):
        finetune_rows(model, rows, {"rows": rows}, steps=5, learning_rate=1e-3)
    with pytest.raises(
        TrainingDivergedError, match=r"After step 1.* smaller learning_rate"
    ) as raised:
        finetune_rows(make_model(), rows, {"rows": rows}, steps=5, learning_rate=1e30)
    assert raised.value.step == 2
    with pytest.raises(TrainingDivergedError, match="The loss at step 2 is nan") as raised:
        finetune_rows(make_model(), rows, {}, steps=5, learning_rate=1e30)
    assert raised.value.step == 2


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"steps": 0}, "takes a step"),
        ({"batch_size": 0}, "takes a step"),
        ({"learning_rate": 0.0}, "above 0; got 0"),
        ({"learning_rate": float("nan")}, "above 0; got nan"),
        ({"stop_at": ("no such", 0.9)}, "names a test of"),
        ({"rows": []}, "a row at least"),
        ({"tests": {"empty": []}}, "a row at least"),
    ],
)
def test_bad_input_is_refused_before_a_step(
    make_model: Make, wrong: dict[str, Any], said: str
) -> None:
    rows = own_answers(make_model(), rows=4)
    given: dict[str, Any] = {
        "rows": rows,
        "tests": {"rows": rows},
        "steps": 1,
        "learning_rate": 1e-3,
    }
    with pytest.raises(ConfigError, match=said):
        finetune_rows(make_model(), **{**given, **wrong})


def _hooks(model: HookedTransformer) -> int:
    return sum(len(point._forward_hooks) for point in model.hook_dict.values())
