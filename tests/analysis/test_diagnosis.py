"""The verdict: votes by hand, the rule, and models whose fate is known because a test decided it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
import torch

from mechft.analysis.diagnosis import Capability, decide, diagnose
from mechft.analysis.patching import Patching, patch_across
from mechft.analysis.pruning import PruneCurve, prune_curve
from mechft.analysis.revival import Revival, revival
from mechft.analysis.votes import (
    Vote,
    side,
    vote_of_interpolation,
    vote_of_patching,
    vote_of_probe,
    vote_of_pruning,
    vote_of_revival,
)
from mechft.analysis.weight_diff import diff_weights
from mechft.errors import ConfigError, UnknownNameError
from mechft.models.build import build_model, clone, model_config
from mechft.plots import plot
from mechft.randomness import generator
from mechft.training.controls import scratch_finetune
from mechft.training.recipes import reverse_finetune
from mechft.training.trained import Trained, load
from tests.planted import NEURONS, destroyed, wrapped


@pytest.fixture(scope="module")
def base() -> Trained:
    return load("pcfg-tiny-low").renamed("base")


@pytest.fixture(scope="module")
def capability(base: Trained) -> Capability:
    query = base.task.query("C", "a", base.contrast.correlation(0.0))
    return Capability(
        query.sample(400, generator(0, "fit")), query.sample(200, generator(0, "test")), "C(a)"
    )


@pytest.fixture(scope="module")
def planted(base: Trained) -> Trained:
    return wrapped(base)


RELEARN: dict[str, Any] = {
    "steps": 120, "stop_at": 0.93, "learning_rate": 1e-4, "evaluation_size": 100,
}  # fmt: skip


@pytest.fixture(scope="module")
def never_had() -> Trained:
    """Scr.+FT: what learning to count a takes a model that was never asked to."""
    return scratch_finetune(load("pcfg-tiny-never-a"), **RELEARN)


def test_a_planted_wrapper_is_found(
    base: Trained, planted: Trained, capability: Capability, never_had: Trained
) -> None:
    """Three neurons say "0" over the count: each tool points at them, and the verdict is wrapped."""
    last = f"blocks.{int(base.model.cfg.n_layers) - 1}.mlp"
    # Weight diffing: nothing else changed, by a change of rank one.
    frame = diff_weights(base.model, planted.model).frame.set_index("parameter")
    moved = frame[frame["change"] > 0]
    assert set(moved.index) == {f"{last}.W_in", f"{last}.b_in", f"{last}.W_out"}
    # (what the three neurons held before goes with it, hence three and not one)
    assert moved.loc[[f"{last}.W_in", f"{last}.W_out"], "effective_rank"].max() <= 3
    # Pruning: the three incoming rows come first, and without them the count is back.
    curve = prune_curve(
        planted.model, capability.fit, {"a": capability.test}, counts=(0, 3), random_draws=1
    )
    assert curve.scores["model"].top(3).units() == {f"{last}.W_in": sorted(NEURONS)}
    scored = curve.frame[curve.frame["score"] != "random"].set_index("k")["accuracy"]
    assert scored[0] < 0.05 and scored[3] > 0.95
    # Patching: that MLP's output and nothing else.
    patched = patch_across(
        base, planted, capability.test, ("attn_out", "mlp_out"), directions=["base→finetuned"]
    ).frame.set_index("site")["recovered"]
    assert patched.pop("mlp_out 2") == pytest.approx(1)
    assert patched.max() < 0.05
    back = reverse_finetune(planted, contrast=base.contrast, **RELEARN)
    found = diagnose(
        base,
        planted,
        capability,
        control=load("pcfg-tiny-never-a"),
        revival=revival({"reFT": back, "Scr.+FT": never_had}),
    )
    assert found.verdict == "wrapped", str(found)
    votes = found.frame.set_index("tool")["finding"]
    assert (votes[["pruning", "revival", "patching"]] == "wrapped").all()
    (bars,) = [trace for trace in plot(found).data if trace.type == "bar"]
    assert dict(zip(bars.y, bars.x, strict=True))["pruning"] == 1
    assert "damaged" not in set(votes)


def test_a_destroyed_capability_is_damaged(
    base: Trained, capability: Capability, never_had: Trained
) -> None:
    """Units overwritten with noise, then trained without it: it comes back no faster than it is learnt."""
    broken = destroyed(base)
    back = reverse_finetune(broken, **RELEARN)
    found = diagnose(
        base,
        broken,
        capability,
        control=load("pcfg-tiny-never-a"),
        revival=revival({"reFT": back, "Scr.+FT": never_had}),
    )
    assert found.verdict == "damaged", str(found)
    votes = found.frame.set_index("tool")["finding"]
    assert votes["revival"] == "damaged" and "wrapped" not in set(votes)


def test_an_untouched_copy_is_retained(base: Trained, capability: Capability) -> None:
    twin = clone(base.model)
    found = diagnose(base, twin, capability)
    assert found.verdict == "retained" and len(found) == 0
    with torch.no_grad():  # and so is one that moved, but answers as before
        for parameter in twin.parameters():
            parameter.mul_(1 + 1e-4)
    assert diagnose(base, twin, capability).verdict == "retained"
    assert "retained" in found._repr_html_() and "retained" in str(found)


def test_nothing_to_lose_is_undecided(base: Trained, capability: Capability) -> None:
    never = build_model(model_config(base.model))
    found = diagnose(never, base, capability)
    assert found.verdict == "undecided" and "no capability to lose" in found.reason


def vote(finding: Any, weight: float = 1) -> Vote:
    return Vote("tool", finding, weight, 0, 0, 0, "", "", "")


@pytest.mark.parametrize(
    ("cast", "verdict"),
    [
        ([], "undecided"),
        ([vote("wrapped")], "undecided"),
        ([vote("wrapped"), vote("wrapped", 0.5)], "wrapped"),
        ([vote("wrapped"), vote("wrapped"), vote("damaged", 0.5)], "wrapped"),
        ([vote("wrapped"), vote("wrapped"), vote("damaged")], "undecided"),
        ([vote("damaged"), vote("damaged", 0.5), vote("wrapped", 0.5)], "damaged"),
        ([vote("damaged"), vote("no vote"), vote("no vote")], "undecided"),
    ],
)
def test_the_rule(cast: list[Vote], verdict: str) -> None:
    assert decide(cast)[0] == verdict


def test_a_vote_needs_the_whole_interval() -> None:
    assert side(0.71, 0.9, 0.7, 0.5) == "wrapped"
    assert side(0.69, 0.9, 0.7, 0.5) == "no vote"
    assert side(0.1, 0.5, 0.7, 0.5) == "damaged"
    assert side(0.1, 0.51, 0.7, 0.5) == "no vote"
    assert side(0.0, 0.1, 0.7, None) == "no vote"


def probes(**accuracies: tuple[float, float]) -> pd.DataFrame:
    """A probe frame of two sites; the interval is one point either way."""
    return pd.DataFrame(
        [
            {"model": model, "hook": f"h{site}", "control": "none", "accuracy": value, "majority": 0.4,
             "ci_low": value - 0.01, "ci_high": value + 0.01}
            for model, values in accuracies.items()
            for site, value in enumerate(values)
        ]
    )  # fmt: skip


def test_probe_by_hand() -> None:
    # Site 1 is where the base is furthest above the floor: (0.9 − 0.5) of (1.0 − 0.5).
    frame = probes(base=(0.9, 1.0), ft=(0.4, 0.9), never=(0.85, 0.5))
    enough: Any = {"fit_rows": 80, "width": 8, "refit": lambda hook: frame}
    found = vote_of_probe(frame, "base", "ft", ["never"], **enough)
    assert found.value == pytest.approx(0.8) and found.finding == "wrapped"
    assert (found.low, found.high) == pytest.approx((0.78, 0.82))
    lost = vote_of_probe(probes(base=(0.9, 1.0), ft=(0.4, 0.5)), "base", "ft", **enough)
    assert lost.finding == "damaged"
    # An untrained model is read as well as the base: the probe cannot tell.
    control = probes(base=(0.99, 0.98)).assign(control="random_model")
    both = pd.concat([probes(base=(1.0, 1.0), ft=(1.0, 1.0)), control])
    assert vote_of_probe(both, "base", "ft", **enough).finding == "no vote"


@pytest.mark.parametrize("kept", [0.95, 0.5])  # wrapped, damaged
def test_the_probe_abstains_on_few_rows(kept: float) -> None:
    """From 10 rows a dimension on it asks what half of them give; one fewer, and it abstains at once."""
    frame = probes(base=(0.9, 1.0), ft=(0.4, kept), never=(0.85, 0.53))
    asked: list[str] = []

    def vote(fit_rows: int, half: float) -> Vote:
        def refit(hook: str) -> pd.DataFrame:
            asked.append(hook)
            return probes(base=(0.9, 1.0), never=(0.85, half)).query("hook == @hook")

        never = ["never"]
        return vote_of_probe(frame, "base", "ft", never, fit_rows=fit_rows, width=8, refit=refit)

    few = vote(79, 0.53)
    assert few.finding == "no vote" and few.value != few.value and asked == []
    assert "fitted on 79 rows" in few.detail and "it counts from 80 on" in few.detail
    # The base is 47 points above the floor: three more rises of 10.6 leave 15.2, of 10.7 only 14.9.
    for half, counts in ((0.53, True), (0.6, True), (0.424, True), (0.423, False)):
        found = vote(80, half)
        assert (found.finding != "no vote") == counts == ("it rises still" not in found.detail)
    assert asked == ["h1"] * 4


def test_few_rows_do_not_make_the_probe_vote(base: Trained, capability: Capability) -> None:
    """On 200 strings an untrained model is read far below the base; on 4,000 it is read at 99%."""
    ft, test = load("pcfg-tiny-low-to-b"), capability.test
    few = Capability(capability.fit.rows(slice(0, 200)), test, "C(a)")
    found = diagnose(base, ft, few, tools=["probe"])
    last = found.evidence["probe"].frame.query("block == 2").set_index(["model", "control"])
    assert last.loc[("base", "none"), "accuracy"] > 0.95
    assert last.loc[("base", "random_model"), "accuracy"] < 0.85  # so that it would vote
    (vote,) = found.frame.to_dict("records")
    assert vote["finding"] == "no vote" and "it counts from 1280 on" in vote["detail"]


def test_a_floor_that_still_rises_does_not_count() -> None:
    """A compiled program's untrained twin is read at 63% on 820 strings, 10 a dimension, at 93% on 3,280."""
    program = load("tracr-max")
    query = program.task.query("max", "5")
    rows = Capability(
        query.sample(820, generator(0, "fit")), query.sample(400, generator(0, "test")), "max(5)"
    )
    other = clone(program.model)
    with torch.no_grad():
        other.blocks[2].attn.W_O.zero_()  # what it answers with is gone
    found = diagnose(program, other, rows, tools=["probe"])
    assert "it rises still" in found.frame["detail"][0] and found.frame["finding"][0] == "no vote"


