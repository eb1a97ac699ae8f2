"""Ablation: zero is W_O without the head, the mean of one row is that row, sweeps equal single cells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mechft.analysis.ablation import ablate, ablate_heads, ablation_sweep
from mechft.analysis.ablation_comparison import _verdict, compare_ablations
from mechft.analysis.ablation_sets import ablate_cumulatively, ablate_pairs, interactions
from mechft.analysis.interventions.replacements import Kind, partners
from mechft.analysis.interventions.sites import Component, Site, all_sites
from mechft.errors import ConfigError, UnknownNameError
from mechft.models.build import clone
from mechft.models.hook_points import has_hooks
from mechft.randomness import generator
from mechft.statistics import Estimate, mean_estimate
from mechft.tasks.batch import TokenBatch
from mechft.tasks.pcfg import PCFGTask
from mechft.training.trained import Trained

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

MakeAny = Callable[..., "HookedTransformer"]


def last_logits(model: HookedTransformer, batch: TokenBatch) -> Tensor:
    """The answer's logits by the model's own forward, with whatever hooks are attached."""
    logits: Tensor = model(batch.prompt)
    return logits[:, -1].detach()


def test_zero_ablation_is_w_o_without_the_head(trained: Trained) -> None:
    model = trained.model
    tokens = trained.task.query("C", "a").sample(20, generator(0)).prompt
    without = clone(model)
    with torch.no_grad():
        without.blocks[1].attn.W_O[0] = 0
        without.blocks[0].attn.W_O[1] = 0
    with ablate(model, [(1, 0), (0, 1)]):
        torch.testing.assert_close(model(tokens), without(tokens))


def test_mean_over_identical_rows_changes_nothing(trained: Trained) -> None:
    batch = trained.task.query("C", "a").sample(1, generator(1))
    plain = trained.model(batch.prompt)
    with ablate(trained.model, [(0, 0), (0, 1), (1, 1)], "mean", reference=batch):
        torch.testing.assert_close(trained.model(batch.prompt), plain)


def test_mean_by_hand(trained: Trained) -> None:
    """Replacing block 1's heads by their means makes the attention output its mean."""
    batch = trained.task.query("C", "a").sample(40, generator(2))
    _, cache = trained.model.run_with_cache(batch.prompt)
    with ablate(trained.model, [(1, 0), (1, 1)], "mean", reference=batch):
        _, ablated = trained.model.run_with_cache(batch.prompt)
    mean = cache["blocks.1.hook_attn_out"].mean(0).expand_as(cache["blocks.1.hook_attn_out"])
    torch.testing.assert_close(ablated["blocks.1.hook_attn_out"], mean, rtol=1e-4, atol=1e-5)


