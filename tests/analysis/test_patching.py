"""Patching: by hand, by theorem (all sites give the donor back), on a known edit, checked at run time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mechft.analysis.interventions.sites import COMPONENTS, Site, all_sites
from mechft.analysis.patching import patch_across, recovered
from mechft.errors import ConfigError, PatchingError, UnknownNameError
from mechft.models.build import ModelConfig, build_model, clone
from mechft.models.hook_points import has_hooks
from mechft.models.weights import all_weights, block_matrices
from mechft.randomness import generator
from mechft.tasks.batch import TokenBatch
from mechft.tasks.pcfg import PCFGTask

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

MakeAny = Callable[..., "HookedTransformer"]


def loss(model: HookedTransformer, batch: TokenBatch) -> Tensor:
    logits: Tensor = model(batch.prompt)
    return F.cross_entropy(logits[:, -1], batch.answer, reduction="none").detach()


def some_logit(logits: Tensor, batch: TokenBatch, untouched: Tensor) -> Tensor:
    """A number on which two random models differ in every row alike, so that there is a gap to share."""
    return logits[:, 3]


def perturbed(model: HookedTransformer, seed: int, only: str = "") -> HookedTransformer:
    """A copy whose block matrices (those whose name holds ``only``) differ."""
    twin, draws = clone(model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in block_matrices(twin).items():
            if only in name:
                weight.tensor.add_(0.3 * torch.randn(weight.tensor.shape, generator=draws))
    return twin


@pytest.mark.parametrize("component", COMPONENTS)
def test_equals_hooks_by_hand(make_any: MakeAny, task: PCFGTask, component: Any) -> None:
    """Each cell is the receiver's loss with the donor's cached value written in by a hook."""
    base = make_any()
    ft, batch = perturbed(base, 1), task.query("C", "a").sample(70, generator(0))
    sites = all_sites(base, component)[::7] if component == "neuron" else all_sites(base, component)
    sites = [*sites[:3], replace(sites[-1], position=-2)]
    frame = patch_across(base, ft, batch, sites, metric="loss").frame
    for direction, donor, receiver in (("base→finetuned", base, ft), ("finetuned→base", ft, base)):
        rows = frame[frame["direction"] == direction].set_index("site")
        _, cache = donor.run_with_cache(batch.prompt)
        for site in sites:
            if (
                component == "resid_mid"
            ):  # a bridge's hook there feeds nothing; see the theorem below
                continue

            def put(value: Tensor, hook: Any, site: Site = site, cache: Any = cache) -> Tensor:
                value = value.clone()
                where = slice(None) if site.position is None else slice(-2, -1)
                unit = slice(None) if site.index is None else slice(site.index, site.index + 1)
                value[:, where, unit] = cache[site.hook][:, where, unit]
                return value

            with receiver.hooks(fwd_hooks=[(site.hook, put)]):
                slow = float(loss(receiver, batch).mean())
            assert rows.loc[site.label, "value"] == pytest.approx(slow, rel=1e-4)
        assert rows["receiver"].iloc[0] == pytest.approx(
            float(loss(receiver, batch).mean()), rel=1e-4
        )
        assert rows["donor"].iloc[0] == pytest.approx(float(loss(donor, batch).mean()), rel=1e-4)


def test_every_site_gives_the_donor_back(make_any: MakeAny, task: PCFGTask) -> None:
    """All sites together, or any residual stream that all later blocks and the readout are shared after."""
    base = make_any()
    ft, batch = perturbed(base, 2), task.query("C", "a").sample(40, generator(1))
    every = [site for component in COMPONENTS for site in all_sites(base, component)]
    frame = patch_across(
        base, ft, batch, [every, *all_sites(base, "resid_post")], metric=some_logit
    ).frame
    for _, rows in frame.groupby("direction"):
        assert rows["donor"].iloc[0] != pytest.approx(rows["receiver"].iloc[0], rel=1e-2)
        for place in (0, 2):  # the set of all, and the last residual stream
            assert rows["value"].iloc[place] == pytest.approx(rows["donor"].iloc[0], rel=1e-5)
            assert rows["recovered"].iloc[place] == pytest.approx(1, abs=1e-3)
        assert rows["value"].iloc[1] != pytest.approx(rows["donor"].iloc[0], rel=1e-2)


def test_resid_mid_feeds_the_stream(make_any: MakeAny, task: PCFGTask) -> None:
    """Models that differ in one attention layer agree from the stream after it on."""
    base = make_any()
    ft = perturbed(base, 3, "blocks.1.attn.W_V")
    batch = task.query("C", "a").sample(40, generator(2))
    frame = patch_across(base, ft, batch, "resid_mid", metric=some_logit).frame
    rows = frame[frame["component"] == "resid_mid"].set_index(["direction", "block"])
    for direction in ("base→finetuned", "finetuned→base"):
        assert rows.loc[(direction, 1), "recovered"] == pytest.approx(1, abs=1e-3)
        assert rows.loc[(direction, 0), "recovered"] == pytest.approx(0, abs=1e-3)


def test_a_known_edit_is_found_where_it_is(make_any: MakeAny, task: PCFGTask) -> None:
    base = make_any()
    ft = perturbed(base, 4, "blocks.0.mlp.W_out")
    batch = task.query("C", "a").sample(60, generator(3))
    result = patch_across(base, ft, {"t": batch}, ["attn_out", "mlp_out"], metric=some_logit)
    rows = result.frame.set_index(["direction", "site"])["recovered"]
    assert rows["base→finetuned", "mlp_out 0"] == pytest.approx(1, abs=1e-3)
    assert rows["finetuned→base", "mlp_out 0"] == pytest.approx(1, abs=1e-3)
    assert rows["base→finetuned", "attn_out 0"] == pytest.approx(0, abs=1e-3)
    assert result.best("t")["site"] == "mlp_out 0"


def test_the_readout(make_any: MakeAny, task: PCFGTask) -> None:
    """A change of the unembedding alone is recovered by the readout and by no residual stream."""
    base = make_any()
    ft = clone(base)
    last = list(all_weights(ft).values())
    # GPT-2's unembedding is its embedding, so that the first residual stream differs as well.
    (weight,) = [w for w in last if "W_U" in w.name or "lm_head.weight" in w.name] or [
        w for w in last if "wte" in w.name
    ]
    tied = "wte" in weight.name
    with torch.no_grad():
        noise = torch.randn(weight.tensor.shape, generator=torch.Generator().manual_seed(5))
        weight.tensor.add_(noise)
    batch = task.query("C", "a").sample(40, generator(4))
    frame = patch_across(base, ft, batch, "resid_post", metric=some_logit).frame.set_index(
        ["direction", "site"]
    )
    for direction in ("base→finetuned", "finetuned→base"):
        readout = frame.loc[(direction, "readout"), "recovered"]
        assert tied or readout == pytest.approx(1, abs=1e-3)
        streams = frame.loc[direction].drop("readout")
        if not tied:
            assert streams["recovered"].tolist() == pytest.approx([0, 0], abs=1e-3)


def test_part_of_a_difference(make_any: MakeAny, task: PCFGTask) -> None:
    """The whole space patches all; the one direction of a rank-one change does too; one across it nothing."""
    base = make_any()
    ft, batch = clone(base), task.query("C", "a").sample(50, generator(5))
    width = int(base.cfg.d_model)
    draws = torch.Generator().manual_seed(6)
    direction = F.normalize(torch.randn(width, generator=draws), dim=0)
    with torch.no_grad():
        w_out = block_matrices(ft)["blocks.0.mlp.W_out"].tensor
        w_out += 2 * torch.outer(1 + torch.rand(len(w_out), generator=draws), direction)
    across = torch.randn(width, generator=draws)
    across = F.normalize(across - (across @ direction) * direction, dim=0)
    site = [Site(0, "mlp_out")]
    whole = patch_across(base, ft, batch, site, metric=some_logit).frame["value"]
    for basis, effect in ((torch.eye(width), 1), (direction[None], 1), (across[None], 0)):
        frame = patch_across(
            base, ft, batch, site, metric=some_logit, subspace={site[0].hook: basis}
        ).frame
        assert frame["recovered"].iloc[0] == pytest.approx(effect, abs=2e-3)
        if effect:
            assert frame["value"].iloc[0] == pytest.approx(whole.iloc[0], rel=1e-4)


def test_twins_have_no_gap(make_any: MakeAny, task: PCFGTask) -> None:
    base = make_any()
    batch = task.query("C", "a").sample(30, generator(6))
    frame = patch_across(base, clone(base), batch, metric="loss").frame
    assert frame["recovered"].isna().all()
    assert frame["value"].tolist() == pytest.approx(
        [frame["receiver"].iloc[0]] * len(frame), rel=1e-5
    )


def test_share_of_a_gap_by_hand() -> None:
    receiver, donor = torch.zeros(400), torch.ones(400)
    patched = torch.cat([torch.ones(100), torch.zeros(300)])
    share, low, high = recovered(patched, receiver, donor)
    assert share == pytest.approx(0.25)
    assert low == pytest.approx(0.25 - 1.96 * (0.25 * 0.75 / 400) ** 0.5, abs=0.015)
    assert high == pytest.approx(0.25 + 1.96 * (0.25 * 0.75 / 400) ** 0.5, abs=0.015)
    noise = torch.randn(400, generator=torch.Generator().manual_seed(0))
    assert math.isnan(recovered(patched, receiver, 0.01 * noise)[0])  # no gap to share
    assert math.isnan(recovered(patched[:1], receiver[:1], donor[:1])[0])  # nor of one row
    # Where a resample happens to hold no gap, no effect is no share, not an infinite one.
    rare = torch.zeros(1000)
    rare[:9] = 1
    assert recovered(torch.zeros(1000), torch.zeros(1000), rare) == (0, 0, 0)


def test_an_unfaithful_patch_raises(make_any: MakeAny, task: PCFGTask) -> None:
    """Hooks that answer differently each time make a patch meaningless; that is noticed."""
    base, ft = make_any(), make_any(1)
    batch = task.query("C", "a").sample(10, generator(7))
    draws = torch.Generator().manual_seed(8)

    def noisy(value: Tensor, hook: Any) -> Tensor:
        return value + torch.randn(value.shape, generator=draws)

    with (
        ft.hooks(fwd_hooks=[("blocks.1.hook_mlp_out", noisy)]),
        pytest.raises(
            PatchingError, match=r"Patching resid_pre 0 .* moved its logits by .*eval mode"
        ),
    ):
        patch_across(base, ft, batch, "resid_pre", directions=["base→finetuned"])
    assert not has_hooks(ft)


def test_half_precision_is_checked_too(make_model: MakeAny, task: PCFGTask) -> None:
    """In bfloat16 rounding is coarse, but a patch with itself puts back the very same bits."""
    base, ft = make_model(0, torch.bfloat16), make_model(1, torch.bfloat16)
    batch = task.query("C", "a").sample(10, generator(10))
    assert len(patch_across(base, ft, batch, ["mlp_out", "head"], metric="loss")) == 2 * (2 + 4 + 1)
    draws = torch.Generator().manual_seed(8)

    def noisy(value: Tensor, hook: Any) -> Tensor:
        return value + 0.3 * torch.randn(value.shape, generator=draws).to(value.dtype)

    with (
        ft.hooks(fwd_hooks=[("blocks.1.hook_mlp_out", noisy)]),
        pytest.raises(PatchingError, match="moved its logits"),
    ):
        patch_across(base, ft, batch, "resid_pre", directions=["base→finetuned"])
    mixed = patch_across(
        make_model(0), ft, batch, "mlp_out", subspace={"blocks.0.hook_mlp_out": torch.eye(16)}
    )
    assert mixed.frame["value"].notna().all()


def test_bad_input(task: PCFGTask, make_model: MakeAny) -> None:
    base, batch = make_model(), task.query("C", "a").sample(4, generator(9))
    wider = build_model(ModelConfig(2, 2, 32, len(task.vocabulary), task.sample_length - 1))
    with pytest.raises(ConfigError, match="d_model is 16 in the base and 32"):
        patch_across(base, wider, batch)
    for arguments, error, message in (
        ({"sites": ["heads"]}, UnknownNameError, "Did you mean 'head'"),
        ({"sites": [Site(2, "mlp_out")]}, ConfigError, "got 'mlp_out 2'"),
        ({"positions": [40]}, ConfigError, r"got 'resid_pre 0 @ 40'"),
        ({"directions": ["sideways"]}, UnknownNameError, "base→finetuned"),
        ({"tasks": {}}, ConfigError, "needs a task"),
        ({"sites": [[]]}, ConfigError, "at least one site"),
        ({"tasks": batch.rows(slice(0, 0))}, ConfigError, "at least one row"),
        ({"metric": "speed"}, UnknownNameError, "accuracy, loss"),
        (
            {"subspace": {"blocks.0.hook_mlp_out": torch.ones(2, 16)}},
            ConfigError,
            "orthonormal rows",
        ),
        ({"subspace": {"blocks.0.hook_mlp": torch.eye(16)}}, UnknownNameError, "hook_mlp_out"),
    ):
        with pytest.raises(error, match=message):
            patch_across(base, base, **{"tasks": batch, **arguments})  # type: ignore[arg-type]