def history(**steps: int | None) -> Revival:
    rows = [
        {"model": m, "run": 0, "step": s, "examples": s, "accuracy": a, "ci_low": a, "ci_high": a, "n": 9}
        for m, end in steps.items()
        for s, a in (
            (0, 0.0),
            (99 if end is None else end - 1, 0.4),  # evaluated just before
            (100 if end is None else end, 0.5 if end is None else 1.0),
        )
    ]  # fmt: skip
    return Revival(pd.DataFrame(rows))


@pytest.mark.parametrize(
    ("reft", "control", "finding"),
    [
        (10, 40, "wrapped"),
        (30, 40, "no vote"),
        (40, 40, "damaged"),
        (None, 40, "damaged"),
        (40, None, "wrapped"),  # at least 2.5 times faster
        (1, 2, "no vote"),  # between 1 and 2 times: evaluations are too coarse
        (None, None, "no vote"),
    ],
)
def test_revival_by_hand(reft: int | None, control: int | None, finding: str) -> None:
    found = vote_of_revival(history(reft=reft, control=control), "reft", "control", 0.9)
    assert found.finding == finding


def test_interpolation_by_hand() -> None:
    line = {0.0: 1.0, 0.5: 1.0, 0.75: 0.5, 1.0: 0.0}
    frame = pd.DataFrame(
        [
            {"alpha": a, "task": "t", "metric": "accuracy", "value": v, "ci_low": v, "ci_high": v, "n": 9}
            for a, v in line.items()
        ]
    )  # fmt: skip
    found = vote_of_interpolation(frame, "t", 1.0, 0.0)
    assert found.value == pytest.approx(0.25) and found.finding == "wrapped"
    columns = ("value", "ci_low", "ci_high")
    late = {key: [1.0, 0, 0, 0] for key in columns}
    between = vote_of_interpolation(frame.assign(**late), "t", 1.0, 0.0)
    assert between.value == pytest.approx(0.75) and between.finding == "no vote"
    later = {key: [0.5, 0, 0, 0] for key in columns}
    assert vote_of_interpolation(frame.assign(**later), "t", 1.0, 0.0).finding == "damaged"
    with pytest.raises(ConfigError, match=r"accuracy that was lost; the base has 50\.0%"):
        vote_of_interpolation(frame, "t", 0.5, 0.9)


