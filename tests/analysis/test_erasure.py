"""Erasure: the erased concept is gone for every linear probe, another one stays, and no hook is left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.nn.functional as F

from mechft.analysis.activations import gather_activations
from mechft.analysis.erasure import erase
from mechft.analysis.probes.erasers import Eraser, EraserFitter, erased, fit_erasers
from mechft.analysis.probes.fitting import ProbeFitter
from mechft.errors import ConfigError, UnknownNameError
from mechft.models.hook_points import attention_out, has_hooks, head_output, resid_mid, resid_post
from mechft.models.weights import is_hooked_transformer
from mechft.randomness import generator
from mechft.tasks.batch import TokenBatch
from mechft.tasks.pcfg import PCFGTask
from mechft.training.evaluation import accuracy, answer_logits
from mechft.training.trained import Trained

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer


def leace(features: torch.Tensor, index: torch.Tensor) -> Eraser:
    fitter = EraserFitter(int(index.max()) + 1)
    for rows in (slice(0, 700), slice(700, None)):
        fitter.update(features[rows], index[rows])
    return fitter.result()


def two_concepts(n: int = 3000) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features that carry two independent concepts along slanted directions."""
    draws = generator(0, "two")
    one, two = (torch.randint(3, (n,), generator=draws) for _ in range(2))
    carried = [
        F.one_hot(label, 3).float() @ torch.randn(3, 16, generator=draws) for label in (one, two)
    ]
    return sum(carried) * 4 + torch.randn(n, 16, generator=draws), one, two


