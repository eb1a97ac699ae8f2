"""Answers of all five families against a slow, obvious reference; samples as PAPER.md lays them out."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mechft.errors import ConfigError, UnknownNameError
from mechft.randomness import generator
from mechft.tasks.families import FAMILIES
from mechft.tasks.pcfg import PCFGTask
from mechft.tasks.pcfg_config import OPERAND_PRIORS, PRESETS, PCFGConfig, preset


def slow_answer(task: PCFGTask, text: str, family: str, operand: str) -> str:
    """The answer as a token, straight from the definition."""
    config, width = task.config, len(operand)
    starts = [i for i in range(len(text) - width + 1) if text[i : i + width] == operand]
    if family == "T":
        return text[len(text) - config.lookback]
    if family in ("C", "CC"):
        window = range(len(text) - config.counting_window, len(text))
        return str(sum(i in window and i + width - 1 in window for i in starts))
    wanted = config.occurrence if family == "I" else config.pair_occurrence
    from_the_end = [len(text) - i for i in reversed(starts)]
    return str(from_the_end[wanted - 1] if len(from_the_end) >= wanted else 0)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("family", FAMILIES)
def test_query_answers_match_the_reference(name: str, family: str) -> None:
    task = PCFGTask(preset(name))
    for operand in task.operands(family):
        batch = task.query(family, operand).sample(40, generator(0, family, operand))
        for row, answer in zip(batch.tokens, batch.answer, strict=True):
            text = "".join(task.vocabulary.decode(task.text(row[None])[0]))
            expected = slow_answer(task, text, family, operand)
            assert task.vocabulary.names[int(answer)] == expected
            assert int(row[batch.answer_position + 1]) == int(answer)


@pytest.mark.parametrize("name", PRESETS)
def test_pretraining_samples_match_the_reference(name: str) -> None:
    task = PCFGTask(preset(name, "high"))
    batch = task.pretraining().sample(300, generator(1))
    seen = set()
    for row in batch.tokens:
        names = task.vocabulary.decode(row)
        assert names[0] == "SOS" and names[4] == "SOT"
        assert names[-4:-2] == ["EOT", "ART"] and names[-1] == "EOS"
        family, operand, argument = names[1:4]
        assert argument == str(task.argument(family))
        assert names[-2] == slow_answer(task, "".join(names[5:-4]), family, operand)
        seen.add(family)
    assert seen == set(FAMILIES)


@pytest.mark.parametrize(
    ("text", "family", "operand", "expected"),
    [
        ("cccaaabcaab", "C", "a", 3),  # the window is the last six letters
        ("ccccccaaaaaa", "CC", "aa", 5),  # pairs overlap
        ("aaaaaacccccc", "CC", "aa", 0),
        ("cccccacaaccc", "CC", "aa", 1),  # the pair before the window does not count
        ("bcabcbccbcca", "I", "a", 10),  # second a from the end
        ("bbbbbbbbbbba", "I", "a", 0),  # there is no second a
        ("ccabcccccccc", "IC", "ab", 10),  # a pair's position is its first letter's
    ],
)
def test_by_hand(task: PCFGTask, text: str, family: str, operand: str, expected: int) -> None:
    letters = torch.tensor([["abc".index(c) for c in text.rjust(12, "c")]])
    assert task.answers(letters, family, operand).tolist() == [expected]


@pytest.mark.parametrize("prior", OPERAND_PRIORS)
def test_operand_prior(prior: str) -> None:
    task = PCFGTask(preset("tiny", prior))
    batch = task.pretraining().sample(6000, generator(2))
    counting = batch.tokens[batch.tokens[:, 1] == task.vocabulary.id("C")]
    share = torch.bincount(counting[:, 2], minlength=3)[:3] / len(counting)
    assert share.tolist() == pytest.approx(OPERAND_PRIORS[prior], abs=0.05)
    assert all(share[i] == 0 for i in range(3) if OPERAND_PRIORS[prior][i] == 0)


def test_config_survives_json() -> None:
    import json

    task = PCFGTask(preset("small", "medium"))
    again = PCFGTask.from_dict(json.loads(json.dumps(task.to_dict())))
    assert again.config == task.config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"operand_prior": (0.5, 0.3, 0.1)}, "sums to 0.9"),
        ({"operand_prior": (1.5, -0.5, 0.0)}, r"probability in 0..1"),
        (
            {"counting_window": 33},
            "counting_window lies between 1 and the text's 32 letters; got 33",
        ),
        ({"lookback": 0}, "lookback lies between 1"),
        ({"text_length": 1000}, "longest string; got 1000"),
        ({"families": ()}, "at least one task family"),
    ],
)
def test_bad_configs(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PCFGConfig(**change)


def test_unknown_names_list_the_known(task: PCFGTask) -> None:
    with pytest.raises(UnknownNameError, match=r"preset 'tinny'. Did you mean 'tiny'.*paper"):
        preset("tinny")
    with pytest.raises(UnknownNameError, match="operand prior 'lo'"):
        preset("tiny", "lo")
    with pytest.raises(UnknownNameError, match=r"task family 'X'.*CC"):
        PCFGConfig(families=("C", "X"))
    with pytest.raises(UnknownNameError, match=r"operand of family CC 'a'.*aa"):
        task.query("CC", "a")
    with pytest.raises(UnknownNameError, match="task family 'count'"):
        task.query("count", "a")
