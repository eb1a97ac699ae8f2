"""Recipes on compiled programs' tasks: their own defaults, the unembedding untouched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mechft.errors import CheckpointError, ConfigError, UnknownNameError
from mechft.models.build import ModelConfig, build_model, fingerprint
from mechft.tasks.contrast import Contrast
from mechft.tasks.program_config import ProgramConfig
from mechft.tasks.programs import ProgramTask
from mechft.training.controls import fresh, scratch, scratch_finetune
from mechft.training.many import finetune_many, reverse_finetune_many
from mechft.training.plan import finetuning_plan, reversal_plan
from mechft.training.protocols import PROTOCOLS, protocol_of
from mechft.training.recipes import finetune, reverse_finetune
from mechft.training.trained import Trained, load, save

FAST: dict[str, Any] = {"steps": 3, "batch_size": 8, "evaluation_size": 20}
PROGRAMS = {
    "counter": ProgramConfig("counter", length=8),
    "max": ProgramConfig("max", length=8),
}


def program(name: str = "counter", seed: int = 0) -> Trained:
    """The form of a compiled program, with random weights."""
    task = ProgramTask(PROGRAMS[name])
    config = ModelConfig(
        2, 1, 18, len(task.vocabulary), task.n_ctx, d_head=9, d_mlp=12,
        d_vocab_out=len(task.answer_vocabulary), activation="relu", normalization="none",
        attention="bidirectional", initializer_range=0.2,
    )  # fmt: skip
    return Trained(build_model(config, seed), task, name=name)


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_whole_story(name: str, tmp_path: Path) -> None:
    base = program(name)
    unembedding, before = base.model.unembed.W_U.detach().clone(), fingerprint(base.model)
    ft = finetune(base, **FAST)
    assert ft.contrast == base.contrast == base.task.contrast
    assert ft.lineage[-1]["learning_rate"] == 1e-2
    assert set(ft.history["evaluation"]) == {
        "acc_pt_cte0", "acc_pt_cte1", "acc_ft_cte0", "acc_ft_cte1",
    }  # fmt: skip
    back = reverse_finetune(ft, **FAST)
    assert back.lineage[-1]["operand"] == base.task.contrast.pretraining_operand
    assert fingerprint(base.model) == before != fingerprint(ft.model) != fingerprint(back.model)
    for made in (ft, back):
        assert torch.equal(made.model.unembed.W_U, unembedding)
    again = load(save(back, tmp_path / "back.safetensors"))
    assert isinstance(again.task, ProgramTask)
    assert again.task.to_dict() == base.task.to_dict() and again.contrast == base.contrast
    assert fingerprint(again.model) == fingerprint(back.model)


def test_defaults_are_the_papers() -> None:
    """Jain et al., Setup 1: SGD, 10,000 steps, 2,000 of them up to the peak, 1/100 at the end."""
    config = finetuning_plan(program(), learning_rate="VS").config
    assert (config.optimizer, config.momentum, config.decay) == ("sgd", 0.9, 0.0)
    assert (config.steps, config.batch_size, config.loss) == (10_000, 96, "answer")
    assert config.frozen == ("unembed.W_U", "unembed.b_U")
    rates = [config.rate(step) for step in (0, 1998, 1999, 2000, 9999)]
    assert rates[0] == pytest.approx(1e-4 / 2000)
    assert rates[1] < rates[2] == rates[3] == pytest.approx(1e-4)
    assert rates[4] == pytest.approx(1e-6)
    assert reversal_plan(program()).config.learning_rate == 1e-3


def test_operands_and_offset_of_ones_own() -> None:
    plan = finetuning_plan(program("max"), "7", offset=3, train_correlation=0.5, **FAST)
    made = plan.finished(program("max").model, [])
    assert made.contrast == Contrast("max", "5", "7", 3)
    assert bool(plan.source.sample(4, torch.Generator()).answer.numel())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"operand": "z"}, "operand of family counter 'z'"),
        ({"family": "C"}, "task family 'C'.*Known: counter"),
        ({"learning_rate": "XL"}, "Known: L, M, S, VS"),
    ],
)
def test_bad_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        finetune(program(), **{**FAST, **settings})


def test_controls() -> None:
    """Scr. shares the way answers are read and nothing else; Scr.+FT starts where it is told."""
    base = program()
    made = fresh(base)
    for name, parameter in made.model.named_parameters():
        same = torch.equal(parameter, base.model.get_parameter(name))
        assert same == (name in PROTOCOLS["program"].frozen or not parameter.any()), name
    assert scratch(base, steps=2).lineage[-1]["learning_rate"] == 1e-1
    control = scratch_finetune(program(seed=1), contrast=base.contrast, **FAST)
    assert control.name == "Scr.+FT" and control.lineage[-1]["family"] == "counter"


def test_a_model_of_another_program_is_refused(tmp_path: Path) -> None:
    wrong = Trained(program("counter").model, program("max").task)
    with pytest.raises(CheckpointError, match="not made for each other"):
        load(save(wrong, tmp_path / "wrong.safetensors"))


def test_a_task_of_unknown_kind() -> None:
    class Mine(ProgramTask):
        kind = "mine"

    with pytest.raises(UnknownNameError, match=r"protocols 'mine'.*Known: pcfg, program"):
        protocol_of(Mine())


def test_many_at_once_equal_one_by_one() -> None:
    """A grid in one ensemble, then reFT of all; lineages say what was done to which."""
    base = program()
    grid: list[dict[str, Any]] = [
        {"learning_rate": rate, "train_correlation": share}
        for rate in ("M", "S")
        for share in (0.0, 1.0)
    ]
    found = finetune_many(base, grid, **FAST)
    assert [made.name for made in found] == [f"counter+ft {i}" for i in range(4)]
    back = reverse_finetune_many(found, [{}] * 4, learning_rate="S", **FAST)
    for i, (made, settings) in enumerate(zip(found, grid, strict=True)):
        alone = finetune(base, **settings, **FAST)
        returned = reverse_finetune(alone, learning_rate="S", **FAST)
        assert made.lineage == alone.lineage and back[i].lineage == returned.lineage
        for one, other in ((made, alone), (back[i], returned)):
            for p, q in zip(one.model.parameters(), other.model.parameters(), strict=True):
                torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6)
    with pytest.raises(ConfigError, match="one for each of the 4 settings; got 3"):
        reverse_finetune_many(found[:3], [{}] * 4)


def test_a_diverged_member_says_so_in_its_lineage() -> None:
    settings = {"steps": 60, "batch_size": 8, "evaluation_size": 20}
    good, bad = finetune_many(
        program(), [{"learning_rate": 1e-3}, {"learning_rate": 1e25}], **settings
    )
    assert "diverged_at" not in good.lineage[-1] and 1 < bad.lineage[-1]["diverged_at"] <= 60
    assert all(bool(p.isfinite().all()) for p in bad.model.parameters())
    assert max(bad.history["step"]) < bad.lineage[-1]["diverged_at"]
