"""The online code: nothing to save where labels are random, nearly nothing to send where they are plain."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from mechft.analysis.description_length import _code, _ends, description_length
from mechft.analysis.probes.logistic import Design
from mechft.errors import ConfigError, UnknownNameError
from mechft.models.hook_points import resid_post
from mechft.randomness import generator
from mechft.tasks.pcfg import PCFGTask
from mechft.training.trained import Trained

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

BLOCKS = (0.01, 0.1, 0.5, 1.0)


def coded(features: torch.Tensor, labels: torch.Tensor, k: int, **options: Any) -> torch.Tensor:
    ends = _ends(options.pop("blocks", BLOCKS), len(labels))
    return _code(Design(features), labels, k, options.pop("grid", (1e-1, 1e-3, 1e-5)), ends)


def test_random_labels_cost_what_the_uniform_code_costs() -> None:
    draws = generator(0)
    features = torch.randn(2000, 10, generator=draws)
    labels = torch.randint(4, (2000,), generator=draws)
    bits = float(coded(features, labels, 4).sum())
    assert bits == pytest.approx(2000 * 2, rel=0.02)


def test_trivial_concept_costs_next_to_nothing() -> None:
    """Labels that are a direction of the features: little beyond the first block."""
    draws = generator(1)
    labels = torch.randint(4, (2000,), generator=draws)
    features = torch.nn.functional.one_hot(labels, 4) * 10 + torch.randn(2000, 4, generator=draws)
    bits = coded(features, labels, 4)
    assert float(bits.sum()) < 0.05 * 4000
    assert bits[:20].tolist() == pytest.approx([2.0] * 20)  # the first block: the uniform code


def test_skewed_labels_without_information_cost_their_entropy() -> None:
    """What probes cannot predict, the frequencies of the labels so far still shorten."""
    draws = generator(2)
    features = torch.randn(3000, 10, generator=draws)
    labels = (torch.rand(3000, generator=draws) < 0.05).long()
    share = float(labels.float().mean())
    entropy = -share * math.log2(share) - (1 - share) * math.log2(1 - share)
    assert float(coded(features, labels, 2).sum()) == pytest.approx(3000 * entropy, rel=0.1)


def test_code_is_a_code() -> None:
    """Kraft's equality: over all possible labels of a few rows, 2^−bits adds up to 1."""
    features = torch.randn(4, 2, generator=generator(3))
    total = 0.0
    for number in range(3**4):
        labels = torch.tensor([number // 3**i % 3 for i in range(4)])
        total += 2 ** -float(coded(features, labels, 3, blocks=(0.5, 0.75, 1.0)).sum())
    assert total == pytest.approx(1.0, abs=1e-6)


def test_frame_adds_up(make_any: Callable[..., HookedTransformer], task: PCFGTask) -> None:
    """In any kind of model: the last letter is short, its control longer; blocks add up to the whole."""
    batch = task.query("C", "a").sample(600, generator(4))
    varying = int((batch.prompt != batch.prompt[0]).any(0).nonzero()[-1, 0])
    batch = replace(batch, labels={"last": batch.prompt[:, varying]})
    result = description_length(
        {"one": make_any()}, batch, "last", positions=varying, blocks=BLOCKS,
        hook_names=[resid_post(0)], controls=("shuffled_labels", "permuted_labels", "random_model"),
    )  # fmt: skip
    frame = result.frame.set_index("control")
    assert frame.loc["none", "bits"] < 0.3 * frame.loc["none", "uniform_bits"]
    assert frame.loc["none", "bits"] < frame.loc["shuffled_labels", "bits"]
    assert frame.loc["permuted_labels", "compression"] == pytest.approx(1, abs=0.1)
    assert (frame["ci_low"] < frame["bits"]).all() and (frame["bits"] < frame["ci_high"]).all()
    assert frame["compression"].tolist() == pytest.approx(
        (frame["uniform_bits"] / frame["bits"]).tolist()
    )
    summed = result.curve.groupby("control")["bits"].sum()
    for control, bits in summed.items():
        assert bits == pytest.approx(frame.loc[control, "bits"])
    assert result.curve.query("control == 'none'")["until"].tolist() == [6, 60, 300, 600]


def test_bad_input(trained: Trained) -> None:
    batch = trained.task.query("C", "a").sample(20, generator(5))
    models = {"one": trained}
    with pytest.raises(
        ConfigError, match=r"rising shares of the rows that end at 1.*\(0\.5, 0\.1\)"
    ):
        description_length(models, batch, "C(a)", blocks=(0.5, 0.1))
    with pytest.raises(UnknownNameError, match=r"label 'C\(d\)'"):
        description_length(models, batch, "C(d)")
    same = replace(batch, labels={"C(a)": torch.full((20,), 4)})
    with pytest.raises(ConfigError, match="at least two classes; every label is 4"):
        description_length(models, same, "C(a)")
