"""Losses of texts by hand, from labelled starts on, by both forwards; and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from mechft.analysis.text_loss import row_losses, text_loss
from mechft.errors import ConfigError, UnknownNameError
from mechft.randomness import generator
from mechft.tasks.batch import TokenBatch
from mechft.tasks.pcfg import PCFGTask

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

MakeModel = Callable[..., "HookedTransformer"]


@pytest.fixture
def rows(task: PCFGTask) -> TokenBatch:
    batch = task.query("C", "a").sample(21, generator(0))  # more than one forward's rows
    length = batch.tokens.shape[1]
    starts = torch.arange(21) % (length - 1) + 1
    return TokenBatch(
        batch.tokens, batch.answer_position, batch.answer, {**batch.labels, "start": starts}
    )


@pytest.mark.parametrize("hooked", [False, True])
@pytest.mark.parametrize("start", [None, "start"])
def test_equals_a_sum_over_positions(
    make_model: MakeModel, rows: TokenBatch, start: str | None, hooked: bool
) -> None:
    model = make_model(0, torch.float64)
    if hooked:  # then the model itself runs, with what is attached
        model.add_hook("blocks.0.hook_mlp_out", lambda value, hook: value * 0.5)
    losses, counts = row_losses(model, rows, start)
    logs = model(rows.tokens[:, :-1]).log_softmax(-1)
    for i, tokens in enumerate(rows.tokens.tolist()):
        first = 1 if start is None else int(rows.labels["start"][i])
        each = [-float(logs[i, t - 1, tokens[t]].detach()) for t in range(first, len(tokens))]
        # Rows' logits are compared in float32.
        assert float(losses[i]) == pytest.approx(sum(each) / len(each), rel=1e-5)
        assert int(counts[i]) == len(each)


def test_a_model_that_knows_nothing_pays_the_logarithm_of_its_vocabulary(
    make_model: MakeModel, rows: TokenBatch
) -> None:
    model = make_model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    frame = text_loss({"none": model}, {"all": rows, "late": rows}, "start").frame
    assert frame["loss"].tolist() == pytest.approx([math.log(model.cfg.d_vocab)] * 2, rel=1e-6)
    assert frame["texts"].tolist() == ["all", "late"]
    assert frame["n"].tolist() == [21, 21]
    assert (frame["ci_high"] - frame["ci_low"]).tolist() == pytest.approx([0, 0], abs=1e-6)


def test_errors(make_model: MakeModel, rows: TokenBatch) -> None:
    model = make_model()
    with pytest.raises(UnknownNameError, match="start"):
        row_losses(model, rows, "begin")
    for wrong in (0, rows.tokens.shape[1]):
        starts = torch.full((len(rows),), wrong)
        with pytest.raises(ConfigError, match="start at 1"):
            row_losses(model, replace(rows, labels={"start": starts}), "start")
    with torch.no_grad():
        model.unembed.b_U.fill_(math.nan)
    with pytest.raises(ConfigError, match="not finite"):
        row_losses(model, rows)
