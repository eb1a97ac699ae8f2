"""Curves over K count what they say, and find a wrapper that was planted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import torch

from mechft.analysis.pruning import prune_curve
from mechft.analysis.units.editing import grafted, pruned
from mechft.analysis.units.ranking import SCORES, iterative_scores
from mechft.analysis.units.scores import gradient_times_weight, movement, random_scores
from mechft.errors import ConfigError, UnknownNameError
from mechft.models.build import fingerprint
from mechft.randomness import generator
from mechft.tasks.batch import TokenBatch
from mechft.training.evaluation import accuracy, answered_right
from mechft.training.trained import Trained
from tests.analysis.planted_wrapper import planted

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

    from mechft.tasks.pcfg import PCFGTask

Make = Callable[..., "HookedTransformer"]


def rows(task: PCFGTask, size: int, seed: int, operand: str = "a") -> TokenBatch:
    return task.query("C", operand).sample(size, generator(seed))


def test_rows_in_batches_of_two_lengths_are_counted_together(
    make_any: Make, task: PCFGTask
) -> None:
    model = make_any()
    long = rows(task, 30, 1)
    short = TokenBatch(long.prompt[:20, :9], 8, long.answer[:20])
    curve = prune_curve(
        model, [long, short], {"both": [long, short]}, counts=(0, 5), random_draws=1
    )
    chosen = curve.scores["model"].top(5)
    with pruned(model, chosen):
        hits = torch.cat([answered_right(model, batch) for batch in (long, short)])
    assert torch.equal(curve.hits["model", "gradient×weight", 5, "both"], hits[None])
    most = Counter([*long.answer.tolist(), *short.answer.tolist()]).most_common(1)[0][1]
    assert curve.commonest["model", "both"] == most / 50


def test_curve_equals_one_by_one(make_any: Make, task: PCFGTask) -> None:
    model = make_any()
    tasks = {"a": rows(task, 60, 1), "b": rows(task, 40, 2, "b")}
    revive = rows(task, 50, 3)
    before = fingerprint(model)
    curve = prune_curve(model, revive, tasks, counts=(0, 3, 40), random_draws=2, seed=5)
    assert fingerprint(model) == before
    frame = curve.frame.set_index(["score", "k", "task"])
    for k in (0, 3, 40):
        with pruned(model, gradient_times_weight(model, revive).top(k)):
            for name, batch in tasks.items():
                share, row = accuracy(model, batch), frame.loc[("gradient×weight", k, name)]
                assert (share.value, share.low, share.high, share.n) == (
                    row["accuracy"], row["ci_low"], row["ci_high"], row["n"],
                )  # fmt: skip
        shares = []
        for draw in (0, 1):
            with pruned(model, random_scores(model, 5, draw).top(k)):
                shares.append(accuracy(model, tasks["a"]).value)
        row = frame.loc[("random", k, "a")]
        assert row["accuracy"] == pytest.approx(sum(shares) / 2)
        assert (row["ci_low"], row["ci_high"]) == (min(shares), max(shares))
    assert curve.where(40)["units"].sum() == 40 == curve.places(40).frame["units"].sum()
    assert set(curve.frame.query("score == 'random'")["interval"]) == {"range"}
    assert len(curve.scores["model"]) == len(random_scores(model, 0))


def test_several_scores_and_grafting(make_any: Make, task: PCFGTask) -> None:
    model, base = make_any(0), make_any(1)
    batch = rows(task, 30, 1)
    own = -movement(model, base)
    curve = prune_curve(
        model, batch, {"a": batch}, scores=[*SCORES, own], counts=(5,), mode="graft", base=base,
        random_draws=1,
    )  # fmt: skip
    assert [*dict.fromkeys(curve.frame["score"])] == [*SCORES, "−movement", "random"]
    assert set(curve.frame["mode"]) == {"graft"} and set(curve.frame["unit"]) == {"neuron"}
    for name in ("gradient×change", "−movement"):
        with grafted(model, curve.rankings["model", name].top(5), base):
            expected = accuracy(model, batch).value
        assert curve.frame.set_index("score")["accuracy"][name] == expected
    assert curve.where(5, "fisher")["units"].sum() == 5
    with pytest.raises(UnknownNameError, match=r"score of this curve 'fischer'.*'fisher'"):
        curve.where(5, "fischer")


def test_iterative_scores_are_a_loop_by_hand(make_any: Make, task: PCFGTask) -> None:
    """After every two removals the rest is scored with the removed ones gone; one step equals one score."""
    model = make_any()
    batch = rows(task, 30, 1)
    removed = gradient_times_weight(model, batch).top(0)
    for _ in range(3):
        with pruned(model, removed):
            fresh = gradient_times_weight(model, batch)
        values = {g: v.masked_fill(removed.chosen[g], -1e9) for g, v in fresh.scores.items()}
        removed = removed | type(fresh)(values, fresh.layout).top(2)
    ranked = iterative_scores(model, batch, "gradient×weight", 2, 6)
    assert ranked.top(6) == removed and len({float(v) for v in ranked.of(ranked.top(50))}) == 50
    once = iterative_scores(model, batch, "gradient×weight", 6, 6)
    assert torch.equal(once.order, gradient_times_weight(model, batch).order)
    curve = prune_curve(model, batch, {"a": batch}, counts=(2, 6), iterative=2, random_draws=1)
    assert curve.rankings["model", "gradient×weight, every 2"].top(6) == removed


def test_best_chooses_and_measures_on_different_rows(trained: Trained, task: PCFGTask) -> None:
    batch = rows(task, 80, 1)
    curve = prune_curve(trained, batch, {"a": batch}, counts=(0, 1, 5, 20), random_draws=2)
    found = curve.best("a", at_most=5).set_index("score")
    for score, row in found.iterrows():
        hits = {k: curve.hits["model", str(score), k, "a"].float() for k in (0, 1, 5)}
        shares = {k: float(h[:, ::2].mean()) for k, h in hits.items()}
        assert row["chosen_accuracy"] == max(shares.values()) == shares[row["k"]]
        assert row["accuracy"] == pytest.approx(float(hits[row["k"]][:, 1::2].mean()))
        assert row["untouched"] == float(hits[0][:, 1::2].mean())
        assert (
            row["n"] == row["n_chosen"] == 40 and row["ci_low"] <= row["accuracy"] <= row["ci_high"]
        )
    with pytest.raises(UnknownNameError, match="task of this curve 'b'"):
        curve.best("b", 5)
    with pytest.raises(ConfigError, match=r"No K up to -1 was measured; there are \[0, 1, 5, 20\]"):
        curve.best("a", -1)


def test_choosing_k_on_the_rows_it_is_shown_for_flatters() -> None:
    """With coin-flip answers every K is as good; the chosen rows' accuracy exceeds one half, others' not."""
    from mechft.analysis.pruning import PruneCurve

    draws = generator(0)
    gaps, honest = [], []
    for _ in range(200):
        hits = {("model", "x", k, "a"): torch.rand(1, 40, generator=draws) < 0.5 for k in range(10)}
        frame: Any = None
        row = PruneCurve(frame, {}, hits).best("a", 9).iloc[0]
        gaps.append(row["chosen_accuracy"])
        honest.append(row["accuracy"])
    assert sum(gaps) / 200 > 0.6 and sum(honest) / 200 == pytest.approx(0.5, abs=0.03)


def test_a_planted_wrapper_is_found(task: PCFGTask) -> None:
    """Only planted neurons moved, and to remove or graft exactly them gives the base's answers back."""
    case = planted(task)
    revive, test = case.rows(200, 0), case.rows(200, 1)
    assert accuracy(case.model, test).value < 0.3
    assert movement(case.model, case.base).top(len(case.mask)) == case.mask
    by_movement = prune_curve(
        case.model, revive, {"a": test}, scores="movement", counts=(0, 5), base=case.base
    ).frame.set_index(["score", "k"])["accuracy"]
    assert by_movement["movement", 5] == 1 and by_movement["random", 5] < 0.4
    # Knowing the base, first order is exact enough to find them; without it the sharpest comes first.
    change = prune_curve(
        case.model, revive, {"a": test}, scores="gradient×change", counts=(5,), mode="graft",
        base=case.base, random_draws=1,
    )  # fmt: skip
    assert change.rankings["model", "gradient×change"].top(2) - case.mask == case.mask - case.mask
    once, again = (
        prune_curve(case.model, revive, {"a": test}, counts=range(1, 6), iterative=i)
        .frame.query("score != 'random'")["accuracy"]
        .max()
        for i in (None, 1)
    )
    assert again >= once > by_movement["random", 5]