def read(features: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
    """Held-out accuracy of a probe and of the commonest class."""
    fitter = ProbeFitter(1e-5)
    fitter.update({"x": features[:2000]}, labels[:2000])
    probes = fitter.result()
    hits = probes.hits({"x": features[2000:]}, labels[2000:])["x"]
    return float(hits.float().mean()), float((labels[2000:] == probes.majority).float().mean())


def test_erased_concept_is_gone_and_the_other_stays() -> None:
    """The theorem: class means coincide, so that the best probe is a constant."""
    features, one, two = two_concepts()
    eraser = leace(features[:2000], one[:2000])
    clean = eraser(features)
    means = torch.stack([clean[:2000][one[:2000] == k].mean(0) for k in range(3)])
    torch.testing.assert_close(means, means[:1].expand(3, -1), atol=1e-4, rtol=0)
    assert eraser.rank == 2
    assert read(features, one)[0] > 0.99
    found, majority = read(clean, one)
    assert found == majority
    assert read(clean, two)[0] > 0.99
    assert float((clean - features).square().mean()) < float(features.var())
    torch.testing.assert_close(eraser(clean), clean, atol=1e-4, rtol=1e-4)  # a projection
    torch.testing.assert_close(clean.mean(0), features.mean(0), atol=0.2, rtol=0)


def labelled_rows(task: PCFGTask, n: int) -> TokenBatch:
    """Rows labelled by their last letter, which the answer position attends to."""
    batch = task.query("C", "a").sample(n, generator(n, "erasure"))
    letters = batch.prompt
    varying = (letters != letters[0]).any(0).nonzero()[-1, 0]
    return replace(batch, labels={"last": letters[:, varying]})


def test_unreadable_in_any_model(
    make_any: Callable[..., HookedTransformer], task: PCFGTask
) -> None:
    """Erased through hooks, read through hooks: every class has the same mean at each site."""
    model = make_any()
    batch = labelled_rows(task, 400)
    sites = [attention_out(0), head_output(1), resid_post(1)]
    labels = batch.labels["last"]
    before = gather_activations(model, batch, sites)
    for site in sites:
        eraser = fit_erasers(model, batch, "last", [site])
        with erased(model, eraser):
            after = gather_activations(model, batch, [site])[site]
        centre = after.mean(0)
        scale = float(before[site].std())
        for value in labels.unique():
            gap = after[labels == value].mean(0) - centre
            assert float(gap.abs().max()) < 1e-4 * scale
        assert not torch.allclose(after, before[site])
    torch.testing.assert_close(gather_activations(model, batch, sites), before, rtol=0, atol=0)
    assert not has_hooks(model)


def test_successive_erasers_hold_together(trained: Trained, task: PCFGTask) -> None:
    """Concept scrubbing: with all sites erased at once the later one is still unreadable."""
    batch = labelled_rows(task, 300)
    labels = batch.labels["last"]
    sites = [resid_post(0), resid_post(1)]

    def gap(successive: bool, positions: Any) -> float:
        erasers = fit_erasers(
            trained, batch, "last", sites, successive=successive, positions=positions
        )
        with erased(trained, erasers, positions=positions):
            after = gather_activations(trained, batch, sites[1:], positions)[sites[1]]
        per_row = len(after) // len(labels)
        index = labels.repeat_interleave(per_row)
        means = torch.stack([after[index == v].mean(0) for v in labels.unique()])
        return float((means - means[:1]).abs().max())

    for positions in ("answer", "all"):
        assert gap(True, positions) < 1e-4


def test_positions(trained: Trained, task: PCFGTask) -> None:
    """Erasing at the answer changes the last position only, erasing at all every one."""
    batch = labelled_rows(task, 100)
    site = resid_post(0)
    _, plain = trained.model.run_with_cache(batch.prompt, names_filter=site)
    for positions, changed in (("answer", 1), ("all", batch.prompt.shape[1])):
        where: Any = positions
        erasers = fit_erasers(trained, batch, "last", [site], positions=where)
        with erased(trained, erasers, positions=where):
            _, cache = trained.model.run_with_cache(batch.prompt, names_filter=site)
        moved = (cache[site] != plain[site]).any(-1).any(0)
        assert int(moved.sum()) == changed and bool(moved[-1])


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
def test_interrupted_erasure_leaves_no_hook(
    make_any: Callable[..., HookedTransformer], task: PCFGTask, stop: type[BaseException]
) -> None:
    model = make_any()
    batch = labelled_rows(task, 60)
    before = answer_logits(model, batch)
    erasers = fit_erasers(model, batch, "last", [resid_post(0)])
    with pytest.raises(stop), erased(model, erasers):
        assert has_hooks(model)
        raise stop
    assert not has_hooks(model)
    torch.testing.assert_close(answer_logits(model, batch), before, rtol=0, atol=0)


def test_frame(make_any: Callable[..., HookedTransformer], task: PCFGTask) -> None:
    """Probes fall to the commonest class, values are those measured by hand, the control hurts less."""
    model = make_any()
    train, test, new = (labelled_rows(task, n) for n in (400, 150, 300))
    predicted = answer_logits(model, test).argmax(1)  # a task the model is always right on
    tasks = {"own": replace(test, answer=predicted)}
    sites = [resid_post(0), resid_post(1)]
    result = erase(
        model, train, test, tasks, "last", hook_names=sites, new_rows=new, control_draws=2, l2=1e-3
    )
    frame = result.frame
    assert len(frame) == 2 * 3 * 3
    probes = frame[(frame["measure"] == "probe") & (frame["erased"] == "target")]
    assert probes["value"].tolist() == pytest.approx(probes["majority"].tolist(), abs=1e-9)
    assert (frame["rank"] == 2).all()
    behaviour = frame[frame["measure"] == "behaviour"]
    assert (behaviour["untouched"] == 1).all()
    assert behaviour["change"].tolist() == pytest.approx((behaviour["value"] - 1).tolist())
    assert (frame["ci_low"] <= frame["value"]).all() and (frame["value"] <= frame["ci_high"]).all()
    with erased(model, {sites[1]: result.erasers[sites[1]]}):
        by_hand = accuracy(model, tasks["own"]).value
    row = behaviour[(behaviour["hook"] == sites[1]) & (behaviour["erased"] == "target")]
    assert row["value"].item() == by_hand
    kl = erase(
        model, train, test, tasks, "last", hook_names=sites[:1], metric="kl", positions="all"
    ).frame
    assert (kl[kl["measure"] == "behaviour"]["value"] > 0).all()
    assert not has_hooks(model)


def test_bad_input(make_any: Callable[..., HookedTransformer], task: PCFGTask) -> None:
    model = make_any()
    batch = labelled_rows(task, 60)
    erasers = fit_erasers(model, batch, "last", [resid_post(0)])
    with pytest.raises(UnknownNameError, match=r"Did you mean 'blocks\.0\.hook_resid_post'"):
        fit_erasers(model, batch, "last", ["blocks.0.hook_resid_posts"])
    with (
        pytest.raises(UnknownNameError, match="hook point"),
        erased(model, {"blocks.9.hook_resid_post": erasers[resid_post(0)]}),
    ):
        pass
    with pytest.raises(ConfigError, match="at least one site"), erased(model, {}):
        pass
    wrong: Any = "last"
    with pytest.raises(UnknownNameError, match="positions 'last'"):
        fit_erasers(model, batch, "last", [resid_post(0)], positions=wrong)
    many = replace(batch, labels={"row": torch.arange(60)})
    with pytest.raises(ConfigError, match=r"60 classes takes up to 59 directions of 16"):
        fit_erasers(model, many, "row", [resid_post(0)])
    with pytest.raises(ConfigError, match="at least two classes"):
        fit_erasers(model, replace(batch, labels={"x": batch.answer * 0}), "x", [resid_post(0)])
    with pytest.raises(ConfigError, match="at least one task"):
        erase(model, batch, batch, {}, "last")
    narrow = leace(torch.randn(1000, 5), torch.arange(1000) % 2)
    with (
        pytest.raises(ConfigError, match="acts on width 5"),
        erased(model, {resid_post(0): narrow}),
    ):
        answer_logits(model, batch)
    assert not has_hooks(model)
    if not is_hooked_transformer(model):
        with pytest.raises(ConfigError, match="goes on without it"):
            erase(model, batch, batch, {"x": batch}, "last", hook_names=[resid_mid(0)])


def test_a_site_that_never_runs_is_noticed(trained: Trained, task: PCFGTask) -> None:
    """hook_result exists and is off by default: erasing there would be a silent nothing."""
    batch = labelled_rows(task, 60)
    eraser = fit_erasers(trained, batch, "last", [resid_post(0)])[resid_post(0)]
    with (
        pytest.raises(ConfigError, match=r"without computing blocks\.0\.attn\.hook_result"),
        erased(trained, {resid_post(0): eraser, "blocks.0.attn.hook_result": eraser}) as model,
    ):
        model(batch.prompt)
    with pytest.raises(ConfigError, match="does not compute it as it is configured"):
        gather_activations(trained, batch, ["blocks.0.attn.hook_result"])
    twice = fit_erasers(trained, batch, "last", [resid_post(0)] * 2, successive=True)
    assert torch.equal(twice[resid_post(0)].mean, eraser.mean)
    value = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(twice[resid_post(0)](value), eraser(value))
