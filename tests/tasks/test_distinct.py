"""Strings without the correlation in which both answers differ: a right answer says which was given."""

from __future__ import annotations

import pytest
import torch

from mechft.randomness import generator
from mechft.tasks.contrast import Contrast
from mechft.tasks.pcfg import PCFGTask
from mechft.tasks.pcfg_config import PCFGConfig
from mechft.tasks.program_config import ProgramConfig
from mechft.tasks.programs import ProgramTask
from mechft.tasks.task import Task

CASES = [
    (PCFGTask(PCFGConfig()), Contrast("C", "a", "b", 1)),
    (PCFGTask(PCFGConfig()), Contrast("I", "a", "b", 1)),
    (ProgramTask(ProgramConfig("counter")), Contrast("counter", "a", "b", 1)),
    (ProgramTask(ProgramConfig("max")), Contrast("max", "5", "6", 1)),
]


@pytest.mark.parametrize(("task", "contrast"), CASES)
@pytest.mark.parametrize("probability", [0.0, 0.4, 1.0])
def test_equal_answers_are_left_out_and_nothing_else_changes(
    task: Task, contrast: Contrast, probability: float
) -> None:
    def gaps(distinct: bool) -> tuple[torch.Tensor, torch.Tensor]:
        correlation = contrast.correlation(probability, distinct=distinct)
        source = task.query(contrast.family, contrast.pretraining_operand, correlation)
        batch = source.sample(2000, generator(0, "distinct"))
        one, other = (
            batch.labels[f"{contrast.family}({operand})"]
            for operand in (contrast.finetuning_operand, contrast.pretraining_operand)
        )
        assert batch.correlated is not None
        return one - other, batch.correlated

    gap, wanted = gaps(True)
    assert (gap[wanted] == contrast.offset).all()
    assert not ((gap[~wanted] == contrast.offset) | (gap[~wanted] == 0)).any()
    # The gaps are those of all uncorrelated strings, conditioned on being different.
    plain, without = gaps(False)
    plain = plain[~without & (plain != 0)]
    if len(plain):
        for value in plain.unique().tolist():
            share = float((plain == value).double().mean())
            found = float((gap[~wanted] == value).double().mean())
            deviation = (share * (1 - share) * (1 / len(plain) + 1 / len(gap[~wanted]))) ** 0.5
            assert abs(share - found) <= 4.5 * deviation + 1e-3, value


@pytest.mark.parametrize(
    ("config", "share"), [(PCFGConfig(), 0.37), (PCFGConfig(250, 40, 6, 6, 40), 0.26)]
)
def test_how_many_strings_have_as_many_a_as_b(config: PCFGConfig, share: float) -> None:
    source = PCFGTask(config).query("C", "a", Contrast().correlation(0.0))
    labels = source.sample(4000, generator(0, "ties")).labels
    assert float((labels["C(a)"] == labels["C(b)"]).double().mean()) == pytest.approx(
        share, abs=0.03
    )
