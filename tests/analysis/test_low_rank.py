"""Rank cuts: Eckart–Young, both ends exact, planted edits need exactly the ranks they were made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor

from mechft.analysis.low_rank import LowRank, low_rank, low_rank_model
from mechft.analysis.weights.pairs import matrix
from mechft.analysis.weights.rank_cut import Keep, RankCut
from mechft.errors import ConfigError, UnknownNameError
from mechft.models.build import clone
from mechft.models.weights import all_weights, block_matrices
from mechft.randomness import generator
from mechft.shortcuts import weights as shortcuts
from mechft.tasks.batch import TokenBatch
from mechft.tasks.pcfg import PCFGTask
from mechft.training.evaluation import answer_logits
from mechft.training.trained import Trained
from tests.analysis.twins import answered_by, bits, same

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

MakeAny = Callable[..., "HookedTransformer"]


@pytest.fixture
def batch(task: PCFGTask) -> TokenBatch:
    return task.query("C", "a").sample(150, generator(0))


def test_truncation_error_is_the_tail(make_any: MakeAny) -> None:
    """Eckart–Young: what is cut off has the norm of the singular values that were cut."""
    base, other = make_any(0).double(), make_any(5).double()
    theirs = block_matrices(other)
    for rank in (1, 5):
        kept = block_matrices(low_rank_model(base, other, rank))
        removed = block_matrices(low_rank_model(base, other, rank, keep="rest"))
        for name, weight in block_matrices(base).items():
            change = matrix(theirs[name].tensor - weight.tensor, weight.kind)
            tail = torch.linalg.svdvals(change)[rank:].norm()
            error = (kept[name].tensor - theirs[name].tensor).norm()
            assert float(error) == pytest.approx(float(tail), rel=1e-9, abs=1e-12)
            cut = matrix(kept[name].tensor - weight.tensor, weight.kind)
            assert int(torch.linalg.matrix_rank(cut, rtol=1e-9)) == min(rank, *change.shape)
            left = (removed[name].tensor - weight.tensor).norm()
            assert float(left) == pytest.approx(float(tail), rel=1e-9, abs=1e-12)


def test_rank_0_and_all_ranks_are_the_models(make_any: MakeAny, batch: TokenBatch) -> None:
    base, other = make_any(0), make_any(5)
    before = bits(base), bits(other)
    ours, theirs = (answer_logits(m, batch) for m in (base, other))
    full = RankCut.of(base, other, keep="top", rest="base").full
    assert torch.equal(answer_logits(low_rank_model(base, other, 0, rest="base"), batch), ours)
    assert torch.equal(answer_logits(low_rank_model(base, other, full), batch), theirs)
    assert torch.equal(answer_logits(low_rank_model(base, other, 0, keep="rest"), batch), theirs)
    gone = low_rank_model(base, other, full, keep="rest", rest="base")
    assert torch.equal(answer_logits(gone, batch), ours)
    # Where the other parameters are the other model's, nothing but the matrices is as it was.
    half = low_rank_model(base, other, 0, rest="finetuned")
    canonical, found, mine = block_matrices(base), all_weights(half), all_weights(base)
    for name, weight in all_weights(other).items():
        expected = mine[name].tensor if name in canonical else weight.tensor
        assert torch.equal(found[name].tensor, expected)
    # One rank short of all differs from all by the least singular value only.
    near = low_rank_model(base, other, full - 1)
    assert not same(bits(near), bits(other))
    assert same(before[0], bits(base)) and same(before[1], bits(other))


@pytest.mark.parametrize("planted", [1, 2])
def test_a_planted_edit_needs_its_rank(make_any: MakeAny, batch: TokenBatch, planted: int) -> None:
    """A wrapper of equal singular values in W_out of the last block: nothing less than all of it does."""
    base = make_any()
    other = clone(base)
    weight = block_matrices(other)["blocks.1.mlp.W_out"].tensor
    draws = torch.Generator().manual_seed(7)
    u, v = (torch.linalg.qr(torch.randn(n, planted, generator=draws)).Q for n in weight.shape)
    with torch.no_grad():
        weight.add_(60 * u @ v.T)
    rows = replace(batch, labels={"row": torch.arange(len(batch))})
    ends = {"new": answer_logits(other, batch), "old": answer_logits(base, batch)}

    def found(keep: Keep, end: str, **options: Any) -> LowRank:
        """The distance of each row's logits from those of one of the models."""

        def distance(logits: Tensor, part: TokenBatch, _: Tensor) -> Tensor:
            gap: Tensor = logits - ends[end][part.labels["row"]]
            return gap.square().sum(1).sqrt()

        return low_rank(
            base, other, {end: rows}, ranks=(0, 1, 2, 3), metric=distance, keep=keep, **options
        )

    kept = found("top", "new", random_draws=2)
    assert kept.ranks_to("new", 0.9999) == planted
    frame = kept.frame.query("change == 'own'").set_index("rank")
    assert frame.loc[planted, "energy"] == pytest.approx(1)
    assert frame.loc[0, "energy"] == 0
    if planted == 2:
        assert frame.loc[1, "energy"] == pytest.approx(0.5, abs=1e-3)
    # As large a change in random directions does something else; without the edit the old is back.
    assert kept.ranks_to("new", 0.5, change="random") is None
    assert found("rest", "old", random_draws=0).ranks_to("old", 0.9999) == planted


