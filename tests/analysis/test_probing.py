"""Probes: find what is linearly there, find nothing where nothing is, and tell the two apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from mechft.analysis.activations import gather_activations
from mechft.analysis.probes.adamw import fit_adamw
from mechft.analysis.probes.fitting import ProbeFitter
from mechft.analysis.probes.linear_probes import LinearProbes
from mechft.analysis.probing import probe
from mechft.errors import ConfigError, UnknownNameError
from mechft.models.hook_points import head_output, neurons, resid_post
from mechft.randomness import generator
from mechft.tasks.batch import TokenBatch
from mechft.tasks.pcfg import PCFGTask
from mechft.training.trained import Trained

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer


def planted(n: int = 3000) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Two sites: in one a class shifts the mean along a direction each, the other is noise."""
    draws = generator(0, "planted")
    labels = torch.randint(3, (n,), generator=draws) + 5
    noise = torch.randn(n, 20, generator=draws)
    return {"there": noise + 8 * F.one_hot(labels - 5, 20), "absent": noise[:, :12]}, labels


def fitted(features: dict[str, torch.Tensor], labels: torch.Tensor, **options: Any) -> LinearProbes:
    fitter = ProbeFitter(**options)
    fitter.update(features, labels)
    return fitter.result()


def shares(probes: LinearProbes, features: dict[str, torch.Tensor], labels: torch.Tensor) -> Any:
    return {site: float(hit.float().mean()) for site, hit in probes.hits(features, labels).items()}


@pytest.mark.parametrize("options", [{}, {"l2": 1e-3}, {"optimizer": "paper", "steps": 800}])
def test_readable_is_read_and_noise_is_not(options: dict[str, Any]) -> None:
    """At sites of different widths; rows come batch by batch."""
    features, labels = planted()
    fitter = ProbeFitter(**options)
    for rows in (slice(0, 900), slice(900, 2000)):
        fitter.update({site: value[rows] for site, value in features.items()}, labels[rows])
    probes = fitter.result()
    found = shares(probes, {s: v[2000:] for s, v in features.items()}, labels[2000:])
    assert found["there"] > 0.999
    assert found["absent"] == pytest.approx(1 / 3, abs=0.05)
    assert probes.classes.tolist() == [5, 6, 7]


def test_rotation_does_not_matter() -> None:
    """Without penalty a linear readout of x is one of Qx; with a weak one accuracy stays the same."""
    features, labels = planted()
    q, _ = torch.linalg.qr(torch.randn(20, 20, generator=generator(1)))
    blurred = features["there"] + 4 * torch.randn(3000, 20, generator=generator(2))
    turned = blurred @ q
    one, two = (
        shares(fitted({"x": x[:2000]}, labels[:2000]), {"x": x[2000:]}, labels[2000:])["x"]
        for x in (blurred, turned)
    )
    assert 0.5 < one < 0.97
    assert two == pytest.approx(one, abs=0.011)


def test_penalty_is_the_validations_choice() -> None:
    """With few noisy rows a strong penalty predicts new rows best, and is chosen; with many clean, not."""
    features, labels = planted(200)
    noisy = features["there"] / 8 + torch.randn(200, 20, generator=generator(3))
    grid = (10.0, 1e-1, 1e-7)
    assert fitted({"x": noisy}, labels, l2=grid)["x"].l2 >= 1e-1
    features, labels = planted(3000)
    assert fitted(features, labels, l2=grid)["there"].l2 < 10.0
    held = planted(300)
    fitter = ProbeFitter(grid)
    fitter.update(features, labels)
    assert fitter.result(held)["there"].l2 < 10.0


def test_sites_do_not_touch_each_other() -> None:
    features, labels = planted(500)
    alone = fitted({"there": features["there"]}, labels)["there"]
    together = fitted(features, labels)["there"]
    torch.testing.assert_close(alone.weight, together.weight)


def test_frame_majority_and_probes(trained: Trained) -> None:
    query = trained.task.query("C", "a")
    train, test = (query.sample(300, generator(0, part)) for part in ("train", "test"))
    result = probe({"one": trained}, train, test, "C(a)")
    assert result.frame["block"].tolist() == [0, 1]
    commonest = int(torch.bincount(train.labels["C(a)"]).argmax())
    majority = float((test.labels["C(a)"] == commonest).float().mean())
    assert result.frame["majority"].tolist() == pytest.approx([majority] * 2)
    assert (result.frame["ci_low"] < result.frame["accuracy"]).all()
    assert "Held-out accuracy" in result._repr_html_()
    again = result.probes["one", "C(a)"].hits(
        gather_activations(trained, test, [resid_post(0), resid_post(1)]), test.labels["C(a)"]
    )
    assert [float(h.double().mean()) for h in again.values()] == result.frame["accuracy"].tolist()


