"""One-liners of pruning are the plain forms on rows of their own."""

from __future__ import annotations

import pytest

from mechft.analysis.pruning import prune_curve as plain
from mechft.errors import ConfigError
from mechft.models.build import fingerprint
from mechft.randomness import generator
from mechft.shortcuts.common import behaviour
from mechft.shortcuts.pruning import learn_mask, predicted_answers, prune_curve
from mechft.training.trained import Trained


def test_curve_is_the_plain_one(trained: Trained) -> None:
    """By default and with every option; several models under each other."""
    contrast = trained.contrast
    revive = trained.task.query("C", "a", contrast.correlation(0.0)).sample(
        20, generator(3, "prune", "score")
    )
    curve = prune_curve(
        trained, trained.renamed("other"), counts=(0, 2), random_draws=1, seed=3, scores="fisher",
        unit="column", mode="graft", base=trained, score_size=20, test_size=30,
    )  # fmt: skip
    expected = plain(
        trained, revive, behaviour(trained, contrast, 30, 3), scores="fisher", unit="column",
        counts=(0, 2), mode="graft", base=trained, random_draws=1, seed=3, name="small",
    )  # fmt: skip
    assert curve.frame[curve.frame["model"] == "small"].equals(expected.frame)
    assert set(curve.scores) == {"small", "other"} and len(curve.best("acc_pt", 2)) == 4
    assert set(curve.where(2)["model"]) == {"small", "other"}
    assert set(curve.frame["task"]) == {"acc_pt", "acc_ft_cte1"}


def test_others(trained: Trained) -> None:
    before = fingerprint(trained.model)
    answers = predicted_answers(trained, counts=(1, 3), score_size=20, test_size=30)
    assert set(answers.frame["removal"]) == {"none", "1 removed", "3 removed"}
    learned = learn_mask(trained, train_size=20, test_size=30, steps=2, random_draws=1)
    assert set(learned.frame["task"]) == {"acc_pt", "acc_ft_cte1"}
    assert set(learned.frame["model"]) == {"small"} and learned.trace["loss_keep"].isna().all()
    assert fingerprint(trained.model) == before
    with pytest.raises(ConfigError, match="at least one trained model"):
        prune_curve()