def test_what_is_refused(make_model: Make, make_bridge: Make, task: PCFGTask) -> None:
    model, batch = make_model(), rows(task, 10, 1)
    tasks = {"a": batch}
    wrong: Any = "one"
    with pytest.raises(ConfigError, match=r"0\.\.288, all there are; got 1000000"):
        prune_curve(model, batch, tasks, counts=(0, 10**6))
    with pytest.raises(ConfigError, match="a random draw; got 1, 1 and 0"):
        prune_curve(model, batch, tasks, counts=(0,), random_draws=0)
    with pytest.raises(ConfigError, match="at least one row; got none"):
        prune_curve(model, batch, {"b": batch.rows(slice(0, 0))})
    with pytest.raises(UnknownNameError, match=r"Unknown score 'gradientxweight'.*gradient×weight"):
        prune_curve(model, batch, tasks, scores="gradientxweight")
    with pytest.raises(UnknownNameError, match=r"kind of unit 'row'"):
        prune_curve(model, batch, tasks, unit="row")
    with pytest.raises(UnknownNameError, match=r"mode 'one'"):
        prune_curve(model, batch, tasks, mode=wrong)
    with pytest.raises(ConfigError, match='mode="graft" looks at the model before'):
        prune_curve(model, batch, tasks, mode="graft")
    with pytest.raises(ConfigError, match=r"movement looks at the model before.*base="):
        prune_curve(model, batch, tasks, scores="movement")
    with pytest.raises(ConfigError, match=r"different names.*\['fisher', 'fisher'\]"):
        prune_curve(model, batch, tasks, scores=["fisher", "fisher"])
    with pytest.raises(ConfigError, match="made for another model"):
        prune_curve(model, batch, tasks, scores=-random_scores(make_bridge("llama"), 0))
    with pytest.raises(ConfigError, match=r"'head' units, the curve counts 'neuron'"):
        prune_curve(model, batch, tasks, scores=-random_scores(model, 0, unit="head"))
    with pytest.raises(ConfigError, match="cannot be computed again"):
        prune_curve(model, batch, tasks, scores=-random_scores(model, 0), iterative=2)
    with pytest.raises(ConfigError, match="at least 1; got 0"):
        prune_curve(model, batch, tasks, iterative=0)
