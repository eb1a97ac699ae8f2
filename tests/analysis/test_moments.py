"""Streaming statistics against the batch formulas they stand for."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mechft.analysis.streaming.means import MeanFitter
from mechft.analysis.streaming.moments import PairMoments, PairMomentsFitter
from mechft.errors import ConfigError
from mechft.statistics import mean_estimate


def rows(seed: int, n: int, x: int, y: int) -> tuple[Tensor, Tensor]:
    """Two variables that share a part, skewed, with means of their own."""
    draws = torch.Generator().manual_seed(seed)
    shared = torch.randn(n, 3, generator=draws, dtype=torch.float64)
    first, second = (
        (shared @ torch.randn(3, width, generator=draws, dtype=torch.float64)).exp().clamp(max=9)
        + torch.randn(n, width, generator=draws, dtype=torch.float64)
        + 5 * torch.randn(width, generator=draws, dtype=torch.float64)
        for width in (x, y)
    )
    return first, second


def moments(x: Tensor, y: Tensor, sizes: list[int] | None = None) -> PairMoments:
    fitter = PairMomentsFitter()
    for u, v in zip(x.split(sizes or len(x)), y.split(sizes or len(y)), strict=True):
        fitter.update(u, v)
    return fitter.result()


def kernel_hsic(x: Tensor, y: Tensor, *, unbiased: bool) -> float:
    """HSIC from n × n kernels: Gretton et al. (2005), and Song et al. (2012), eq. 5."""
    n = len(x)
    k, m = x @ x.T, y @ y.T
    if not unbiased:
        centre = torch.eye(n, dtype=x.dtype) - 1 / n
        return float((k @ centre @ m @ centre).trace())
    k, m = k.fill_diagonal_(0), m.fill_diagonal_(0)
    both = (k @ m).trace() + k.sum() * m.sum() / ((n - 1) * (n - 2))
    return float(both - 2 / (n - 2) * (k.sum(0) @ m.sum(1))) / (n * (n - 3))


def kernel_cka(x: Tensor, y: Tensor, *, unbiased: bool = False) -> float:
    xy, xx, yy = (kernel_hsic(*p, unbiased=unbiased) for p in ((x, y), (x, x), (y, y)))
    return xy / math.sqrt(xx * yy)


@pytest.mark.parametrize("seed", range(8))
def test_any_split_gives_the_whole(seed: int) -> None:
    """Means, covariances and both CKAs do not depend on how the rows came in batches."""
    x, y = rows(seed, 120, 6, 4)
    draws = torch.Generator().manual_seed(seed)
    sizes: list[int] = []
    while (left := 120 - sum(sizes)) > 0:
        sizes.append(min(left, int(torch.randint(1, 40, (1,), generator=draws))))
    found, whole = moments(x, y, sizes), moments(x, y)
    assert found.n == 120
    centred_x, centred_y = x - x.mean(0), y - y.mean(0)
    expected = {
        "mean_x": x.mean(0),
        "mean_y": y.mean(0),
        "covariance_x": centred_x.T @ centred_x / 120,
        "covariance_y": centred_y.T @ centred_y / 120,
        "cross_covariance": centred_x.T @ centred_y / 120,
    }
    for name, value in expected.items():
        torch.testing.assert_close(getattr(found, name), value)
    assert found.fourth == pytest.approx(whole.fourth)
    assert found.linear_cka() == pytest.approx(kernel_cka(x, y))
    assert found.linear_cka(debiased=True) == pytest.approx(kernel_cka(x, y, unbiased=True))


def test_fitters_merge() -> None:
    x, y = rows(1, 50, 5, 5)
    parts = [PairMomentsFitter() for _ in range(3)]
    for fitter, index in zip(parts, (slice(0, 7), slice(7, 30), slice(30, 50)), strict=True):
        fitter.update(x[index], y[index])
    whole = PairMomentsFitter()
    for fitter in parts:
        whole.merge(fitter)
    found, expected = whole.result(), moments(x, y)
    torch.testing.assert_close(found.covariance_difference, expected.covariance_difference)
    assert found.linear_cka(debiased=True) == pytest.approx(expected.linear_cka(debiased=True))
    torch.testing.assert_close(parts[0].result().mean_x, x[:7].mean(0))  # left as it was
    other = PairMomentsFitter()
    other.update(x[:, :2], y)
    with pytest.raises(ConfigError, match=r"keep their widths.*got 2 and 5 after 5 and 5"):
        whole.merge(other)


def test_a_large_offset_costs_no_digits() -> None:
    """Around a mean of 10⁸, Σx² − n·mean² has no digit left; about the mean all remain."""
    draws = torch.Generator().manual_seed(2)
    steps = torch.randint(-4, 5, (400, 3), generator=draws).double() / 8  # exact beside 10⁸
    naive = ((steps + 1e8).square().sum(0) - 400 * (steps + 1e8).mean(0).square()) / 400
    exact = (steps - steps.mean(0)).square().mean(0)
    assert float((naive / exact - 1).abs().max()) > 0.1
    found = moments(steps + 1e8, 2 * steps - 1e8, [1, 9, 90, 300])
    torch.testing.assert_close(found.covariance_x.diagonal(), exact, rtol=1e-6, atol=0)
    torch.testing.assert_close(found.cross_covariance, 2 * found.covariance_x, rtol=1e-6, atol=1e-8)
    assert found.linear_cka() == pytest.approx(1)


def test_a_small_difference_of_large_values_keeps_its_digits() -> None:
    x, _ = rows(3, 200, 4, 4)
    steps = torch.randint(-4, 5, (200, 4), generator=torch.Generator().manual_seed(3)).double()
    x = (x * 2**20).round() / 2**20 + 2.0**16
    found = moments(x, x + steps * 2**-20, [64, 136])
    expected = (steps - steps.mean(0)).T @ (steps - steps.mean(0)) / 200 * 2**-40
    torch.testing.assert_close(found.covariance_difference, expected, rtol=1e-9, atol=0)


def test_cka_ignores_rotation_shift_and_scale() -> None:
    x, y = rows(4, 300, 6, 6)
    draws = torch.Generator().manual_seed(4)
    rotation, _ = torch.linalg.qr(torch.randn(6, 6, generator=draws, dtype=torch.float64))
    for debiased in (False, True):
        turned = moments(x, 3 * x @ rotation + 5).linear_cka(debiased=debiased)
        assert turned == pytest.approx(1)
        one = moments(x, y).linear_cka(debiased=debiased)
        assert moments(0.1 * x @ rotation - 2, y).linear_cka(debiased=debiased) == pytest.approx(
            one
        )
        assert one < 0.99


def test_debiasing_takes_the_bias_of_few_rows() -> None:
    """Unrelated activations, fewer rows than channels: the plain form says similar, the other does not."""
    draws = torch.Generator().manual_seed(5)
    plain, debiased = [], []
    for _ in range(40):
        x, y = torch.randn(2, 30, 100, generator=draws).unbind()
        found = moments(x, y)
        plain.append(found.linear_cka())
        debiased.append(found.linear_cka(debiased=True))
    assert min(plain) > 0.6
    assert abs(mean_estimate(torch.tensor(debiased)).value) < 0.02


def test_constants_have_no_cka() -> None:
    """Rounding about a constant is no structure to be similar to."""
    x, _ = rows(6, 50, 4, 4)
    constant = torch.full((50, 4), 0.1) * (1 + 1e-8 * (x - x.mean(0)).float().tanh())
    for y in (constant, torch.zeros(50, 4), torch.full((50, 4), 0.1, dtype=torch.float64)):
        found = moments(x, y, [13, 37])
        assert found.linear_cka() != found.linear_cka()
        assert found.linear_cka(debiased=True) != found.linear_cka(debiased=True)
    assert moments(x[:3], x[:3]).linear_cka() == pytest.approx(1)
    assert torch.tensor(moments(x[:3], x[:3]).linear_cka(debiased=True)).isnan()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_float64(dtype: torch.dtype) -> None:
    """60,000 ones sum to 2,048 in float16 and to 256 in bfloat16; squares of 300 overflow float16."""
    x = torch.full((60_000, 2), 300.0, dtype=dtype)
    x[::2] = 1.0
    high = float(x[1, 0])
    found = moments(x, x)
    assert found.mean_x.dtype == torch.float64
    assert found.mean_x.tolist() == pytest.approx([(1 + high) / 2] * 2)
    assert found.covariance_x[0, 1] == pytest.approx(((high - 1) / 2) ** 2)


@pytest.mark.parametrize("seed", range(4))
def test_ratio_has_the_interval_of_its_linearisation(seed: int) -> None:
    """Cochran's interval is the normal interval of (x − r y) / mean(y), in any split."""
    x, y = rows(seed, 90, 1, 1)
    y = y.abs() + 1
    found = moments(x, y, [40, 1, 49]).ratio()
    value = float(x.mean() / y.mean())
    around = mean_estimate((x - value * y)[:, 0] / y.mean())
    assert found.value == pytest.approx(value)
    assert (found.low, found.high) == pytest.approx((value + around.low, value + around.high))
    assert found.n == 90


