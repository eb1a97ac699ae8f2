"""The solver reaches the one optimum there is, wherever it starts and however the features lie."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression

from mechft.analysis.probes import logistic
from mechft.analysis.probes.logistic import Design, fit_logistic
from mechft.randomness import generator


def problem(n: int = 400, width: int = 6, classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Correlated features of very different sizes; labels that a linear readout only partly explains."""
    draws = generator(0, "problem")
    mixing = torch.randn(width, width, generator=draws) * torch.logspace(-2, 1, width)
    features = torch.randn(n, width, generator=draws) @ mixing + 3
    scores = (features - features.mean(0)) / features.std(0)
    scores = scores @ torch.randn(width, classes, generator=draws)
    return features, (scores + 2 * torch.randn(n, classes, generator=draws)).argmax(1)


@pytest.mark.parametrize("l2", [1e-1, 1e-3, 1e-5])
def test_optimum_is_scikit_learns(l2: float) -> None:
    """Same loss and same probabilities as LogisticRegression with C = 1 / (2 l2 n), run to 1e-8."""
    features, index = problem()
    design = Design(features)
    fit = fit_logistic(design, index, 3, l2, tolerance=1e-10)
    inputs = ((features - design.mean) / design.std).double()
    weight, bias = (part.double() for part in design.unturned(fit.weight))
    reference = LogisticRegression(C=1 / (2 * l2 * len(index)), tol=1e-8, max_iter=10_000)
    reference.fit(inputs.numpy(), index.numpy())
    theirs = torch.from_numpy(reference.coef_).T, torch.from_numpy(reference.intercept_)

    def loss(weight: torch.Tensor, bias: torch.Tensor) -> float:
        return float(F.cross_entropy(inputs @ weight + bias, index) + l2 * weight.square().sum())

    assert loss(weight, bias) == pytest.approx(loss(*theirs), abs=1e-6)
    assert fit.loss == pytest.approx(loss(weight, bias), abs=1e-6)
    ours = (inputs @ weight + bias).softmax(1)
    torch.testing.assert_close(ours, (inputs @ theirs[0] + theirs[1]).softmax(1), atol=2e-3, rtol=0)


def test_gradient_vanishes_by_autograd() -> None:
    features, index = problem()
    design = Design(features.double())
    fit = fit_logistic(design, index, 3, 1e-2, tolerance=1e-20)
    weight = fit.weight.clone().requires_grad_()
    loss = F.cross_entropy((weight @ design.columns).T, index)
    loss = loss + 1e-2 * weight[:, :-1].square().sum()
    (gradient,) = torch.autograd.grad(loss, weight)
    assert fit.converged and fit.decrement <= 1e-20
    assert float(gradient.abs().max()) <= 1e-9


def test_start_and_turn_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Warm from another penalty, or without principal axes: the same probe."""
    features, index = problem()
    design = Design(features)
    strong = fit_logistic(design, index, 3, 1.0)
    cold = fit_logistic(design, index, 3, 1e-2, tolerance=1e-10)
    warm = fit_logistic(design, index, 3, 1e-2, tolerance=1e-10, start=strong.weight)
    torch.testing.assert_close(warm.weight, cold.weight, atol=1e-3, rtol=1e-3)
    monkeypatch.setattr(logistic, "_TURN_UP_TO", 1)
    straight = Design(features)
    assert straight.axes is None
    plain = fit_logistic(straight, index, 3, 1e-2, tolerance=1e-10)
    for one, other in zip(
        straight.unturned(plain.weight), design.unturned(cold.weight), strict=True
    ):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)


def test_first_rows_only() -> None:
    """``n_rows`` fits as if the later rows had other labels altogether."""
    features, index = problem()
    design = Design(features)
    other = index.clone()
    other[200:] = 0
    one, two = (fit_logistic(design, labels, 3, 1e-2, n_rows=200) for labels in (index, other))
    torch.testing.assert_close(one.weight, two.weight)


def test_constant_and_repeated_features_do_no_harm() -> None:
    features, index = problem()
    wide = torch.cat([features, torch.full((400, 1), 1e4), features[:, :1]], 1)
    fit = fit_logistic(Design(wide), index, 3, 1e-3)
    assert fit.converged and bool(fit.weight.isfinite().all())
    assert fit.loss <= fit_logistic(Design(features), index, 3, 1e-3).loss + 1e-4


def test_decrement_is_the_loss_still_to_be_gained() -> None:
    """Stopped early, it tells the distance to the optimum within a factor of a few."""
    features, index = problem()
    design = Design(features)
    best = fit_logistic(design, index, 3, 1e-3, tolerance=1e-10).loss
    for tolerance in (1e-3, 1e-4, 1e-5):
        fit = fit_logistic(design, index, 3, 1e-3, tolerance=tolerance)
        assert fit.converged and -1e-6 < fit.loss - best < 20 * tolerance


def test_the_optimum_itself_takes_no_step() -> None:
    """Features without information and equal classes: the gradient at 0 vanishes."""
    features = torch.tensor([[-1.0], [1.0]]).repeat(4, 1)
    fit = fit_logistic(Design(features), torch.tensor([0, 0, 1, 1] * 2), 2, 1e-2)
    assert fit.converged and fit.iterations == 0 and bool((fit.weight == 0).all())


def test_gives_up_when_told_and_says_so() -> None:
    features, index = problem()
    fit = fit_logistic(Design(features), index, 3, 0.0, max_iterations=2)
    assert fit.iterations == 2 and not fit.converged
