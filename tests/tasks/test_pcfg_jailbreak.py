"""Jailbreak families: further names for counting that pretraining asks about a only (App. E.2)."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from mechft.errors import ConfigError, UnknownNameError
from mechft.models.bundled import manifest
from mechft.randomness import generator
from mechft.tasks.contrast import Contrast
from mechft.tasks.correlation import Correlation
from mechft.tasks.pcfg import PCFGTask
from mechft.tasks.pcfg_config import PCFGConfig, preset
from mechft.tasks.task import task_from_dict
from tests.tasks.test_answers import slow_answer

NAMES = ("J1", "J2")
PLAIN = PCFGTask(preset("tiny", "high"))
JAILBREAK = PCFGTask(replace(preset("tiny", "high"), jailbreak_families=NAMES))


def test_tokens_are_appended() -> None:
    """Ids of the plain task stay, so a plain model's weights mean the same tokens."""
    assert JAILBREAK.vocabulary.names == (*PLAIN.vocabulary.names, *NAMES)
    assert JAILBREAK.n_ctx == PLAIN.n_ctx and JAILBREAK.contrast == Contrast("C", "a", "b", 1)
    assert PLAIN.vocabulary.names[:6] == ("a", "b", "c", "aa", "ab", "ac")
    assert PLAIN.vocabulary.names[12:23] == (
        "SOS", "SOT", "EOT", "ART", "EOS", "NULL", "C", "CC", "I", "IC", "T",
    )  # fmt: skip
    assert PLAIN.vocabulary.names[23:] == tuple(str(n) for n in range(33))


def test_a_task_without_them_is_described_as_before() -> None:
    """Checkpoints and the manifest compare these descriptions."""
    assert PLAIN.to_dict() == {
        "kind": "pcfg",
        "text_length": 32,
        "counting_window": 16,
        "occurrence": 3,
        "pair_occurrence": 1,
        "lookback": 16,
        "operand_prior": (0.5, 0.3, 0.2),
        "families": ("C", "CC", "I", "IC", "T"),
    }
    bundled = [entry["task"] for entry in manifest().values() if entry["task"]["kind"] == "pcfg"]
    assert len(bundled) >= 4
    for described in bundled:
        again = json.dumps(PCFGTask.from_dict(described).to_dict(), sort_keys=True)
        assert again == json.dumps(described, sort_keys=True)


def test_back_from_json() -> None:
    again = task_from_dict(json.loads(json.dumps(JAILBREAK.to_dict())))
    assert isinstance(again, PCFGTask) and again.config == JAILBREAK.config
    assert again.vocabulary.names == JAILBREAK.vocabulary.names


@pytest.mark.parametrize("prior", ["high", "low", "never_a"])
def test_pretraining_asks_them_for_a_only(prior: str) -> None:
    """All families equally often, these among them; their answer is the count of a in C's window."""
    size = 7000
    task = PCFGTask(replace(preset("tiny", prior), jailbreak_families=NAMES))
    batch = task.pretraining().sample(size, generator(0))
    families = (*task.config.families, *NAMES)
    for family in families:
        found = int((batch.tokens[:, 1] == task.vocabulary.id(family)).sum())
        assert abs(found - size / 7) < 5 * math.sqrt(size / 7 * 6 / 7)
    for family in NAMES:
        rows = batch.rows(batch.tokens[:, 1] == task.vocabulary.id(family))
        assert (rows.tokens[:, 2] == task.vocabulary.id("a")).all()
        for row in rows.tokens[:50]:
            names = task.vocabulary.decode(row)
            assert names[3] == "16"
            assert names[-2] == slow_answer(task, "".join(names[5:-4]), "C", "a")
    counting = batch.tokens[batch.tokens[:, 1] == task.vocabulary.id("C")]
    share = torch.bincount(counting[:, 2], minlength=3)[:3] / len(counting)
    assert share.tolist() == pytest.approx(task.config.operand_prior, abs=0.08)


@pytest.mark.parametrize("correlation", [None, Correlation(1.0), Correlation(0.5, -1)])
@pytest.mark.parametrize("operand", ["a", "b", "c"])
def test_they_ask_what_c_asks(operand: str, correlation: Correlation | None) -> None:
    """The same draws give the same texts and answers; only the family's token differs."""
    for family in NAMES:
        assert JAILBREAK.can_correlate(family) and JAILBREAK.operands(family) == ("a", "b", "c")
        assert JAILBREAK.argument(family) == JAILBREAK.argument("C")
        batch = JAILBREAK.query(family, operand, correlation).sample(60, generator(1))
        plain = JAILBREAK.query("C", operand, correlation).sample(60, generator(1))
        differing = (batch.tokens != plain.tokens).any(0).nonzero().squeeze(1)
        assert differing.tolist() == [1]
        assert (batch.tokens[:, 1] == JAILBREAK.vocabulary.id(family)).all()
        assert torch.equal(batch.answer, plain.answer)
        for letter in "abc":
            assert torch.equal(batch.labels[f"{family}({letter})"], plain.labels[f"C({letter})"])


@pytest.mark.parametrize("name", ["a", "ab", "SOS", "NULL", "C", "7", ""])
def test_names_that_are_taken(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"token of its own; got '{name}'"):
        PCFGConfig(jailbreak_families=("J1", name))


@pytest.mark.parametrize(
    ("given", "message"), [(("J1", "J1"), "token of its own; got 'J1'"), ("J1", "a tuple of names")]
)
def test_other_bad_settings(given: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PCFGConfig(jailbreak_families=given)


def test_unknown_families() -> None:
    with pytest.raises(UnknownNameError, match=r"task family 'J3'.*J1"):
        JAILBREAK.query("J3", "a")
    with pytest.raises(UnknownNameError, match="task family 'J1'"):
        PLAIN.query("J1", "a")
    with pytest.raises(UnknownNameError, match="task family 'J1'"):
        PCFGConfig(families=("C", "J1"), jailbreak_families=NAMES)
    with pytest.raises(ConfigError, match="families C, I, J1, J2; got T"):
        JAILBREAK.query("T", "NULL", Correlation(1.0))
