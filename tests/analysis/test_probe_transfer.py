"""Transfer: perfect between twins, none after a turn, and a shift alone is undone by recentring."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from mechft.analysis import activations
from mechft.analysis.probe_transfer import probe_transfer
from mechft.errors import ConfigError, UnknownNameError
from mechft.models.build import ModelConfig, build_model, clone
from mechft.models.hook_points import resid_post
from mechft.randomness import generator
from mechft.tasks.batch import TokenBatch
from mechft.tasks.pcfg import PCFGTask
from mechft.training.trained import Trained

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer


def rows(task: PCFGTask, n: int) -> tuple[TokenBatch, int]:
    batch = task.query("C", "a").sample(n, generator(n, "transfer"))
    varying = int((batch.prompt != batch.prompt[0]).any(0).nonzero()[-1, 0])
    return replace(batch, labels={"last": batch.prompt[:, varying]}), varying


def test_twins_transfer_perfectly(
    make_any: Callable[..., HookedTransformer], task: PCFGTask
) -> None:
    """Of identical models each reads the other as it reads itself; of unrelated ones it does not."""
    (train, place), (test, _) = rows(task, 400), rows(task, 150)
    model = make_any()
    options: dict[str, Any] = {"positions": place, "hook_names": [resid_post(0)]}
    frame = probe_transfer(model, clone(model), train, test, "last", **options).frame
    assert len(frame) == 6
    assert frame["accuracy"].nunique() == 1 and (frame["change"] == 0).all()
    stranger = probe_transfer(model, make_any(3), train, test, "last", **options).frame
    crossed = stranger[stranger["fitted_on"] != stranger["applied_to"]]
    own = stranger[stranger["fitted_on"] == stranger["applied_to"]]
    assert own["accuracy"].min() > 0.95 and (own["change"] == 0).all()
    assert crossed["accuracy"].max() < 0.9 and (crossed["change_high"] < 0).all()


def test_a_shift_is_undone_by_recentring(
    monkeypatch: pytest.MonkeyPatch, trained: Trained, task: PCFGTask
) -> None:
    """Activations moved and stretched along each axis: unreadable as fitted, read again recentred."""
    (train, place), (test, _) = rows(task, 400), rows(task, 150)
    other = trained.renamed("moved")
    gather: Any = activations.gather_activations
    draws = generator(0, "shift")
    shift, stretch = 30 * torch.randn(16, generator=draws), 1 + torch.rand(16, generator=draws)

    def moved(model: Any, *rest: Any) -> Any:
        found = gather(model, *rest)
        if model is twin:
            found = {site: value * stretch + shift for site, value in found.items()}
        return found

    twin = clone(trained.model)
    monkeypatch.setattr("mechft.analysis.probe_transfer.gather_activations", moved)
    frame = probe_transfer(
        trained, replace(other, model=twin), train, test, "last",
        positions=place, hook_names=[resid_post(0)],
    ).frame.set_index(["fitted_on", "applied_to", "readout"])  # fmt: skip
    assert frame.loc[("base", "finetuned", "as fitted"), "accuracy"] < 0.8
    assert frame.loc[("base", "finetuned", "recentred"), "accuracy"] == pytest.approx(
        frame.loc[("finetuned", "finetuned", "as fitted"), "accuracy"], abs=0.02
    )


def test_bad_input(trained: Trained, task: PCFGTask) -> None:
    (train, _), (test, _) = rows(task, 60), rows(task, 30)
    with pytest.raises(UnknownNameError, match=r"label 'lost'.*Did you mean 'last'"):
        probe_transfer(trained, trained, train, test, "lost")
    with pytest.raises(ConfigError, match="two models need different names"):
        probe_transfer(trained, trained, train, test, "last", names=("x", "x"))
    narrow = build_model(ModelConfig(2, 2, 8, len(task.vocabulary), task.sample_length - 1))
    with pytest.raises(ConfigError, match="has 16 in base and 8 in finetuned"):
        probe_transfer(trained, narrow, train, test, "last")