def test_the_control_is_as_large(make_any: MakeAny) -> None:
    """Same singular values, orthogonal to the own directions on average, another for every draw."""
    base, other = make_any(0), make_any(5)
    parts = RankCut.of(base, other, keep="top", rest="base")
    random = parts.in_random_directions(0, 0)
    again, second = parts.in_random_directions(0, 0), parts.in_random_directions(0, 1)
    for name, weight in block_matrices(base).items():
        for rank in (1, 4, parts.full):
            own = matrix(parts.weights(rank)[name].double() - weight.tensor, weight.kind)
            step = matrix(random.weights(rank)[name].double() - weight.tensor, weight.kind)
            torch.testing.assert_close(
                torch.linalg.svdvals(step), torch.linalg.svdvals(own), rtol=1e-6, atol=1e-6
            )
        assert torch.equal(random.weights(2)[name], again.weights(2)[name])
        assert not torch.equal(random.weights(2)[name], second.weights(2)[name])
    state = torch.get_rng_state()
    parts.in_random_directions(0, 3)
    assert torch.equal(state, torch.get_rng_state())


def test_frame(make_any: MakeAny, batch: TokenBatch) -> None:
    base, other = make_any(0), make_any(5)
    tasks = {"one": batch, "two": answered_by(other, batch)}
    found = low_rank(base, other, tasks, metric="loss", random_draws=2, name="ft")
    frame = found.frame
    full = 16
    ranks = [0, 1, 2, 4, 8, full]
    for change, expected in (("own", ranks), ("random", ranks)):
        for task in tasks:
            rows = frame[(frame["change"] == change) & (frame["task"] == task)]
            assert rows["rank"].tolist() == expected
            assert (
                rows["interval"].tolist()
                == ["normal"] + ["normal" if change == "own" else "range"] * 5
            )
    ends = frame[frame["rank"].isna()]
    assert set(ends["change"]) == {"base", "finetuned"} and len(ends) == 4
    assert (frame["ci_low"] <= frame["value"] + 1e-9).all()
    assert (frame["value"] <= frame["ci_high"] + 1e-9).all()
    assert set(frame["n"]) == {150} and set(frame["model"]) == {"ft"}
    last = frame.query("change == 'own' and task == 'two' and rank == 16")["value"].item()
    end = ends.query("change == 'finetuned' and task == 'two'")["value"].item()
    assert last == end
    assert frame.query("change == 'own' and rank == 16")["energy"].tolist() == pytest.approx([1, 1])
    values = frame.query("change == 'own' and task == 'two'")["energy"].tolist()
    assert values == sorted(values)


def curve(values: list[float], base: float, finetuned: float, keep: str = "top") -> LowRank:
    import pandas as pd

    rows: list[dict[str, Any]] = [
        {"change": "base", "rank": None, "value": base},
        {"change": "finetuned", "rank": None, "value": finetuned},
        *({"change": "own", "rank": 2**i, "value": value} for i, value in enumerate(values)),
    ]
    frame = pd.DataFrame(rows).assign(model="m", task="t", keep=keep)
    return LowRank(frame.astype({"rank": "Int64"}))


