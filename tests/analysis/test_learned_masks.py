"""Learned masks: gates with the right distribution and gradient, sets no larger than greedy ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.nn.functional as F

from mechft.analysis.learned_masks import learn_mask
from mechft.analysis.units.editing import pruned
from mechft.analysis.units.gate_training import _START, gate_slopes, train_gates
from mechft.analysis.units.gates import chance_of_removal, location_of, mean_gate, sampled_gates
from mechft.analysis.units.gradients import loss_gradients
from mechft.analysis.units.layout import unit_layout
from mechft.analysis.units.masks import unit_mask
from mechft.analysis.units.scores import gradient_times_weight, magnitude
from mechft.analysis.units.shrinking import shrink_mask
from mechft.analysis.units.weight_edit import editing
from mechft.errors import ConfigError
from mechft.models.build import fingerprint
from mechft.randomness import generator
from mechft.training.evaluation import accuracy
from tests.analysis.planted_wrapper import planted

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

    from mechft.tasks.pcfg import PCFGTask

Make = Callable[..., "HookedTransformer"]


@pytest.mark.parametrize("location", [-6.0, -2.0, 0.0, 1.5])
def test_gates_have_the_distribution_they_claim(location: float) -> None:
    """Chance of removal and mean, against 200,000 draws."""
    locations = torch.full((200_000,), location)
    drawn = sampled_gates(locations, generator(0))
    one = torch.tensor([location])
    assert float((drawn > 0).float().mean()) == pytest.approx(
        float(chance_of_removal(one)), abs=0.004
    )
    assert float(drawn.mean()) == pytest.approx(float(mean_gate(one)), abs=0.003)
    assert bool(((drawn >= 0) & (drawn <= 1)).all())


def test_gates_start_where_they_are_put_and_turn_at_zero() -> None:
    for chance in (0.005, 0.5, 0.9):
        found = chance_of_removal(torch.tensor([location_of(chance)]))
        assert float(found) == pytest.approx(chance, rel=1e-4)
    assert float(mean_gate(torch.tensor([0.0]))) == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize("graft", [False, True])
def test_gate_slopes_are_autograd_through_the_gated_weights(
    make_model: Make, task: PCFGTask, graft: bool
) -> None:
    """Against functional_call with original + gate × (replacement − original), graph and all."""
    model, base = make_model(0), make_model(1)
    batch = task.query("C", "a").sample(12, generator(0))
    layout = unit_layout(model)
    draws = torch.Generator().manual_seed(0)
    gates = {
        g: torch.rand(n, generator=draws).requires_grad_(True) for g, n in layout.sizes.items()
    }
    spread = {n: s for g, v in gates.items() for n, s in layout.spread(g, v).items()}
    with editing(model, layout, base if graft else None) as edit:
        values: dict[str, Any] = {
            name: edit.original(name) + gate * edit.step(name) for name, gate in spread.items()
        }
        logits: Any = torch.func.functional_call(model, values, (batch.prompt,))
        loss = F.cross_entropy(logits[:, -1], batch.answer)
        expected = torch.cat(torch.autograd.grad(loss, list(gates.values())))
        edit.blend({group: gate.detach() for group, gate in gates.items()})
        slopes = gate_slopes(edit, loss_gradients(model, batch)[1])
    torch.testing.assert_close(slopes, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("unit", ["neuron", "head"])
def test_gate_slopes_are_finite_differences(make_any: Make, task: PCFGTask, unit: str) -> None:
    """On bridges too, where functional_call would leave the weights it was called with behind."""
    model, base = make_any(0).double(), make_any(1).double()
    batch = task.query("C", "a").sample(12, generator(0))
    layout = unit_layout(model, unit)
    draws = torch.Generator().manual_seed(0)
    gates = {g: torch.rand(n, generator=draws).double() for g, n in layout.sizes.items()}
    before = fingerprint(model)
    with editing(model, layout, base) as edit:
        edit.blend(gates)
        slopes = gate_slopes(edit, loss_gradients(model, batch)[1])
        first = 0
        for group, size in layout.sizes.items():
            losses = []
            for sign in (1, -1):
                moved = gates[group].clone()
                moved[1] += sign * 1e-4
                edit.blend(gates | {group: moved})
                losses.append(loss_gradients(model, batch)[0])
            slope = (losses[0] - losses[1]) / 2e-4
            assert slope == pytest.approx(float(slopes[first + 1]), rel=2e-2, abs=2e-3)
            first += size
    assert fingerprint(model) == before


def test_the_first_slope_is_the_papers_score(make_any: Make, task: PCFGTask) -> None:
    model = make_any()
    batch = task.query("C", "a").sample(12, generator(0))
    with editing(model, unit_layout(model)) as edit:
        slopes = gate_slopes(edit, loss_gradients(model, batch)[1])
    scores = torch.cat(list(gradient_times_weight(model, batch).scores.values()))
    torch.testing.assert_close(slopes, -scores)


def test_a_learned_set_is_no_larger_than_the_greedy_one(task: PCFGTask) -> None:
    """A planted wrapper: at the best accuracy greedy removal reaches, the learned set is no larger."""
    case = planted(task)
    revive, test = case.rows(200, 0), case.rows(200, 1)
    greedy = gradient_times_weight(case.model, revive)
    reached = []
    for count in range(1, 16):
        with pruned(case.model, greedy.top(count)):
            reached.append(accuracy(case.model, revive).value)
    best = max(reached)
    size = 1 + reached.index(best)
    before = fingerprint(case.model)
    learned = learn_mask(
        case.model, revive, {"a": test}, l0=(0.3, 0.1), steps=80, target=best, random_draws=2
    )
    assert fingerprint(case.model) == before
    assert learned.reached and 0 < len(learned.mask) <= size
    with pruned(case.model, learned.mask):
        assert accuracy(case.model, revive).value >= best
        share = accuracy(case.model, test)
    frame = learned.frame.set_index("mask")
    assert frame.loc["learned", "accuracy"] == share.value and frame.loc["learned", "n"] == 200
    assert frame.loc["none", "accuracy"] == accuracy(case.model, test).value
    assert set(frame["k"][1:]) == {len(learned.mask)} and frame.loc["none", "k"] == 0
    with pruned(case.model, greedy.top(len(learned.mask))):
        assert frame.loc["gradient×weight", "accuracy"] == accuracy(case.model, test).value
    assert share.value > frame.loc["random", "ci_high"]


@pytest.mark.parametrize("kind", ["zero", "graft"])
def test_learning_on_any_model(make_any: Make, task: PCFGTask, kind: Any) -> None:
    """The loss falls, the weights are as before, the same seed gives the same mask."""
    model, base = make_any(0), make_any(1)
    batch = task.query("C", "a").sample(40, generator(0))
    keep = task.query("C", "b").sample(20, generator(1))
    before, state = fingerprint(model), torch.get_rng_state()
    one, again = (
        learn_mask(
            model, batch, {"a": batch}, keep=keep, mode=kind, base=base, l0=0.01, steps=25,
            random_draws=1,
        )
        for _ in range(2)
    )  # fmt: skip
    assert fingerprint(model) == before and torch.equal(torch.get_rng_state(), state)
    assert one.mask == again.mask and one.trace.equals(again.trace)
    losses = one.trace["loss_revive"] + one.trace["loss_keep"]
    assert losses.iloc[-5:].mean() < losses.iloc[:5].mean()
    greedy = "gradient×change" if kind == "graft" else "gradient×weight"
    assert [*one.frame["mask"]] == ["none", "learned", greedy, "random"]
    assert one.scores.top(len(one.mask)) == one.mask and one.reached is None


def test_a_price_that_nothing_is_worth_removes_nothing(make_model: Make, task: PCFGTask) -> None:
    batch = task.query("C", "a").sample(20, generator(0))
    dear = learn_mask(make_model(), batch, {"a": batch}, l0=1e6, steps=5, random_draws=1)
    assert not dear.mask and len(set(dear.frame["accuracy"])) == 1
    assert dear.trace["expected_removed"].is_monotonic_decreasing


def test_shrunk_sets_cannot_lose_one_more(task: PCFGTask) -> None:
    """Of the planted neurons and others beside them only needed ones stay: no single one is spare."""
    case = planted(task)
    batch = case.rows(150, 0)
    target = 0.8
    idle = (-magnitude(case.model)).top(20)  # nearly nothing to remove
    wide = case.mask | idle
    small = shrink_mask(case.model, wide, batch, target)
    assert not small - wide and 0 < len(small) < len(wide)
    with pruned(case.model, small):
        assert accuracy(case.model, batch).value >= target
    for single in small.singles():
        with pruned(case.model, small - single):
            assert accuracy(case.model, batch).value < target
    none = unit_mask(case.model)
    with pytest.raises(ConfigError, match=r"target is 80\.0% and the mask of 0 units reaches"):
        shrink_mask(case.model, none, batch, target)
    with pytest.raises(ConfigError, match=r"one kind of unit"):
        shrink_mask(
            case.model,
            wide,
            batch,
            target,
            order=gradient_times_weight(case.model, batch, unit="head"),
        )


def test_weights_come_back_when_learning_is_interrupted(
    make_model: Make, task: PCFGTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model()
    batch = task.query("C", "a").sample(20, generator(0))
    before = fingerprint(model)

    def interrupt(*_: Any) -> None:
        assert fingerprint(model) != before
        raise KeyboardInterrupt

    monkeypatch.setattr("mechft.analysis.units.gate_training.loss_gradients", interrupt)
    with pytest.raises(KeyboardInterrupt):
        learn_mask(model, batch, {"a": batch})
    assert fingerprint(model) == before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"l0": -1.0}, r"0 or more; got \[-1\.0\]"),
        ({"l0": ()}, r"0 or more; got \[\]"),
        ({"l0": (0.1, 0.2)}, "got 2 prices and no target="),
        ({"target": 1.5}, r"accuracy in \(0, 1\]; got 1\.5"),
        ({"steps": 0}, "got steps=0"),
        ({"random_draws": 0}, "random_draws=0"),
        ({"mode": "graft"}, "pass base="),
        ({"unit": "row"}, "kind of unit 'row'"),
        ({"tasks": {}}, "at least one task"),
    ],
)
def test_what_is_refused(
    make_model: Make, task: PCFGTask, settings: dict[str, Any], message: str
) -> None:
    batch = task.query("C", "a").sample(5, generator(0))
    with pytest.raises(Exception, match=message):
        learn_mask(make_model(), batch, **({"tasks": {"a": batch}} | settings))


def test_rows_to_keep_move_the_gates_too(make_model: Make, task: PCFGTask) -> None:
    """Adam's first step goes by the sign of the slope alone: that of both losses together."""
    model, rows = make_model(), [task.query("C", o).sample(20, generator(0, o)) for o in "ab"]
    layout = unit_layout(model)
    start = location_of(_START)
    with editing(model, layout, None) as edit:
        found, _ = train_gates(
            edit, model, *rows, l0=0.0, steps=1, learning_rate=0.1, batch_size=20, seed=0
        )
        drawn = sampled_gates(torch.full((len(layout),), start), generator(0, "learn_mask"))
        parts = drawn.split(list(layout.sizes.values()))
        edit.blend(dict(zip(layout.sizes, parts, strict=True)))
        revive, keep = (gate_slopes(edit, loss_gradients(model, part)[1]) for part in rows)
    moved, both = (found.detach() - start).sign(), revive + keep
    clear = both.abs() > 1e-3 * both.abs().max()
    assert int(clear.sum()) > 50
    assert torch.equal(moved[clear], -both[clear].sign())
    assert int((revive.sign() != both.sign())[clear].sum()) >= 3  # keep has a say
