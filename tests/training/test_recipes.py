"""Recipes: inputs stay as they were, lineage grows, names and settings are checked first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from mechft.errors import CheckpointError, ConfigError, OutputExistsError, UnknownNameError
from mechft.models.build import fingerprint
from mechft.models.channels import attach_labels_, residual_labels
from mechft.randomness import generator
from mechft.tasks.contrast import Contrast
from mechft.tasks.pcfg import PCFGTask
from mechft.training.controls import fresh, scratch, scratch_finetune
from mechft.training.evaluation import accuracy, answer_logits
from mechft.training.recipes import finetune, pretrain, reverse_finetune
from mechft.training.trained import Trained, load, save

FAST: dict[str, Any] = {"steps": 3, "batch_size": 8, "evaluation_size": 20}


def test_the_whole_story(trained: Trained, tmp_path: Path) -> None:
    before = fingerprint(trained.model)
    ft = finetune(trained, "b", **FAST, name="ft")
    back = reverse_finetune(ft, **FAST)
    assert fingerprint(trained.model) == before
    assert len({before, fingerprint(ft.model), fingerprint(back.model)}) == 3
    assert [entry["recipe"] for entry in back.lineage] == ["finetune", "reverse_finetune"]
    assert back.lineage[0]["train_correlation"] == 1.0
    names = {"acc_pt_cte0", "acc_pt_cte1", "acc_ft_cte0", "acc_ft_cte1"}
    assert set(ft.history["evaluation"]) == names
    assert set(ft.history["step"]) == {0, 1, 2, 3}
    again = load(save(back, tmp_path / "back.safetensors"))
    assert again.lineage == back.lineage
    pd.testing.assert_frame_equal(again.history, back.history)


def test_same_seed_same_bits(trained: Trained) -> None:
    one, same, other = (finetune(trained, "b", seed=seed, **FAST) for seed in (0, 0, 1))
    assert fingerprint(one.model) == fingerprint(same.model) != fingerprint(other.model)


def test_scratch_shares_nothing_but_the_shape(trained: Trained) -> None:
    made = fresh(trained)
    assert made.model.W_E.shape == trained.model.W_E.shape
    assert float((made.model.W_E - trained.model.W_E).detach().abs().mean()) > 0.01
    control = scratch(trained, steps=2, batch_size=8, evaluation_size=20)
    assert control.lineage[-1]["batch_size"] == 8 and set(control.history["n"]) == {20}
    assert control.name == "Scr."
    assert [entry["recipe"] for entry in control.lineage] == ["fresh", "reverse_finetune"]


def test_fresh_keeps_what_is_no_weight(make_model: Callable[..., Any], task: PCFGTask) -> None:
    """dtype, device and names of channels are the model's; weights are those of the same seed."""
    like = Trained(make_model(dtype=torch.float64), task)
    names = [f"channel:{i}" for i in range(like.model.cfg.d_model)]
    attach_labels_(like.model, names)
    before = fingerprint(like.model)
    made, plain = fresh(like, 3), fresh(Trained(make_model(), task), 3)
    assert residual_labels(made.model) == tuple(names)
    for p, q in zip(made.model.parameters(), plain.model.parameters(), strict=True):
        assert p.dtype == torch.float64 and torch.equal(p, q.double())
    assert fingerprint(like.model) == before
    like.model.to("meta", print_details=False)  # the one other device every machine has
    elsewhere = fresh(like).model
    assert (
        {str(p.device) for p in elsewhere.parameters()} == {"meta"} == {str(elsewhere.cfg.device)}
    )


def test_controls_follow_the_contrast(trained: Trained) -> None:
    """After an Indexer with q = 2 on c, reFT goes back to that operand and watches that one."""
    ft = finetune(trained, "c", family="I", pretraining_operand="b", offset=2, **FAST)
    assert ft.contrast == Contrast("I", "b", "c", 2)
    back = reverse_finetune(ft, **FAST)
    assert back.contrast == ft.contrast
    entry = back.lineage[-1]
    assert (entry["family"], entry["operand"], entry["finetuning_operand"]) == ("I", "b", "c")
    control = scratch_finetune(trained, contrast=ft.contrast, **FAST)
    assert control.name == "Scr.+FT" and control.lineage[-1]["operand"] == "b"
    assert set(control.history["evaluation"]) == {"acc_pt_cte0", "acc_ft_cte1"}


