"""The lens: after the last block it is the model itself; between models it is the base's own scale."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from mechft.analysis.logit_lens import lens_logits, logit_lens
from mechft.errors import ConfigError, UnknownNameError
from mechft.models.build import ModelConfig, build_model, clone
from mechft.models.hook_points import resid_post
from mechft.models.weights import block_matrices
from mechft.randomness import generator, preserved_random_state
from mechft.tasks.batch import TokenBatch
from mechft.tasks.pcfg import PCFGTask
from mechft.training.evaluation import accuracy, answer_logits

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

Make = Callable[..., "HookedTransformer"]


@pytest.fixture
def batch(task: PCFGTask) -> TokenBatch:
    return task.query("C", "a").sample(70, generator(0))


def test_after_the_last_block_it_is_the_model(batch: TokenBatch, make_any: Make) -> None:
    model = make_any(0)
    logits: Any
    logits, cache = model.run_with_cache(batch.prompt)
    lens = lens_logits(model, cache[resid_post(1)][:, -1])
    torch.testing.assert_close(lens, logits[:, -1])
    last = logit_lens({"one": model}, batch).frame.iloc[-1]
    answers = answer_logits(model, batch).log_softmax(-1)
    right = answers.gather(1, batch.answer[:, None])[:, 0]
    found = accuracy(model, batch)
    assert (last["accuracy"], last["ci_low"], last["ci_high"], last["n"]) == (
        found.value, found.low, found.high, found.n
    )  # fmt: skip
    assert last["probability"] == pytest.approx(float(right.exp().mean()), rel=1e-5)
    ranks = 1 + (answers > right[:, None]).sum(1).double()
    assert last["rank"] == pytest.approx(float(ranks.mean()), rel=1e-6)


def test_kl_by_hand_and_none_between_twins(batch: TokenBatch, make_any: Make) -> None:
    one, two = make_any(0), make_any(1)
    frame = logit_lens({"base": one, "twin": clone(one), "other": two}, batch).frame
    assert frame.query("model == 'base'")["kl_from_base"].isna().all()
    assert (frame.query("model == 'twin'")["kl_from_base"] == 0).all()
    for block in (0, 1):
        with torch.no_grad():
            p, q = (
                lens_logits(m, m.run_with_cache(batch.prompt)[1][resid_post(block)][:, -1])
                .double()
                .log_softmax(-1)
                for m in (one, two)
            )
        row = frame.query("model == 'other' and block == @block").iloc[0]
        expected = (p.exp() * (p - q)).sum(-1)
        assert row["kl_from_base"] == pytest.approx(float(expected.mean()), rel=1e-5)
        half = 1.96 * float(expected.std()) / 70**0.5
        assert row["kl_from_base_high"] - row["kl_from_base"] == pytest.approx(half, rel=1e-3)


def test_a_change_of_the_last_block_shows_after_it_only(batch: TokenBatch, make_any: Make) -> None:
    base = make_any(0)
    edited = clone(base)
    with torch.no_grad():
        block_matrices(edited)["blocks.1.mlp.W_out"].tensor.mul_(-2)
    kl = logit_lens({"base": base, "edited": edited}, batch).frame["kl_from_base"]
    assert kl.iloc[2] == 0
    assert kl.iloc[3] > 0


def test_the_bases_readout(batch: TokenBatch, make_any: Make) -> None:
    """A model that differs in its unembedding alone is the base when read by the base's."""
    base = make_any(0)
    edited: Any = clone(base)
    with torch.no_grad():
        # GPT-2 ties its unembedding to the embedding; the final norm belongs to nobody else.
        scale = edited.ln_final.w if hasattr(edited.ln_final, "w") else edited.ln_final.weight
        scale.mul_(3)
    models = {"base": base, "edited": edited}
    own = logit_lens(models, batch).frame.query("model == 'edited'")
    read = logit_lens(models, batch, readout="base").frame.query("model == 'edited'")
    assert (own["kl_from_base"] > 0.01).all()
    assert (read["kl_from_base"] == 0).all()
    assert set(read["readout"]) == {"base"}


