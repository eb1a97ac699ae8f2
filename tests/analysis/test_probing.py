"""Probes: find what is linearly there, find nothing where nothing is, and reach the optimum."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from mechft.analysis.activations import gather_activations
from mechft.analysis.probing import ProbeFitter, probe
from mechft.errors import ConfigError, UnknownNameError
from mechft.models.hook_points import head_output, resid_post
from mechft.randomness import generator
from mechft.training.trained import Trained


def test_readable_is_read_and_noise_is_not() -> None:
    """Two sites: in one a class shifts the mean along a direction each, the other is noise."""
    draws = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (3000,), generator=draws) + 5
    noise = torch.randn(3000, 20, generator=draws)
    shifted = noise + 8 * F.one_hot(labels - 5, 20)
    fitter = ProbeFitter(l2=1e-3)
    for rows in (slice(0, 900), slice(900, 2000)):  # batch by batch
        fitter.update(torch.stack([shifted[rows], noise[rows]]), labels[rows])
    hits = fitter.result().predict(torch.stack([shifted[2000:], noise[2000:]])) == labels[2000:]
    there, absent = hits.float().mean(1).tolist()
    assert there > 0.999
    assert absent == pytest.approx(1 / 3, abs=0.05)


def test_fit_is_the_optimum_site_by_site() -> None:
    """The gradient of the penalised loss vanishes, and a site's fit ignores the other sites."""
    draws = torch.Generator().manual_seed(1)
    features = torch.randn(2, 400, 6, generator=draws)
    labels = (features[0, :, 0] + torch.randn(400, generator=draws) > 0).long()
    l2 = 1e-2

    def fit(sites: torch.Tensor) -> torch.Tensor:
        fitter = ProbeFitter(l2)
        fitter.update(sites, labels)
        found = fitter.result()
        weight = found.weight.clone().requires_grad_()
        inputs = (sites - found.mean) / found.std
        for site in range(len(sites)):
            logits = inputs[site] @ weight[site] + found.bias[site]
            loss = F.cross_entropy(logits, labels) + l2 * weight[site].square().sum()
            (gradient,) = torch.autograd.grad(loss, weight)
            assert float(gradient[site].abs().max()) < 1e-3
        return found.weight

    torch.testing.assert_close(fit(features)[:1], fit(features[:1]), atol=3e-3, rtol=0.02)


def test_frame_and_majority(trained: Trained) -> None:
    query = trained.task.query("C", "a")
    train, test = (query.sample(300, generator(0, part)) for part in ("train", "test"))
    result = probe({"one": trained.model}, train, test, "C(a)")
    assert result.frame["block"].tolist() == [0, 1]
    commonest = int(torch.bincount(train.labels["C(a)"]).argmax())
    majority = float((test.labels["C(a)"] == commonest).float().mean())
    assert result.frame["majority"].tolist() == pytest.approx([majority] * 2)
    assert (result.frame["ci_low"] < result.frame["accuracy"]).all()
    assert "Held-out accuracy" in result._repr_html_()


def test_activations_are_those_of_the_answer_position(trained: Trained) -> None:
    batch = trained.task.query("C", "a").sample(300, generator(1))
    found = gather_activations(trained.model, batch, [resid_post(1), head_output(0)])
    _, cache = trained.model.run_with_cache(batch.prompt)
    torch.testing.assert_close(found[resid_post(1)], cache[resid_post(1)][:, -1])
    torch.testing.assert_close(found[head_output(0)], cache[head_output(0)][:, -1].flatten(1))


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
    with pytest.raises(ConfigError, match="without a position axis"):
        gather_activations(trained.model, batch, ["blocks.0.attn.hook_pattern"])
    with torch.no_grad():
        trained.model.W_E[0] = float("nan")
    with pytest.raises(ConfigError, match="not finite"):
        gather_activations(trained.model, batch, [resid_post(0)])
