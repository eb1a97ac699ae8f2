"""The planted correlation: as often as asked, by the fewest edits, labels left as they were."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mechft.errors import ConfigError, UnknownNameError
from mechft.randomness import generator
from mechft.tasks.correlation import Correlation, plant_count, plant_index
from mechft.tasks.pcfg import PCFGTask
from mechft.tasks.pcfg_config import PRESETS, preset


def differences(task: PCFGTask, family: str, correlation: Correlation, size: int = 2000) -> Tensor:
    batch = task.query(family, "b", correlation).sample(size, generator(0, family))
    return batch.labels[f"{family}(b)"] - batch.labels[f"{family}(a)"]


@pytest.mark.parametrize("family", ["C", "I"])
@pytest.mark.parametrize("offset", [1, -1, 2])
@pytest.mark.parametrize("name", ["tiny", "paper"])
def test_holds_always_or_never(family: str, offset: int, name: str) -> None:
    task = PCFGTask(preset(name))
    assert (differences(task, family, Correlation(1.0, offset), 300) == offset).all()
    assert (differences(task, family, Correlation(0.0, offset), 300) != offset).all()


@pytest.mark.parametrize("probability", [0.25, 0.8])
@pytest.mark.parametrize("family", ["C", "I"])
def test_holds_with_its_probability(family: str, probability: float) -> None:
    task = PCFGTask(preset("tiny"))
    correlation = Correlation(probability)
    batch = task.query(family, "a", correlation).sample(4000, generator(1))
    held = (batch.labels[f"{family}(b)"] - batch.labels[f"{family}(a)"]) == 1
    assert batch.correlated is not None and torch.equal(held, batch.correlated)
    assert float(held.float().mean()) == pytest.approx(probability, abs=0.03)


@pytest.mark.parametrize("family", ["C", "I"])
@pytest.mark.parametrize("name", PRESETS)
def test_labels_barely_depend_on_the_correlation(family: str, name: str) -> None:
    """PAPER.md: C = 0 and C = 1 have similar, spread-out labels, little shifted from pretraining's.

    Total variation of r(x, O_FT) below 0.2 between the two and from grammar strings; sampling alone
    makes about 0.03. Spread: the commonest label has under 60%, and standard deviations agree to 20%.
    """
    task = PCFGTask(preset(name))
    labels = [
        task.query(family, "b", c).sample(4000, generator(2, i)).labels[f"{family}(b)"]
        for i, c in enumerate((Correlation(0.0), Correlation(1.0), None))
    ]
    shares = [torch.bincount(values, minlength=400) / len(values) for values in labels]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert float((shares[one] - shares[other]).abs().sum() / 2) < 0.2
        spread = float(labels[one].float().std() / labels[other].float().std())
        assert spread == pytest.approx(1, abs=0.2)
    assert all(float(share.max()) < 0.6 for share in shares)


def test_count_edits_are_the_fewest() -> None:
    """|count(b) − count(a) − q| letters change, none of them b, and the label stays."""
    task, window = PCFGTask(preset("tiny")), 16
    text = task.grammar.sample(3000, 32, generator(3))
    planted = plant_count(text, 0, 1, 1, window, generator(4))
    a, b = (task.answers(text, "C", letter) for letter in "ab")
    possible = task.answers(planted, "C", "b") - task.answers(planted, "C", "a") == 1
    assert float(possible.float().mean()) > 0.99
    edits = (text != planted).sum(1)
    assert torch.equal(edits[possible], (b - a - 1).abs()[possible])
    assert torch.equal(planted == 1, text == 1)
    assert torch.equal(planted[:, :-window], text[:, :-window])
    assert not edits[~possible].any()


def test_index_edits_leave_the_label_alone() -> None:
    task = PCFGTask(preset("tiny"))
    text = task.grammar.sample(3000, 32, generator(5))
    planted = plant_index(text, 0, 1, 1, 3, generator(6))
    assert torch.equal(planted == 1, text == 1)
    holds = task.answers(planted, "I", "b") - task.answers(planted, "I", "a") == 1
    assert float(holds.float().mean()) > 0.3  # b often stands where the a belongs; redrawn
    already = task.answers(text, "I", "b") - task.answers(text, "I", "a") == 1
    assert torch.equal(planted[already & holds], text[already & holds])


def test_uncorrelated_strings_are_unedited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row without the correlation is one of the grammar's own draws, letter for letter."""
    task = PCFGTask(preset("tiny"))
    drawn: set[tuple[int, ...]] = set()
    real = task.grammar.sample

    def recorded(count: int, length: int, draws: torch.Generator) -> Tensor:
        text = real(count, length, draws)
        drawn.update(tuple(row.tolist()) for row in text)
        return text

    source = task.query("C", "b", Correlation(0.5))
    monkeypatch.setattr(task.grammar, "sample", recorded)
    batch = source.sample(200, generator(7))
    assert batch.correlated is not None
    unedited = [tuple(row.tolist()) in drawn for row in task.text(batch.tokens)]
    assert all(same for same, held in zip(unedited, batch.correlated, strict=True) if not held)
    assert not all(unedited)  # planting does edit


@pytest.mark.parametrize(
    ("family", "offset"), [("C", 12), ("C", 17), ("C", -17), ("I", 32), ("I", -40)]
)
def test_offset_out_of_reach(family: str, offset: int) -> None:
    task = PCFGTask(preset("tiny"))
    with pytest.raises(ConfigError, match=rf"offset q = {offset} is out of reach.*nearer to 0"):
        task.query(family, "b", Correlation(1.0, offset))


def test_bad_correlations() -> None:
    task = PCFGTask(preset("tiny"))
    with pytest.raises(ConfigError, match=r"0..1; got 1.2"):
        Correlation(1.2)
    with pytest.raises(ConfigError, match="two different operands"):
        Correlation(1.0, 1, "a", "a")
    with pytest.raises(ConfigError, match="families C, I; got T"):
        task.query("T", "NULL", Correlation(1.0))
    with pytest.raises(UnknownNameError, match="operand of family C 'd'"):
        task.query("C", "b", Correlation(1.0, 1, "d", "b"))