def test_equal_logits_share_their_rank(batch: TokenBatch, make_model: Make) -> None:
    model = make_model(0)
    with torch.no_grad():
        for name in ("unembed.W_U", "unembed.b_U"):
            model.get_parameter(name).zero_()
    size = model.cfg.d_vocab
    last = logit_lens({"flat": model}, batch).frame.iloc[-1]
    assert last["rank"] == pytest.approx((size + 1) / 2)
    assert last["probability"] == pytest.approx(1 / size)


def test_another_target_is_another_answer(batch: TokenBatch, make_model: Make) -> None:
    model = make_model(0)
    likeliest = answer_logits(model, batch).argmax(-1)
    last = logit_lens({"one": model}, replace(batch, answer=likeliest)).frame.iloc[-1]
    assert (last["accuracy"], last["rank"]) == (1, 1)


def test_batches_add_up(batch: TokenBatch, make_model: Make) -> None:
    models = {"base": make_model(0), "other": make_model(1)}
    whole = logit_lens(models, batch).frame
    split = logit_lens(models, (batch.rows(slice(i, i + 7)) for i in range(0, 70, 7))).frame
    for column in whole.select_dtypes("number"):
        assert split[column].tolist() == pytest.approx(
            whole[column].tolist(), rel=1e-4, nan_ok=True
        )


def test_models_without_a_final_norm_and_with_capped_logits(batch: TokenBatch) -> None:
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    for extra in ({"normalization_type": None}, {"output_logits_soft_cap": 2.0}):
        with preserved_random_state(0), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            cfg = HookedTransformerConfig(
                n_layers=2, d_model=8, n_heads=2, d_head=4, n_ctx=40, d_vocab=80, act_fn="gelu",
                init_mode="xavier_normal", **extra,
            )  # fmt: skip
            model = HookedTransformer(cfg)
        last = logit_lens({"one": model}, batch).frame.iloc[-1]
        assert last["accuracy"] == accuracy(model, batch).value


def test_a_model_that_does_more_is_refused(batch: TokenBatch, make_model: Make) -> None:
    model: Any = make_model(0)
    model.add_hook("hook_embed", lambda value, hook: value)
    logit_lens({"one": model}, batch)  # a hook that changes nothing is no reason

    def shifted(value: torch.Tensor, hook: Any) -> torch.Tensor:
        return value + 5 * torch.arange(value.shape[1])[None, :, None]  # differs by position

    model.add_hook("ln_final.hook_normalized", shifted)
    with pytest.raises(ConfigError, match="logits differ from the model's by"):
        logit_lens({"one": model}, batch)


def test_half_precision(batch: TokenBatch, make_model: Make) -> None:
    models = {"base": make_model(0), "half": make_model(0, torch.bfloat16)}
    frame = logit_lens(models, batch).frame.query("model == 'half'")
    assert (frame["kl_from_base"] < 0.2).all()


def test_bad_input(batch: TokenBatch, make_model: Make, task: PCFGTask) -> None:
    model = make_model(0)
    with pytest.raises(ConfigError, match="at least one model"):
        logit_lens({}, batch)
    with pytest.raises(ConfigError, match="no batch to work on"):
        logit_lens({"one": model}, [])
    wrong: Any = "mean"
    with pytest.raises(UnknownNameError, match=r"readout 'mean'.*own, base"):
        logit_lens({"one": model}, batch, readout=wrong)
    narrow = build_model(ModelConfig(2, 2, 8, len(task.vocabulary), task.sample_length - 1))
    logit_lens({"one": model, "narrow": narrow}, batch)
    with pytest.raises(ConfigError, match="width 16; narrow has 8"):
        logit_lens({"one": model, "narrow": narrow}, batch, readout="base")
    small = build_model(ModelConfig(2, 2, 16, 5, 40))
    with pytest.raises(ConfigError, match="small has 5 tokens"):
        logit_lens({"one": model, "small": small}, batch)
    with torch.no_grad():
        model.get_parameter("blocks.1.mlp.b_out").fill_(float("nan"))
    with pytest.raises(ConfigError, match=r"lens at blocks\.1\.hook_resid_post.*not finite"):
        logit_lens({"one": model}, batch)
