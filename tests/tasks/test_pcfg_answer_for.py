"""Asked for one operand, answered for another: the samples that randFT trains on (App. E.4)."""

from __future__ import annotations

import pytest
import torch

from mechft.errors import UnknownNameError
from mechft.randomness import generator
from mechft.tasks.correlation import Correlation
from mechft.tasks.pcfg import PCFGTask
from mechft.tasks.pcfg_config import preset
from tests.tasks.test_answers import slow_answer

TINY = PCFGTask(preset("tiny"))


@pytest.mark.parametrize(
    ("family", "asked", "answered"),
    [("C", "a", "b"), ("C", "c", "a"), ("CC", "aa", "bc"), ("I", "a", "b"), ("IC", "ab", "ca")],
)
def test_answers_are_the_other_operands(family: str, asked: str, answered: str) -> None:
    """Against the definition; texts and questions are those of the right-answered samples."""
    batch = TINY.query(family, asked, answer_for=answered).sample(60, generator(0))
    right = TINY.query(family, asked).sample(60, generator(0))
    at = batch.answer_position + 1
    for row, answer in zip(batch.tokens, batch.answer, strict=True):
        names = TINY.vocabulary.decode(row)
        expected = slow_answer(TINY, "".join(names[5:-4]), family, answered)
        assert names[at] == TINY.vocabulary.names[int(answer)] == expected and names[2] == asked
    assert not torch.equal(batch.answer, right.answer)
    kept = [i for i in range(batch.tokens.shape[1]) if i != at]
    assert torch.equal(batch.tokens[:, kept], right.tokens[:, kept])
    for name, label in right.labels.items():  # labels stay true: they say what is in the text
        assert torch.equal(batch.labels[name], label)


@pytest.mark.parametrize("family", ["C", "I"])
@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
def test_on_correlated_strings(family: str, probability: float) -> None:
    """Where the correlation holds the answer is r(x, O_PT) + q, and nowhere else."""
    source = TINY.query(family, "a", Correlation(probability, 2), answer_for="b")
    batch = source.sample(300, generator(1))
    assert batch.correlated is not None
    value = batch.answer - TINY.vocabulary.id("0")
    assert torch.equal(value, batch.labels[f"{family}(b)"])
    assert torch.equal(value - batch.labels[f"{family}(a)"] == 2, batch.correlated)


def test_answering_for_oneself_changes_nothing() -> None:
    plain, same = (TINY.query("C", "a", answer_for=name) for name in (None, "a"))
    assert plain.sample(50, generator(2)).digest() == same.sample(50, generator(2)).digest()


def test_unknown_operand() -> None:
    with pytest.raises(UnknownNameError, match="operand of family C 'd'"):
        TINY.query("C", "a", answer_for="d")
    with pytest.raises(UnknownNameError, match="operand of family CC 'b'"):
        TINY.query("CC", "aa", answer_for="b")
