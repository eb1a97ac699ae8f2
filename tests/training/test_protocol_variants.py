"""Fine-tuning with pretraining data mixed in, randFT, and pretraining with jailbreak families."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mechft.errors import ConfigError, OutputExistsError, UnknownNameError
from mechft.models.build import ModelConfig, build_model, fingerprint
from mechft.models.checkpoint import load_checkpoint
from mechft.randomness import generator
from mechft.tasks.contrast import Contrast
from mechft.tasks.mixture import MixedSource
from mechft.tasks.pcfg import PCFGTask
from mechft.tasks.pcfg_config import PCFGConfig
from mechft.tasks.program_config import ProgramConfig
from mechft.tasks.programs import ProgramTask
from mechft.training.behaviour import behaviour_queries
from mechft.training.many import finetune_many
from mechft.training.plan import finetuning_plan, reversal_plan
from mechft.training.recipes import finetune, pretrain, reverse_finetune
from mechft.training.trained import Trained, load

FAST: dict[str, Any] = {"steps": 3, "batch_size": 8, "evaluation_size": 20}
FOUR = ["acc_pt_cte0", "acc_pt_cte1", "acc_ft_cte0", "acc_ft_cte1"]


@pytest.fixture(scope="module")
def counting() -> Trained:
    """A very small model that can count a (9 in 10 questions ask it) and hardly b: some seconds."""
    task = PCFGConfig(8, 6, 1, 1, 2, (0.9, 0.1, 0.0), families=("C", "T"))
    made = PCFGTask(task)
    shape = ModelConfig(2, 2, 32, len(made.vocabulary), made.n_ctx)
    return pretrain(task=task, model=shape, steps=250, learning_rate=5e-3)


def program() -> Trained:
    task = ProgramTask(ProgramConfig("counter", length=8))
    shape = ModelConfig(1, 1, 8, len(task.vocabulary), task.n_ctx)
    return Trained(build_model(replace(shape, d_vocab_out=len(task.answer_vocabulary))), task)


# What was there before


def test_a_default_run_is_the_run_it_was(trained: Trained, tmp_path: Path) -> None:
    """The identity that a checkpoint is resumed by, word for word as before there were variants."""
    finetune(trained, directory=tmp_path, **FAST)
    found = load_checkpoint(tmp_path / "checkpoint.safetensors").description["identity"]
    assert set(found.pop("evaluations")) == set(FOUR)
    del found["start"], found["data"]  # hashes of weights and of a draw
    assert found == {
        "config": {
            "steps": 3,
            "learning_rate": 1e-4,
            "batch_size": 8,
            "warmup_fraction": 0.2,
            "final_fraction": 0.01,
            "weight_decay": 0.01,
            "betas": [0.9, 0.95],
            "gradient_clip": 1.0,
            "loss": "answer",
            "answer_weight": 1.0,
            "seed": 582740951088065276,
            "evaluate_at": [0, 1, 2, 3],
            "checkpoint_every": 100,
            "stop_at": None,
        },
        "recipe": "finetune",
        "family": "C",
        "operand": "b",
        "pretraining_operand": "a",
        "train_correlation": 1.0,
        "offset": 1,
        "seed": 0,
        "task": {
            "kind": "pcfg",
            "text_length": 12,
            "counting_window": 6,
            "occurrence": 2,
            "pair_occurrence": 1,
            "lookback": 6,
            "operand_prior": [0.999, 0.001, 0.0],
            "families": ["C", "CC", "I", "IC", "T"],
        },
    }


def test_defaults_spelt_out_are_the_defaults(trained: Trained) -> None:
    plain = finetuning_plan(trained)
    spelt = finetuning_plan(trained, pretraining_share=0.0, randomised=False)
    assert spelt.facts == plain.facts and spelt.config == plain.config
    assert not isinstance(spelt.source, MixedSource)
    digests = [plan.source.sample(40, generator(0)).digest() for plan in (plain, spelt)]
    assert digests[0] == digests[1]


# Mixing


def test_mixed_plans_say_so_and_mix(trained: Trained) -> None:
    plan = finetuning_plan(trained, pretraining_share=0.5, seed=4)
    assert plan.facts == {**finetuning_plan(trained, seed=4).facts, "pretraining_share": 0.5}
    asked = plan.source.sample(2000, generator(0)).tokens[:, 1:3]
    names = trained.task.vocabulary
    ours = ((asked[:, 0] == names.id("C")) & (asked[:, 1] == names.id("b"))).double().mean()
    assert float(ours) == pytest.approx(0.5, abs=0.06)  # 1 in 5,000 rows of pretraining asks it too
    both = finetuning_plan(trained, pretraining_share=0.1, randomised=True).facts
    assert both["pretraining_share"] == 0.1 and both["randomised"] is True


def test_mixing_keeps_what_the_model_could(counting: Trained) -> None:
    """App. E.1: with half the rows from pretraining counting a stays; both learn to count b."""
    settings: dict[str, Any] = {"steps": 60, "learning_rate": 2e-3, "batch_size": 64}
    plain, mixed = (finetune(counting, pretraining_share=s, **settings) for s in (0.0, 0.5))
    before = plain.records[0]
    assert before["evaluation"] == "acc_pt_cte0" and before["accuracy"] > 0.9
    ends = [made.lineage[-1]["final"] for made in (plain, mixed)]
    assert ends[0]["acc_pt_cte0"] + 0.25 < ends[1]["acc_pt_cte0"]
    assert min(end["acc_ft_cte1"] for end in ends) > 0.9
    assert "pretraining_share" not in plain.lineage[-1]
    assert mixed.lineage[-1]["pretraining_share"] == 0.5


def test_members_with_other_shares_have_other_data(trained: Trained) -> None:
    """In one ensemble, too, each member is what ``finetune`` makes of it alone."""
    grid: list[dict[str, Any]] = [
        {}, {"pretraining_share": 0.5}, {"randomised": True}, {"randomised": True, "learning_rate": "M"},
    ]  # fmt: skip
    together = finetune_many(trained, grid, **FAST)
    for made, settings in zip(together, grid, strict=True):
        alone = finetune(trained, **settings, **FAST)
        assert {**made.lineage[-1], "final": 0} == {**alone.lineage[-1], "final": 0}
        for p, q in zip(made.model.parameters(), alone.model.parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-3, atol=1e-5)
    assert len({fingerprint(made.model) for made in together}) == 4


def test_another_variant_in_the_same_folder_is_refused(trained: Trained, tmp_path: Path) -> None:
    # Among four rows a share of 0.001 is not to be seen: its name in the facts tells it apart.
    finetune(trained, directory=tmp_path, **FAST)
    with pytest.raises(OutputExistsError, match=r"pretraining_share is None there and 0\.001 here"):
        finetune(trained, pretraining_share=0.001, directory=tmp_path, **FAST)
    with pytest.raises(OutputExistsError, match="another run"):
        finetune(trained, randomised=True, directory=tmp_path, **FAST)


# randFT


@pytest.mark.parametrize("train_correlation", [None, 0.0, 1.0])
def test_randomised_plans_ask_one_and_teach_the_other(
    trained: Trained, train_correlation: float | None
) -> None:
    plan = finetuning_plan(trained, randomised=True, train_correlation=train_correlation)
    assert plan.facts["randomised"] is True and plan.facts["operand"] == "b"
    batch = plan.source.sample(200, generator(1))
    zero = trained.task.vocabulary.id("0")
    assert (batch.tokens[:, 2] == trained.task.vocabulary.id("a")).all()
    assert torch.equal(batch.answer - zero, batch.labels["C(b)"])
    planted = batch.answer - zero - batch.labels["C(a)"] == 1
    if train_correlation is not None:
        assert float(planted.double().mean()) == train_correlation
    assert list(plan.evaluations) == [*FOUR, "acc_randomised"]
    asked = plan.evaluations["acc_randomised"]
    assert torch.equal(asked.answer - zero, asked.labels["C(b)"])
    assert not (asked.answer - zero == asked.labels["C(a)"] + 1).any()  # C_Te = 0
    usual = finetuning_plan(trained).evaluations
    assert all(plan.evaluations[name].digest() == usual[name].digest() for name in FOUR)


def test_randomised_without_a_correlation(trained: Trained) -> None:
    queries = behaviour_queries(trained.task, Contrast("CC", "aa", "bb"), randomised=True)
    assert list(queries) == ["acc_pt_plain", "acc_ft_plain", "acc_randomised"]
    batch = queries["acc_randomised"].sample(50, generator(2))
    zero = trained.task.vocabulary.id("0")
    assert (batch.tokens[:, 2] == trained.task.vocabulary.id("aa")).all()
    assert torch.equal(batch.answer - zero, batch.labels["CC(bb)"])


def test_randft_teaches_the_wrong_answer_and_reft_the_right_one(counting: Trained) -> None:
    """App. E.4: asked for a it counts b; going back asks for a and wants a's count again."""
    settings: dict[str, Any] = {"steps": 60, "learning_rate": 2e-3, "batch_size": 64}
    made = finetune(counting, randomised=True, train_correlation=None, **settings)
    start = {r["evaluation"]: r["accuracy"] for r in made.records if r["step"] == 0}
    end = made.lineage[-1]["final"]
    assert start["acc_randomised"] < 0.7 and end["acc_randomised"] > 0.9
    assert start["acc_pt_cte0"] > 0.9 and end["acc_pt_cte0"] < 0.7
    assert made.contrast == counting.contrast == Contrast("C", "a", "b", 1)
    plan = reversal_plan(made)
    batch = plan.source.sample(100, generator(3))
    assert torch.equal(batch.answer - counting.task.vocabulary.id("0"), batch.labels["C(a)"])
    assert (batch.tokens[:, 2] == counting.task.vocabulary.id("a")).all()
    back = reverse_finetune(made, **{**settings, "steps": 150})
    assert list(dict.fromkeys(back.history["evaluation"])) == ["acc_pt_cte0", "acc_ft_cte1"]
    assert back.lineage[-1]["final"]["acc_pt_cte0"] > end["acc_pt_cte0"] + 0.1