def test_means_equal_the_batch_formula() -> None:
    x, _ = rows(7, 60, 6, 1)
    fitter = MeanFitter()
    for part in x.reshape(60, 2, 3).split([1, 20, 39]):
        fitter.update(part)
    found = fitter.result()
    for i in range(6):
        estimate, expected = found.estimate(*divmod(i, 3)), mean_estimate(x[:, i])
        assert (estimate.value, estimate.low, estimate.high) == pytest.approx(
            (expected.value, expected.low, expected.high)
        )
    single = MeanFitter()
    single.update(x[:1, 0])
    assert (
        single.result().estimate().low != single.result().estimate().low
    )  # NaN: one case has none


def test_bad_input() -> None:
    fitter = PairMomentsFitter()
    good = torch.ones(3, 2)
    with pytest.raises(ConfigError, match="at least one row; got none"):
        fitter.result()
    with pytest.raises(ConfigError, match="at least one row"):
        fitter.update(good[:0], good[:0])
    with pytest.raises(ConfigError, match=r"the same rows.*\(3, 2\) and \(2, 2\)"):
        fitter.update(good, good[:2])
    with pytest.raises(ConfigError, match="not finite"):
        fitter.update(good, good * float("nan"))
    fitter.update(good, good)
    with pytest.raises(ConfigError, match="got 1 and 2 after 2 and 2"):
        fitter.update(good[:, :1], good)
    with pytest.raises(ConfigError, match="variables of the same width; got 2 and 1"):
        moments(good, good[:, :1]).difference()
    means = MeanFitter()
    with pytest.raises(ConfigError, match="at least one value"):
        means.result()
    means.update(good)
    with pytest.raises(ConfigError, match=r"same quantities; got \(3,\) after \(2,\)"):
        means.update(torch.ones(2, 3))
