"""Rows spread evenly over labels: counts by hand, and what guessing gets on them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from mechft.errors import ConfigError, UnknownNameError
from mechft.randomness import generator
from mechft.tasks.balanced import Balanced
from mechft.tasks.batch import TokenBatch
from mechft.tasks.contrast import Contrast
from mechft.tasks.pcfg import PCFGTask
from mechft.tasks.pcfg_config import PCFGConfig
from mechft.training.behaviour import behaviour_queries


@dataclass(frozen=True)
class Listed:
    """Rows with given labels, in order; each row's token is its number."""

    values: tuple[tuple[int, int], ...]

    def sample(self, size: int, generator: torch.Generator) -> TokenBatch:
        assert size == len(self.values)
        one, other = torch.tensor(self.values).T
        return TokenBatch(torch.arange(size)[:, None], 0, one, {"one": one, "other": other})


@pytest.mark.parametrize(
    ("labels", "kept"),
    [
        # Pairs (1, 1) at 0 1 2 5, (1, 2) at 3, (2, 1) at 4 6 7: the first of each, then a second of two.
        (("one", "other"), [0, 1, 3, 4]),
        # Alone: ones at 0 1 2 3 5, twos at 4 6 7.
        (("one",), [0, 1, 4, 6]),
        (("other",), [0, 1, 2, 3]),
    ],
)
def test_first_of_every_combination_then_second(labels: tuple[str, ...], kept: list[int]) -> None:
    rows = ((1, 1), (1, 1), (1, 1), (1, 2), (2, 1), (1, 1), (2, 1), (2, 1))
    found = Balanced(Listed(rows), labels, pool=2).sample(4, torch.Generator())
    assert found.tokens.flatten().tolist() == kept
    assert found.answer.tolist() == [rows[i][0] for i in kept]


@pytest.mark.parametrize("size", [1, 7, 64])
def test_no_combination_is_kept_twice_more_than_another_that_has_rows_left(size: int) -> None:
    draw = torch.Generator().manual_seed(1)
    values = torch.randint(5, (4 * size, 2), generator=draw) ** 2
    rows = tuple((a, b) for a, b in values.tolist())
    kept = Balanced(Listed(rows), ("one", "other"), pool=4).sample(size, draw)
    pairs = list(zip(kept.labels["one"].tolist(), kept.labels["other"].tolist(), strict=True))
    assert len(pairs) == size
    for pair in set(rows):
        if pairs.count(pair) < rows.count(pair):  # some are left: then no other has two more
            assert max(pairs.count(other) for other in set(pairs)) <= pairs.count(pair) + 1


@pytest.mark.parametrize("config", [PCFGConfig(), PCFGConfig(250, 40, 6, 6, 40)])
def test_guessing_gets_little_on_the_studys_questions(config: PCFGConfig) -> None:
    task, contrast = PCFGTask(config), Contrast()
    plain = behaviour_queries(task, contrast)["acc_pt_cte0"].sample(1000, generator(0, "plain"))
    assert float(plain.answer.bincount().max()) / 1000 > 0.3
    for name, query in behaviour_queries(task, contrast, balanced=True).items():
        batch = query.sample(1000, generator(0, name))
        a, b = batch.labels["C(a)"], batch.labels["C(b)"]
        assert float(batch.answer.bincount().max()) / 1000 < 1 / 3
        with_ = b - a == contrast.offset
        assert with_.all() if name.endswith("cte1") else not (with_ | (a == b)).any()
        if name == "acc_pt_cte0":  # one more or one less than the other's count says little
            assert float((a == b + 1).double().mean()) < 0.3


def test_the_same_generator_gives_the_same_rows() -> None:
    query = behaviour_queries(PCFGTask(PCFGConfig()), Contrast(), balanced=True)["acc_ft_cte0"]
    one, other = (query.sample(50, generator(3, "x")) for _ in range(2))
    assert one.digest() == other.digest()


def test_errors() -> None:
    listed = Listed(((1, 1), (1, 2)))
    with pytest.raises(UnknownNameError, match="label"):
        Balanced(listed, ("three",), pool=1).sample(2, torch.Generator())
    with pytest.raises(ConfigError, match="At least one row"):
        Balanced(listed, ("one",), pool=0)
    with pytest.raises(ConfigError, match="name at least one"):
        Balanced(listed, ())
    with pytest.raises(ConfigError, match="balanced=False"):
        behaviour_queries(PCFGTask(PCFGConfig()), Contrast("CC", "aa", "bb"), balanced=True)