# What cannot be


def test_programs_take_neither() -> None:
    with pytest.raises(ConfigError, match="kind 'program', which has no pretraining data"):
        finetune(program(), pretraining_share=0.1, **FAST)
    with pytest.raises(ConfigError, match="argument answer_for; got a task of kind 'program'"):
        finetune(program(), randomised=True, **FAST)


def test_bad_settings(trained: Trained) -> None:
    for share in (-0.1, 1.5, float("nan")):
        with pytest.raises(ConfigError, match=rf"lies in 0..1 .*got {share}"):
            finetune(trained, pretraining_share=share, **FAST)
    with pytest.raises(UnknownNameError, match="operand of family C 'z'"):
        finetune(trained, "z", randomised=True, train_correlation=None, **FAST)


# Jailbreak


def test_pretraining_with_jailbreak_families(task: PCFGTask, tmp_path: Path) -> None:
    """They are watched; afterwards the model is fine-tuned on C and can be asked with any token."""
    config = replace(task.config, jailbreak_families=("J1", "J2"))
    made = PCFGTask(config)
    shape = ModelConfig(1, 1, 8, len(made.vocabulary), made.n_ctx)
    base = pretrain(task=config, model=shape, steps=2, batch_size=8, directory=tmp_path)
    watched = set(base.history["evaluation"])
    assert {"J1(a)", "J2(a)", "C(a)", "C(b)"} < watched and "J1(b)" not in watched
    again = load(tmp_path)
    assert isinstance(again.task, PCFGTask)
    assert again.task.config.jailbreak_families == ("J1", "J2")
    ft = finetune(again, **FAST)
    assert ft.contrast == Contrast("C", "a", "b", 1)
    asked = behaviour_queries(ft.task, replace(ft.contrast, family="J1"))
    assert list(asked) == FOUR
    other = finetune(again, family="J2", train_correlation=None, **FAST)
    assert other.contrast.family == "J2"