def planted_in_prompt(task: PCFGTask, n: int, seed: int) -> TokenBatch:
    """Rows whose label is their last letter: trivially readable from the residual stream there."""
    batch = task.query("C", "a").sample(n, generator(seed, "prompt"))
    varying = (batch.prompt != batch.prompt[0]).any(0).nonzero()[-1, 0]
    return replace(batch, labels={"last": batch.prompt[:, varying]})


def test_planted_concept_and_its_controls(
    make_any: Callable[..., HookedTransformer], task: PCFGTask
) -> None:
    """In any kind of model: read at ~100% where it is, and labels dealt out anew at chance."""
    train, test = (planted_in_prompt(task, n, n) for n in (600, 200))
    varying = int((train.prompt != train.prompt[0]).any(0).nonzero()[-1, 0])
    model = make_any()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    sites = [resid_post(0), head_output(0), neurons(1)]
    result = probe(
        {"one": model}, train, test, "last", hook_names=sites, positions=varying,
        controls=("random_model", "permuted_labels"),
    )  # fmt: skip
    frame = result.frame.set_index(["control", "hook"])
    assert frame.loc[("none", resid_post(0)), "accuracy"] > 0.97
    for site in sites:
        row = frame.loc[("permuted_labels", site)]
        assert row["accuracy"] == pytest.approx(row["majority"], abs=0.12)
    own, control = (frame.loc[(c, resid_post(0))] for c in ("none", "permuted_labels"))
    assert control["selectivity"] == pytest.approx(own["accuracy"] - control["accuracy"])
    assert control["selectivity_low"] < control["selectivity"] < control["selectivity_high"]
    assert frame.loc[("random_model", resid_post(0)), "accuracy"] > 0.9  # embeddings suffice
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_papers_optimizer_reaches_the_same(trained: Trained, task: PCFGTask) -> None:
    train, test = (planted_in_prompt(task, n, n) for n in (600, 200))
    options: dict[str, Any] = {"positions": -3, "hook_names": [resid_post(0), head_output(0)]}
    optimum = probe({"one": trained}, train, test, "last", **options).frame
    paper = probe(
        {"one": trained}, train, test, "last", optimizer="paper", steps=1500, **options
    ).frame
    assert optimum["accuracy"].tolist() == pytest.approx(paper["accuracy"].tolist(), abs=0.08)
    assert paper["l2"].isna().all() and optimum["converged"].all()


def test_activations_are_those_of_the_answer_position(trained: Trained) -> None:
    batch = trained.task.query("C", "a").sample(300, generator(1))
    found = gather_activations(trained.model, batch, [resid_post(1), head_output(0)])
    _, cache = trained.model.run_with_cache(batch.prompt)
    torch.testing.assert_close(found[resid_post(1)], cache[resid_post(1)][:, -1])
    torch.testing.assert_close(found[head_output(0)], cache[head_output(0)][:, -1].flatten(1))


def test_batches_and_half_precision(
    make_model: Callable[..., HookedTransformer], task: PCFGTask
) -> None:
    """Batches one by one are as one; a bfloat16 model is read in float32."""
    train, test = (planted_in_prompt(task, n, n) for n in (300, 100))
    parts = [train.rows(slice(0, 100)), train.rows(slice(100, 300))]
    one, two = (
        probe({"one": make_model()}, data, test, "last", positions=-3).frame
        for data in (train, iter(parts))
    )
    assert one.equals(two)
    half = probe({"half": make_model(dtype=torch.bfloat16)}, train, test, "last", positions=-3)
    assert (half.frame["accuracy"] - one["accuracy"]).abs().max() < 0.15


def test_global_randomness_is_left_alone(trained: Trained) -> None:
    rows = trained.task.query("C", "a").sample(200, generator(4))
    state = torch.get_rng_state()
    controls: Any = ("random_model", "shuffled_labels", "permuted_labels")
    one = probe({"one": trained}, rows, rows, "C(a)", controls=controls, control_type=1)
    assert torch.equal(torch.get_rng_state(), state)
    two = probe({"one": trained}, rows, rows, "C(a)", controls=controls, control_type=1)
    assert one.frame.equals(two.frame)