def test_pruning_by_hand(base: Trained, capability: Capability) -> None:
    """On the base itself nothing was lost, so the vote refuses; K = 0 is what it is held against."""
    few = capability.test.rows(slice(0, 60))
    curve = prune_curve(base, few, {"a": few}, counts=(0, 2), random_draws=1)
    with pytest.raises(ConfigError, match="accuracy that was lost"):
        vote_of_pruning(curve, "a", 0.5, 2)
    lost = vote_of_pruning(curve, "a", 1.0 + 1e-9, 2)  # next to nothing lost, nothing to return
    assert lost.finding == "no vote"
    both = prune_curve(
        base, few, {"a": few}, counts=(0, 2), scores=["magnitude", "gradient×weight"]
    )
    with pytest.raises(ConfigError, match="goes by one score; the curve has"):
        vote_of_pruning(both, "a", 1.0, 2)


@pytest.mark.parametrize(("commonest", "finding"), [(0.3, "wrapped"), (0.55, "no vote")])
def test_pruning_beats_one_answer_to_everything(commonest: float, finding: str) -> None:
    """From 0 to 60% of 200 rows is much, unless the commonest answer alone would be right in 55%."""
    draws = generator(0)
    none, some = torch.zeros(1, 400, dtype=torch.bool), torch.rand(1, 400, generator=draws) < 0.6
    hits = {
        ("m", score, k, "a"): some if score == "x" and k else none
        for score in ("x", "random")
        for k in (0, 5)
    }
    frame: Any = None
    curve = PruneCurve(frame, {}, hits, {("m", "a"): commonest})
    assert vote_of_pruning(curve, "a", 1.0, 5).finding == finding