def test_families_without_a_correlation(trained: Trained) -> None:
    ft = finetune(
        trained, "bb", family="CC", pretraining_operand="aa", train_correlation=None, **FAST
    )
    assert set(ft.history["evaluation"]) == {"acc_pt_plain", "acc_ft_plain"}
    back = reverse_finetune(ft, stop_at=0.0, **FAST)
    assert back.revival(0.5, "acc_pt_plain") is None


def test_a_finished_folder_can_be_loaded(trained: Trained, tmp_path: Path) -> None:
    ft = finetune(trained, "b", directory=tmp_path / "run", **FAST)
    again = load(tmp_path / "run")
    assert fingerprint(again.model) == fingerprint(ft.model) and again.contrast == ft.contrast
    with pytest.raises(CheckpointError, match="state of a training run"):
        load(tmp_path / "run" / "checkpoint.safetensors")


def test_another_question_in_the_same_folder_is_refused(trained: Trained, tmp_path: Path) -> None:
    reverse_finetune(trained, directory=tmp_path, **FAST)
    for change in ({"offset": 2}, {"finetuning_operand": "c"}):
        with pytest.raises(OutputExistsError, match="another run"):
            reverse_finetune(trained, contrast=Contrast(**change), directory=tmp_path, **FAST)
    with pytest.raises(OutputExistsError, match="evaluations"):
        reverse_finetune(trained, directory=tmp_path, **{**FAST, "evaluation_size": 21})


def test_pretrain_by_preset(tmp_path: Path) -> None:
    made = pretrain(
        "tiny", "never_a", steps=2, batch_size=4, evaluation_size=20, directory=tmp_path
    )
    assert made.name == "pcfg-tiny-never-a"
    assert isinstance(made.task, PCFGTask)
    assert made.task.config.operand_prior == (0.0, 1.0, 0.0)
    assert {"C(a)", "C(b)", "I(b)", "CC(bb)", "T(NULL)"} <= set(made.history["evaluation"])


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"operand": "z"}, UnknownNameError, "operand of family C 'z'"),
        ({"family": "X"}, UnknownNameError, "task family 'X'"),
        ({"learning_rate": "XS"}, UnknownNameError, "Known: L, M, S"),
        ({"train_correlation": 1.1}, ConfigError, r"0\.\.1; got 1\.1"),
        ({"offset": 9}, ConfigError, "out of reach"),
        ({"evaluation_size": 0}, ConfigError, "at least one row"),
    ],
)
def test_bad_settings_fail_before_training(
    trained: Trained, settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        finetune(trained, **{"operand": "b", **settings})


def test_accuracy_sees_hooks_and_matches_the_model(trained: Trained) -> None:
    batch = trained.task.query("C", "a").sample(70, generator(0))
    slow = trained.model(batch.prompt)[:, -1]
    torch.testing.assert_close(answer_logits(trained.model, batch), slow, rtol=1e-4, atol=1e-4)
    share = accuracy(trained.model, batch)
    assert share.value == float((slow.argmax(-1) == batch.answer).float().mean())
    hook = ("ln_final.hook_normalized", lambda value, hook: value * 0)
    with trained.model.hooks(fwd_hooks=[hook]):
        constant = answer_logits(trained.model, batch)
    assert float(constant.std(0).max()) < 1e-5  # the hook was not skipped


def test_empty_batch(trained: Trained) -> None:
    batch = trained.task.query("C", "a").sample(4, generator(0))
    empty = type(batch)(batch.tokens[:0], batch.answer_position, batch.answer[:0])
    with pytest.raises(ConfigError, match="at least one row"):
        accuracy(trained.model, empty)
