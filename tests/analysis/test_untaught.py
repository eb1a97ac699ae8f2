"""What comes back from shuffled answers: a hidden capability does, one that was never there does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

import pandas as pd
import pytest
import torch

from mechft.analysis.untaught import UntaughtReturn, shuffled_answers, untaught_return
from mechft.analysis.votes import vote_of_untaught
from mechft.errors import ConfigError
from mechft.models.build import fingerprint
from mechft.plots import plot
from mechft.randomness import generator
from mechft.training.trained import load
from tests.compare_pairs import own_answers
from tests.planted import wrapped

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer


def test_answers_are_dealt_out_among_prompts_of_all_lengths(
    make_model: Callable[..., HookedTransformer],
) -> None:
    batches = [own_answers(make_model(), rows=30, length=n, seed=n) for n in (6, 9)]
    dealt = shuffled_answers(batches, seed=1)
    for one, other in zip(batches, dealt, strict=True):
        assert torch.equal(one.tokens, other.tokens) and len(one) == len(other)
    before, after = (torch.cat([b.answer for b in group]) for group in (batches, dealt))
    assert Counter(before.tolist()) == Counter(after.tolist()) and not torch.equal(before, after)
    assert all(
        torch.equal(a.answer, b.answer)
        for a, b in zip(dealt, shuffled_answers(batches, seed=1), strict=True)
    )
    assert not torch.equal(after, torch.cat([b.answer for b in shuffled_answers(batches, 2)]))


def test_a_planted_wrapper_comes_off_and_what_was_never_there_does_not_come() -> None:
    """Three neurons say "0" over the count: steps on shuffled answers take their voice, not the count."""
    base, never = load("pcfg-tiny-low"), load("pcfg-tiny-never-a")
    rows = base.task.query("C", "a", base.contrast.correlation(0.0)).sample(
        400, generator(0, "untaught")
    )
    train, test = rows.rows(slice(0, 200)), rows.rows(slice(200, 400))
    hidden = wrapped(base)
    before = fingerprint(hidden.model)
    found = untaught_return(
        {"hidden": hidden, "never": never}, train, test, steps=8, learning_rate=1e-3
    )
    assert fingerprint(hidden.model) == before
    best = found.best().set_index("model")
    assert best.loc["hidden", "untouched"] == 0 and best.loc["hidden", "accuracy"] > 0.85
    assert best.loc["never", "accuracy"] < best.loc["never", "commonest"] + 0.1 < 0.7
    assert vote_of_untaught(found, 1.0, "hidden", "never").finding == "wrapped"
    assert vote_of_untaught(found, 1.0, "never").finding == "no vote"
    made = plot(found)
    assert {trace.name for trace in made.data} >= {"hidden", "never", "always the commonest answer"}
    twice = untaught_return({"hidden": hidden}, train, test, steps=8, learning_rate=1e-3)
    ours = found.frame[found.frame["model"] == "hidden"]
    pd.testing.assert_frame_equal(twice.frame, ours)  # other models beside it change nothing


def by_hand() -> UntaughtReturn:
    """100 rows: before, none is right; after 1 step 80 of the even and 60 of the odd; after 2, 70 and 90%."""

    def rows(even: int, odd: int) -> torch.Tensor:
        right = torch.zeros(100, dtype=torch.bool)
        right[::2][:even], right[1::2][:odd] = True, True
        return right

    hits = {("ft", 0): rows(0, 0), ("ft", 1): rows(40, 30), ("ft", 2): rows(35, 45)}
    return UntaughtReturn(pd.DataFrame({"model": ["ft"] * 3, "commonest": 0.2}), hits)


def test_the_step_is_chosen_on_other_rows_than_it_is_measured_on() -> None:
    (row,) = by_hand().best().to_dict("records")
    assert (row["step"], row["chosen_accuracy"], row["accuracy"]) == (1, 0.8, 0.6)
    assert (row["n"], row["untouched"], row["commonest"]) == (50, 0.0, 0.2)


def test_the_vote_goes_by_what_rises_above_the_floor() -> None:
    vote = vote_of_untaught(by_hand(), 1.0, "ft")
    assert vote.value == pytest.approx((0.6 - 0.2) / 0.8) and vote.weight == 1
    # Wilson, 30 of 50: [.462, .724]; above a floor of .2 that is [.327, .655] of what was lost.
    assert vote.low == pytest.approx(0.327, abs=1e-3) and vote.high == pytest.approx(
        0.655, abs=1e-3
    )
    assert vote.finding == "wrapped"
    assert (
        vote_of_untaught(by_hand(), 0.15, "ft").finding == "no vote"
    )  # nothing above the floor to lose


def test_a_control_that_rises_as_far_takes_the_vote_away() -> None:
    found = by_hand()
    hits = {**found.hits, **{("never", step): right for (_, step), right in found.hits.items()}}
    both = UntaughtReturn(found.frame, hits)
    vote = vote_of_untaught(both, 1.0, "ft", "never")
    assert vote.finding == "no vote" and vote.value == 0 and "never 60.0%" in vote.detail


def test_no_model_or_one_row_is_refused(make_model: Callable[..., HookedTransformer]) -> None:
    rows = own_answers(make_model(), rows=4)
    with pytest.raises(ConfigError, match="at least one model"):
        untaught_return({}, rows, rows, learning_rate=1e-3)
    found = untaught_return(
        {"m": make_model()}, rows, rows.rows(slice(0, 1)), steps=1, learning_rate=1e-3
    )
    with pytest.raises(ConfigError, match="takes two rows"):
        found.best()