def test_bad_input(trained: Trained) -> None:
    batch = trained.task.query("C", "a").sample(20, generator(2))
    models = {"one": trained.model}
    with pytest.raises(UnknownNameError, match=r"label 'C\(d\)'.*C\(a\)"):
        probe(models, batch, batch, "C(d)")
    with pytest.raises(UnknownNameError, match=r"Did you mean 'blocks\.0\.hook_resid_post'"):
        probe(models, batch, batch, "C(a)", hook_names=["blocks.0.hook_resid_posts"])
    same = replace(batch, labels={"C(a)": torch.full((20,), 4)})
    with pytest.raises(ConfigError, match="at least two classes; every label is 4"):
        probe(models, same, same, "C(a)")
    with pytest.raises(ConfigError, match="at least one row; got none"):
        probe(models, batch, batch.rows(slice(0, 0)), "C(a)")
    with pytest.raises(ConfigError, match="without a position axis"):
        gather_activations(trained.model, batch, ["blocks.0.attn.hook_pattern"])
    bad: Any = "labels_shuffled"
    with pytest.raises(UnknownNameError, match=r"control 'labels_shuffled'.*shuffled_labels"):
        probe(models, batch, batch, "C(a)", controls=[bad])
    with pytest.raises(UnknownNameError, match="optimizer 'adam'"):
        probe(models, batch, batch, "C(a)", optimizer="adam")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="one place a row"):
        probe(models, batch, batch, "C(a)", positions="all")
    with pytest.raises(ConfigError, match="l2 is a finite number"):
        probe(models, batch, batch, "C(a)", l2=[1e-3, -1.0])
    with pytest.raises(ConfigError, match="Models are given by name"):
        probe(trained, batch, batch, "C(a)")  # type: ignore[arg-type]
    with torch.no_grad():
        trained.model.W_E[0] = float("nan")
    with pytest.raises(ConfigError, match="not finite"):
        probe(models, batch, batch, "C(a)")


def test_fitter_refuses_what_does_not_fit() -> None:
    features, labels = planted(30)
    fitter = ProbeFitter()
    with pytest.raises(ConfigError, match="needs rows and sites; got none"):
        fitter.result()
    with pytest.raises(ConfigError, match="a row for each of the 29 labels"):
        fitter.update(features, labels[:-1])
    with pytest.raises(ConfigError, match="not finite"):
        fitter.update({"there": features["there"] * float("nan")}, labels)
    fitter.update(features, labels)
    with pytest.raises(ConfigError, match="Every batch has the same sites"):
        fitter.update({"there": features["there"]}, labels)
    probes = fitter.result()
    with pytest.raises(UnknownNameError, match=r"site 'their'.*Did you mean 'there'"):
        probes["their"]
    with pytest.raises(ConfigError, match="width 20; got 12"):
        probes.predict({"there": features["absent"]})


def test_the_papers_schedule_against_a_plain_loop() -> None:
    """AdamW from zero weights, the rate divided by 10 after a half, three quarters and seven eighths."""
    steps, draws = 40, generator(0, "data")
    features, index = (
        torch.randn(150, 5, generator=draws),
        torch.randint(3, (150,), generator=draws),
    )
    weight, bias, mean, std = fit_adamw({"x": features}, index, 3, steps=steps, seed=7)["x"]
    inputs = (features - mean) / std
    slow = torch.nn.Linear(5, 3)
    torch.nn.init.zeros_(slow.weight)
    torch.nn.init.zeros_(slow.bias)
    optimizer = torch.optim.AdamW(slow.parameters(), lr=1e-3)
    batches = generator(7, "probe", "mini-batches")
    for step in range(steps):
        passed = sum(step >= drop for drop in (20, 30, 35))
        optimizer.param_groups[0]["lr"] = 1e-3 / 10**passed
        rows = torch.randint(150, (96,), generator=batches)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(slow(inputs[rows]), index[rows]).backward()
        optimizer.step()
    torch.testing.assert_close(weight, slow.weight.detach().T, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(bias, slow.bias.detach(), rtol=1e-4, atol=1e-6)


def test_several_targets_are_probed_as_each_alone(
    make_model: Callable[..., HookedTransformer], task: PCFGTask
) -> None:
    train, test = (task.query("C", "a").sample(200, generator(i)) for i in range(2))
    options: dict[str, Any] = {"controls": ("random_model", "permuted_labels"), "seed": 3}
    models = {"one": make_model(0), "two": make_model(1)}
    both = probe(models, iter([train]), iter([test]), ["C(a)", "C(b)"], **options)
    assert set(both.probes) == {(m, t) for m in models for t in ("C(a)", "C(b)")}
    for target in ("C(a)", "C(b)"):
        alone = probe(models, train, test, target, **options).frame
        found = both.frame[both.frame["target"] == target].reset_index(drop=True)
        pd.testing.assert_frame_equal(found, alone)
    with pytest.raises(ConfigError, match="names none"):
        probe(models, train, test, [])