def test_patching_by_hand() -> None:
    """The best site is chosen on even rows and voted on by odd ones; residual streams and sets are out."""
    n = 400
    receiver, donor = torch.zeros(n), torch.ones(n)
    lucky = torch.zeros(n)
    lucky[::2] = 1  # whole on the rows it is chosen on, nothing on the others
    sites = {
        "mlp_out 0": ("mlp_out", lucky),
        "attn_out 0": ("attn_out", (torch.arange(n) % 10 != 0).float()),
        "resid_pre 0": ("resid_pre", torch.ones(n)),
        "attn_out 0 + mlp_out 0": ("mlp_out", torch.ones(n)),
    }
    where = {"direction": "base→finetuned", "task": "t"}
    frame = pd.DataFrame([{**where, "site": s, "component": c} for s, (c, _) in sites.items()])
    rows = {
        ("base→finetuned", s, "t"): torch.stack([patched, receiver, donor])
        for s, (_, patched) in sites.items()
    }
    found = vote_of_patching(Patching(frame, rows), "t")
    assert (
        found.value == 0
        and found.finding == "no vote"
        and "mlp_out 0: 0% of the gap" in found.detail
    )
    del rows["base→finetuned", "mlp_out 0", "t"]
    found = vote_of_patching(Patching(frame[frame["site"] != "mlp_out 0"], rows), "t")
    assert found.detail.startswith("attn_out 0: ") and found.finding == "wrapped"
    assert found.low <= found.value <= found.high and found.value == pytest.approx(1, abs=0.01)


def test_bad_input(base: Trained, capability: Capability) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'patching'"):
        diagnose(base, base, capability, tools=["patch"])  # type: ignore[list-item]
    with pytest.raises(UnknownNameError, match=r"Did you mean .*'C\(a\)'"):
        diagnose(base, base, replace(capability, target="C(d)"))
    empty = replace(capability, test=capability.test.rows(slice(0, 0)))
    with pytest.raises(ConfigError, match="rows to fit and rows to test"):
        diagnose(base, base, empty)
    with pytest.raises(UnknownNameError, match=r"model in the revival 'Scr\.\+FT'.*Known: reFT"):
        diagnose(base, base, capability, revival=history(reFT=3))
