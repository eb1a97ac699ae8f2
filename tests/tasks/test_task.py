"""Every task has the members that recipes need, and comes back from its description."""

from __future__ import annotations

import json

import pytest
import torch

from mechft.errors import UnknownNameError
from mechft.randomness import generator
from mechft.tasks.batch import Source
from mechft.tasks.contrast import Contrast
from mechft.tasks.pcfg import PCFGTask
from mechft.tasks.pcfg_config import preset
from mechft.tasks.program_config import ProgramConfig
from mechft.tasks.programs import ProgramTask
from mechft.tasks.task import KINDS, Task, task_from_dict

TASKS: dict[str, PCFGTask | ProgramTask] = {
    "pcfg": PCFGTask(preset("tiny")),
    "counter": ProgramTask(ProgramConfig()),
    "max": ProgramTask(ProgramConfig("max")),
    "padded": ProgramTask(ProgramConfig("max", 12, 6)),
}


@pytest.mark.parametrize("name", TASKS)
def test_members_belong_together(name: str) -> None:
    """The contrast can be asked, prompts fit the context, ids are of their vocabularies."""
    task = TASKS[name]
    assert isinstance(task, Task)
    contrast = task.contrast
    assert task.can_correlate(contrast.family)
    for operand in (contrast.pretraining_operand, contrast.finetuning_operand):
        assert operand in task.operands(contrast.family)
        source = task.query(contrast.family, operand, contrast.correlation(0.5))
        assert isinstance(source, Source)
        batch = source.sample(64, generator(0, operand))
        assert batch.answer_position == task.answer_position
        assert batch.prompt.shape[1] <= task.n_ctx
        assert bool((batch.tokens >= 0).all()) and int(batch.tokens.max()) < len(task.vocabulary)
        assert bool((batch.answer >= 0).all())
        assert int(batch.answer.max()) < len(task.answer_vocabulary)
        value = batch.labels[f"{contrast.family}({operand})"]
        first = "a" if name in ("max", "padded") else "0"
        assert torch.equal(batch.answer, value + task.answer_vocabulary.id(first))


@pytest.mark.parametrize("name", TASKS)
def test_back_from_json(name: str) -> None:
    task = TASKS[name]
    again = task_from_dict(json.loads(json.dumps(task.to_dict())))
    assert type(again) is type(task) and again.config == task.config
    assert again.to_dict() == task.to_dict()
    contrast = task.contrast
    draws = [
        made.query(contrast.family, contrast.finetuning_operand).sample(20, generator(1)).digest()
        for made in (task, again)
    ]
    assert draws[0] == draws[1]


def test_pcfg_members() -> None:
    task = PCFGTask(preset("tiny"))
    assert task.answer_vocabulary is task.vocabulary
    assert task.n_ctx == 32 + 9 - 1
    assert task.contrast == Contrast("C", "a", "b", 1)
    assert [family for family in ("C", "CC", "I", "IC", "T") if task.can_correlate(family)] == [
        "C",
        "I",
    ]
    with pytest.raises(UnknownNameError, match="task family 'counter'"):
        task.can_correlate("counter")


@pytest.mark.parametrize("values", [{"kind": "sort"}, {}])
def test_unknown_kinds(values: dict[str, str]) -> None:
    with pytest.raises(UnknownNameError, match=r"kind of task .*Known: pcfg, program"):
        task_from_dict(values)


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_of_another_kind(kind: str) -> None:
    with pytest.raises(UnknownNameError, match=f"kind of task 'other'.*Known: {kind}"):
        KINDS[kind].from_dict({"kind": "other"})


def test_what_lacks_a_member_is_no_task() -> None:
    assert not isinstance(object(), Task)
    assert not isinstance(PCFGTask(preset("tiny")).query("C", "a"), Task)