COMPONENTS = ["head", "neuron", "attn_out", "mlp_out", "resid_pre", "resid_mid", "resid_post"]


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("kind", ["zero", "mean", "resample"])
def test_sweep_equals_each_cell(
    make_any: MakeAny, task: PCFGTask, component: Component, kind: Kind
) -> None:
    """Whatever is reused, each number is the one that the ablation alone gives, hook by hook."""
    model = make_any()
    batch = task.query("C", "a").sample(70, generator(3))  # more than one chunk
    sites: list[Site] = all_sites(model, component)
    sites = sites[:: max(1, len(sites) // 6)]
    position = 4
    at = [replace(site, position=position) for site in sites]
    both = [sites[0], sites[-1]]
    found = ablation_sweep(
        model, {"t": batch}, [*sites, *at, both], kinds=[kind], metric="loss", seed=5
    )
    plain = F.cross_entropy(last_logits(model, batch), batch.answer)
    assert len(found) == 2 * len(sites) + 1
    for row in found.frame.to_dict("records"):
        with ablate(model, sites=found.sets[row["sites"]], kind=kind, reference=batch, seed=5):
            slow = F.cross_entropy(last_logits(model, batch), batch.answer)
        assert row["value"] == pytest.approx(float(slow), rel=1e-4)
        assert row["untouched"] == pytest.approx(float(plain), rel=1e-5)
        assert row["change"] == pytest.approx(float(slow - plain), abs=1e-4)
        assert row["change_low"] <= row["change"] <= row["change_high"]


def test_hooks_of_others_stay_in_force(trained: Trained) -> None:
    """A sweep inside another ablation measures the model as it stands."""
    model, batch = trained.model, trained.task.query("C", "a").sample(40, generator(3))
    with ablate(model, [(0, 1)]):
        inside = ablate_heads(model, {"t": batch}, kinds=["zero"], metric="loss").frame
    pair = ablation_sweep(
        model,
        {"t": batch},
        [[Site(0, "head", 1), Site(1, "head", 0)]],
        kinds=["zero"],
        metric="loss",
    ).frame
    row = inside[inside["sites"] == "head 1.0"].iloc[0]
    assert row["value"] == pytest.approx(pair["value"].iloc[0], rel=1e-5)


def test_a_callers_hook_on_the_stream_runs_once(trained: Trained) -> None:
    """A head silenced where it cannot reach the answer changes nothing, whatever the caller's hook adds."""
    model, batch = trained.model, trained.task.query("C", "a").sample(30, generator(3))

    def steer(value: Tensor, hook: Any) -> Tensor:
        return value + 0.5

    with model.hooks(fwd_hooks=[("blocks.1.hook_resid_pre", steer)]):
        first = Site(1, "head", 0, position=0)
        row = ablation_sweep(
            model, batch, [first, Site(0, "head", 0)], kinds=["zero"], metric="loss"
        )
        with ablate(model, sites=[Site(0, "head", 0)]):
            slow = F.cross_entropy(last_logits(model, batch), batch.answer)
    assert row.frame["change"].iloc[0] == pytest.approx(0, abs=1e-5)
    assert row.frame["value"].iloc[1] == pytest.approx(float(slow), rel=1e-5)


@pytest.mark.parametrize("position", [0, -1, -2])
def test_positions_and_sets_equal_hooks_by_hand(
    make_any: MakeAny, task: PCFGTask, position: int
) -> None:
    """The asked place of the last block, negative places, several sites at one hook point, any order."""
    model, batch = make_any(), task.query("C", "a").sample(20, generator(9))
    last = int(model.cfg.n_layers) - 1
    place = slice(position, position + 1 or None)

    def silence(value: Tensor, hook: Any) -> Tensor:
        value = value.clone()
        value[:, place] = 0
        return value

    for component, name in (("head", "attn.hook_z"), ("mlp_out", "hook_mlp_out")):
        sites = [s for s in all_sites(model, component, positions=[position]) if s.block == last]  # type: ignore[arg-type]
        with model.hooks(fwd_hooks=[(f"blocks.{last}.{name}", silence)]):
            slow = F.cross_entropy(last_logits(model, batch), batch.answer)
        found = ablation_sweep(model, batch, [sites], kinds=["zero"], metric="loss").frame
        assert found["value"].iloc[0] == pytest.approx(float(slow), rel=1e-4)
    mixed = [Site(0, "resid_mid"), Site(0, "attn_out"), Site(0, "resid_pre")]
    values = [
        ablation_sweep(model, batch, [order], kinds=["zero"], metric="loss").frame["value"].iloc[0]
        for order in (mixed, mixed[::-1])
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-5)


def test_opposite_effects_are_called_so() -> None:
    def found(value: float) -> Estimate:
        return Estimate(value, 9, value - 0.1, value + 0.1)

    assert _verdict(found(-0.3), found(0.3), found(0.6)) == "reverses"
    assert _verdict(found(-0.3), found(-0.6), found(-0.3)) == "matters more"
    assert _verdict(found(-0.3), found(-0.05), found(0.25)) == "matters less"
    assert _verdict(found(-0.3), found(-0.25), found(0.05)) == "same"
    alone = mean_estimate(torch.tensor([-1e-6]))
    assert _verdict(alone, alone, alone) == "same"  # one row has no interval, so nothing is said


def test_metrics_by_hand(trained: Trained) -> None:
    model, batch = trained.model, trained.task.query("C", "a").sample(50, generator(6))
    site, tasks = [Site(1, "mlp_out")], {"t": batch}
    with torch.no_grad():
        plain = last_logits(model, batch).log_softmax(-1)
    with ablate(model, sites=site), torch.no_grad():
        without = last_logits(model, batch).log_softmax(-1)
    right = torch.arange(50), batch.answer
    others = without.clone()
    others[right] = float("-inf")
    wanted = {
        "accuracy": float((without.argmax(-1) == batch.answer).double().mean()),
        "probability": float(without[right].exp().mean()),
        "logit_diff": float((without[right] - others.amax(1)).mean()),
        "kl": float((plain.exp() * (plain - without)).sum(-1).mean()),
    }
    for metric, value in wanted.items():
        frame = ablation_sweep(model, tasks, site, kinds=["zero"], metric=metric).frame  # type: ignore[arg-type]
        assert frame["value"].iloc[0] == pytest.approx(value, rel=1e-4, abs=1e-6)

    def entropy(logits: Tensor, rows: TokenBatch, untouched: Tensor) -> Tensor:
        logs = logits.log_softmax(-1)
        return -(logs.exp() * logs).sum(-1)

    frame = ablation_sweep(model, tasks, site, kinds=["zero"], metric=entropy).frame
    assert frame["metric"].iloc[0] == "entropy"
    assert frame["value"].iloc[0] == pytest.approx(
        float(-(without.exp() * without).sum(-1).mean()), rel=1e-4
    )
    with pytest.raises(ConfigError, match=r"one number a row.*got \(\)"):
        ablation_sweep(model, tasks, site, metric=lambda logits, rows, untouched: logits.sum())


def test_a_planted_head(trained: Trained) -> None:
    """A head that writes nothing but noise in one model: it stopped mattering, and the others did not."""
    model, batch = trained.model, trained.task.query("C", "a").sample(200, generator(7))
    silent = clone(model)
    with torch.no_grad():
        silent.blocks[1].attn.W_O[1] = 0
    found = compare_ablations(model, silent, {"t": batch}, metric="loss", kinds=["zero"]).frame
    rows = found.set_index("sites")
    assert rows.loc["head 1.1", "finetuned"] == pytest.approx(0, abs=1e-6)
    assert rows.loc["head 1.1", "verdict"] == "matters less"
    assert rows.loc["head 1.1", "base"] != pytest.approx(0, abs=1e-3)
    same = compare_ablations(model, clone(model), {"t": batch}, metric="loss").frame
    assert (same["difference"] == 0).all() and set(same["verdict"]) == {"same"}


def test_pairs_and_cumulative_sets(trained: Trained) -> None:
    model, batch = trained.model, trained.task.query("C", "a").sample(60, generator(8))
    pairs = ablate_pairs(model, {"t": batch}, kinds=["zero"], metric="loss")
    assert sorted(pairs.frame["size"]) == [1] * 4 + [2] * 6
    table = interactions(pairs)
    singles = pairs.frame.set_index("sites")["change"]
    row = table.iloc[0]
    assert row["alone"] == pytest.approx(singles[row["first"]] + singles[row["second"]])
    assert row["interaction"] == pytest.approx(row["change"] - row["alone"])
    order = pairs.ranking("t", ascending=False)
    assert singles[order[0].label] == singles[[s.label for s in order]].max()
    sets = ablate_cumulatively(model, {"t": batch}, order, kinds=["zero"], metric="loss")
    assert sets.frame["size"].tolist() == [1, 2, 3, 4]
    assert sets.frame["value"].iloc[0] == pytest.approx(
        pairs.frame.set_index("sites")["value"][order[0].label], rel=1e-5
    )


def test_one_row_has_no_other(trained: Trained) -> None:
    batch = trained.task.query("C", "a").sample(1, generator(5))
    with pytest.raises(ConfigError, match="one row alone has none"):
        ablation_sweep(trained, batch, kinds=["resample"])


def test_resampling_never_gives_a_row_itself() -> None:
    for n in (2, 3, 50):
        found = partners(n, seed=1)
        assert sorted(found.tolist()) == list(range(n))
        assert not (found == torch.arange(n)).any()


def test_means_that_do_not_fit(trained: Trained) -> None:
    batch = trained.task.query("C", "a").sample(8, generator(4))
    empty = replace(batch, tokens=batch.tokens[:0], answer=batch.answer[:0])
    with (
        pytest.raises(ConfigError, match="at least one row"),
        ablate(trained, [(0, 0)], "mean", reference=empty),
    ):
        pass
    short = replace(batch, answer_position=5)
    with (
        ablate(trained, [(0, 0)], "mean", reference=short) as model,
        pytest.raises(ConfigError, match=r"reach 6 positions.*has 19"),
    ):
        model(batch.prompt)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_hooks_are_gone_after_an_error(trained: Trained, error: type[BaseException]) -> None:
    with pytest.raises(error), ablate(trained.model, [(0, 0)]):
        assert has_hooks(trained.model)
        raise error
    assert not has_hooks(trained.model)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"heads": [(2, 0)]}, ConfigError, r"block in 0\.\.1.*got \(2, 0\)"),
        ({"heads": [(0, 0)], "kind": "median"}, UnknownNameError, "Known: zero, mean, resample"),
        ({"heads": [(0, 0)], "kind": "mean"}, ConfigError, "pass reference=batch"),
        ({"sites": [Site(0, "mlp_out", position=-1)]}, ConfigError, "count from the start"),
        ({"sites": [Site(0, "mlp_out", position=99)]}, ConfigError, r"got 'mlp_out 0 @ 99'"),
        ({"sites": [Site(5, "mlp_out")]}, ConfigError, r"0\.\.1; got 'mlp_out 5'"),
        ({"sites": [Site(0, "neuron", 64)]}, ConfigError, r"neurons 0\.\.63; got 'neuron 0\.64'"),
        ({"heads": []}, ConfigError, r"such as \[\(1, 2\)\]; got \[\]"),
        ({"heads": (0, 1)}, ConfigError, r"list of \(block, head\) pairs"),
    ],
)
def test_bad_input(
    trained: Trained, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message), ablate(trained.model, **arguments):
        pass
    assert not has_hooks(trained.model)