def test_ranks_to() -> None:
    """The first rank from which on the share is reached: falling back does not count."""
    assert curve([0.5, 0.95, 0.7, 0.91, 1.0], 0, 1).ranks_to("t") == 8
    assert curve([0.5, 0.95, 0.7, 0.91, 1.0], 0, 1).ranks_to("t", 0.5) == 1
    assert curve([0.5, 0.95], 0, 1).ranks_to("t", 1.0) is None
    assert curve([0.6, 0.28, 0.1], 1, 0.2).ranks_to("t") == 2  # a loss: 90% of the way down
    assert curve([0.6, 0.9, 0.95], 1, 0.2, keep="rest").ranks_to("t", 0.8) == 2  # on the way back
    with pytest.raises(ConfigError, match="no difference for ranks to carry"):
        curve([0.5], 1, 1).ranks_to("t")
    with pytest.raises(UnknownNameError, match="Unknown task 'u'"):
        curve([0.5], 0, 1).ranks_to("u")
    with pytest.raises(UnknownNameError, match="Unknown model 'x'"):
        curve([0.5], 0, 1).ranks_to("t", model="x")
    with pytest.raises(UnknownNameError, match="Unknown kind of change 'random'"):
        curve([0.5], 0, 1).ranks_to("t", change="random")
    with pytest.raises(ConfigError, match="A share lies in"):
        curve([0.5], 0, 1).ranks_to("t", 0)


def test_models_are_left_alone_on_error(make_any: MakeAny, batch: TokenBatch) -> None:
    base, other = make_any(0), make_any(5)
    before = bits(base), bits(other)
    seen = []

    def stops(logits: Tensor, rows: TokenBatch, _: Tensor) -> Tensor:
        seen.append(len(rows))
        if len(seen) > 8:
            raise KeyboardInterrupt
        return logits[:, 0]

    with pytest.raises(KeyboardInterrupt):
        low_rank(base, other, {"t": batch}, metric=stops)
    assert same(before[0], bits(base)) and same(before[1], bits(other))


def test_bad_input(trained: Trained, make_model: MakeAny, batch: TokenBatch) -> None:
    base, other, tasks = trained.model, make_model(1), {"t": batch}
    wrong: Any
    for wrong in (-1, 17, 1.5, True):
        with pytest.raises(ConfigError, match=r"A rank is a whole number in 0\.\.16"):
            low_rank(base, other, tasks, ranks=[wrong])
    with pytest.raises(ConfigError, match="at least one rank"):
        low_rank(base, other, tasks, ranks=[])
    with pytest.raises(ConfigError, match="Tasks are batches by name"):
        low_rank(base, other, {})
    with pytest.raises(ConfigError, match="random_draws is 0 or more"):
        low_rank(base, other, tasks, random_draws=-1)
    wrong = "bottom"
    with pytest.raises(UnknownNameError, match="Unknown part to keep 'bottom'"):
        low_rank(base, other, tasks, keep=wrong)
    with pytest.raises(UnknownNameError, match="Unknown owner of the other parameters"):
        low_rank(base, other, tasks, rest=wrong)
    broken = clone(other)
    with torch.no_grad():
        all_weights(broken)["pos_embed.W_pos"].tensor[0, 0] = float("nan")
    with pytest.raises(ConfigError, match=r"pos_embed\.W_pos of the fine-tuned model"):
        low_rank(base, broken, tasks)


def test_twins(trained: Trained, batch: TokenBatch) -> None:
    """Nothing to cut: every rank is the base, and the energy of nothing is unknown."""
    found = low_rank(trained, clone(trained.model), {"t": batch}, ranks=(0, 2), random_draws=1)
    assert found.frame["value"].nunique() == 1 and found.frame["energy"].isna().all()


def test_one_liners(trained: Trained, make_model: MakeAny) -> None:
    others = [Trained(make_model(s), trained.task, name=f"ft {s}") for s in (1, 2)]
    found = shortcuts.low_rank(trained, *others, ranks=(0, 4), random_draws=1, size=20)
    assert list(dict.fromkeys(found.frame["model"])) == ["ft 1", "ft 2"]
    with pytest.raises(ConfigError, match="Say which model"):
        found.ranks_to("acc_pt")
    diff = shortcuts.diff_weights(trained, *others)
    assert set(diff.heads["model"]) == set(diff.by_block()["model"]) == {"ft 1", "ft 2"}
    assert set(shortcuts.spectrum(trained, *others).frame["model"]) == {"ft 1", "ft 2"}
    assert set(shortcuts.diff_circuits(trained, *others).frame["model"]) == {"ft 1", "ft 2"}
