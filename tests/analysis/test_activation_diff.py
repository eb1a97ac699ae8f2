"""Activation differences: none between twins, by hand for a known edit, found where it was planted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
import torch

from mechft.analysis.activation_diff import diff_activations, linear_cka
from mechft.analysis.activations import gather_activations
from mechft.analysis.streaming.moments import PairMomentsFitter
from mechft.analysis.streaming.site_difference import principal_directions
from mechft.errors import ConfigError, UnknownNameError
from mechft.models.build import ModelConfig, build_model, clone
from mechft.models.hook_points import head_output, mlp_out, resid_post
from mechft.models.weights import block_matrices
from mechft.randomness import generator
from mechft.tasks.batch import TokenBatch
from mechft.tasks.pcfg import PCFGTask
from mechft.training.trained import Trained

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

Make = Callable[..., "HookedTransformer"]
LAST = "blocks.1.mlp.W_out"


def batch_of(task: PCFGTask, size: int = 30, seed: int = 0) -> TokenBatch:
    return task.query("C", "a").sample(size, generator(seed))


def with_rank_one_edit(model: HookedTransformer) -> tuple[HookedTransformer, torch.Tensor]:
    """A copy whose last MLP also writes (activations · u) v, and v; nothing upstream changes."""
    edited = clone(model)
    weight = block_matrices(edited)[LAST].tensor
    draws = torch.Generator().manual_seed(9)
    u, v = (torch.randn(n, generator=draws) for n in weight.shape)
    with torch.no_grad():
        weight += torch.outer(u.abs() + 0.1, v)
    return edited, v


def test_twins_do_not_differ(task: PCFGTask, make_any: Make) -> None:
    model = make_any(0)
    result = diff_activations(model, clone(model), batch_of(task), k=3)
    frame = result.frame
    assert (frame["relative_change"] == 0).all()
    assert frame["cka"].tolist() == pytest.approx([1] * len(frame))
    assert frame["cosine"].tolist() == pytest.approx([1] * len(frame))
    assert frame[["mean_share", "explained", "explained_centred"]].isna().all().all()
    with pytest.raises(ConfigError, match="is the same in both models on these rows"):
        result.direction(resid_post(0), 1)


def test_a_planted_direction_is_found_where_it_is(task: PCFGTask, make_any: Make) -> None:
    model = make_any(0)
    edited, v = with_rank_one_edit(model)
    result = diff_activations(model, edited, batch_of(task, 40), k=4)
    frame = result.frame.set_index("hook")
    unit = (v / v.norm()).double()
    for hook in (mlp_out(1), resid_post(1)):
        first = result.spectrum.frame.query("hook == @hook and directions == 1")
        assert first["explained"].item() == pytest.approx(1, abs=1e-9)
        assert first["explained_centred"].item() == pytest.approx(1, abs=1e-9)
        (found,) = result.direction(hook, 1)
        assert abs(float(found @ unit)) == pytest.approx(1, abs=1e-6)
        before, after = (
            gather_activations(m, batch_of(task, 40), [hook])[hook] for m in (model, edited)
        )
        assert float((after - before).double().mean(0) @ found) > 0  # towards the fine-tuned model
    others = frame.drop([mlp_out(1), resid_post(1)])
    assert (others["relative_change"] == 0).all()


@pytest.mark.parametrize("sizes", [[30], [7, 23], [1] * 30])
def test_the_data_may_come_in_any_batches_and_is_read_once(
    task: PCFGTask, make_model: Make, sizes: list[int]
) -> None:
    batch, (one, two) = batch_of(task), (make_model(0), make_model(1))
    starts = [sum(sizes[:i]) for i in range(len(sizes))]

    def stream() -> Iterator[TokenBatch]:
        for start, size in zip(starts, sizes, strict=True):
            yield batch.rows(slice(start, start + size))

    whole = diff_activations(one, two, batch).frame
    split = diff_activations(one, two, stream()).frame
    numbers = whole.select_dtypes("number").columns
    for column in numbers:
        assert split[column].tolist() == pytest.approx(whole[column].tolist(), rel=1e-4), column


def test_numbers_against_the_batch_formulas(task: PCFGTask, make_any: Make) -> None:
    one, two, batch = make_any(0), make_any(1), batch_of(task, 70)
    hook = resid_post(0)
    x, y = (gather_activations(m, batch, [hook])[hook].double() for m in (one, two))
    result = diff_activations(one, two, batch, hook_names=[hook], k=5)
    row = result.frame.iloc[0]
    delta = y - x
    assert row["relative_change"] == pytest.approx(
        float(delta.norm(dim=1).mean() / x.norm(dim=1).mean())
    )
    assert row["cosine"] == pytest.approx(float(torch.cosine_similarity(x, y).mean()))
    assert row["cka"] == pytest.approx(linear_cka(x, y))
    assert row["mean_share"] == pytest.approx(
        float(delta.mean(0).square().sum() / delta.square().sum(1).mean())
    )
    squares = torch.linalg.svdvals(delta).square()
    about = torch.linalg.svdvals(delta - delta.mean(0)).square()
    shares = result.spectrum.frame
    for column, values in (("explained", squares), ("explained_centred", about)):
        expected = (values.cumsum(0) / values.sum())[:5].tolist()
        assert shares[column].tolist() == pytest.approx(expected)
    basis = result.directions[hook]
    torch.testing.assert_close(basis @ basis.T, torch.eye(5, dtype=torch.float64))
    held = float((delta @ basis[:3].T).square().sum() / delta.square().sum())
    assert shares["explained"].iloc[2] == pytest.approx(held)


def test_by_position_is_each_position_alone(task: PCFGTask, make_model: Make) -> None:
    one, two, batch = make_model(0), make_model(1), batch_of(task)
    hook = resid_post(1)
    result = diff_activations(one, two, batch, hook_names=[hook], by_position=True, k=2)
    length = batch.prompt.shape[1]
    assert result.frame["position"].tolist() == list(range(length))
    for position in (7, length - 1):
        alone = diff_activations(one, two, batch, hook_names=[hook], positions=position, k=2)
        here = result.frame[result.frame["position"] == position]
        for column in ("relative_change", "ci_low", "cka", "explained"):
            assert here[column].item() == pytest.approx(alone.frame[column].item())
        torch.testing.assert_close(
            result.direction(hook, 2, position=position), alone.direction(hook, 2)
        )
    assert result.frame.loc[0, "cka"] != result.frame.loc[0, "cka"]  # SOS: the same in every row
    with pytest.raises(ConfigError, match="Several models or positions"):
        _ = result.directions
    with pytest.raises(UnknownNameError, match="position None"):
        result.direction(hook, 1)


def test_rows_not_positions_are_the_cases(task: PCFGTask, make_model: Make) -> None:
    """A text repeated along its positions would not narrow the interval: n counts rows."""
    one, two, batch = make_model(0), make_model(1), batch_of(task)
    hook = resid_post(0)
    found = diff_activations(one, two, batch, hook_names=[hook], positions="all").frame.iloc[0]
    x, y = (
        gather_activations(m, batch, [hook], "all")[hook].double().reshape(30, -1, 16)
        for m in (one, two)
    )
    change, norm = (y - x).norm(dim=2).mean(1), x.norm(dim=2).mean(1)
    ratio = float(change.mean() / norm.mean())
    half = 1.96 * float((change - ratio * norm).std() / norm.mean()) / 30**0.5
    assert found["n"] == 30
    assert found["relative_change"] == pytest.approx(ratio)
    assert found["ci_high"] - found["ci_low"] == pytest.approx(2 * half, rel=1e-3)
    assert found["cka"] == pytest.approx(linear_cka(x.flatten(0, 1), y.flatten(0, 1)))


def test_activation_change_by_hand(trained: Trained, task: PCFGTask) -> None:
    model, edited = trained.model, clone(trained.model)
    with torch.no_grad():
        edited.get_parameter("blocks.1.mlp.b_out").add_(1.0)
    batch = batch_of(task, 50, 2)
    _, cache = model.run_with_cache(batch.prompt)
    norms = cache[resid_post(1)][:, -1].norm(dim=1)
    result = diff_activations(model, edited, batch, hook_names=[resid_post(1)])
    row = result.frame.iloc[0]
    assert row["relative_change"] == pytest.approx(4 / float(norms.mean()), rel=1e-4)
    assert row["mean_share"] == pytest.approx(1)  # the same shift in every row
    torch.testing.assert_close(
        result.direction(resid_post(1)), torch.full((1, 16), 0.25, dtype=torch.float64)
    )


def test_half_precision_models(task: PCFGTask, make_model: Make) -> None:
    one, two, batch = make_model(0), make_model(1), batch_of(task)
    full = diff_activations(one, two, batch).frame
    half = diff_activations(
        make_model(0, torch.bfloat16), make_model(1, torch.bfloat16), batch
    ).frame
    for column in ("relative_change", "cosine"):
        assert half[column].tolist() == pytest.approx(full[column].tolist(), abs=0.05, rel=0.05)


def test_directions_without_a_mean_shift_have_a_sign_too() -> None:
    x = torch.zeros(4, 3, dtype=torch.float64)
    y = torch.tensor([[-2.0, 1, 0], [2, -1, 0], [0, 0, 1], [0, 0, -1]], dtype=torch.float64)
    fitter = PairMomentsFitter()
    fitter.update(x, y)
    explained, centred, found = principal_directions(fitter.result(), 3)
    assert explained.tolist() == pytest.approx([10 / 12, 1, 1])
    torch.testing.assert_close(explained, centred)
    expected = torch.tensor([[2.0, -1, 0], [0, 0, 5**0.5]], dtype=torch.float64) / 5**0.5
    torch.testing.assert_close(found, expected)  # two directions: the difference spans no third


def test_cka_is_one_under_rotation_and_scale() -> None:
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(200, 12, generator=draws, dtype=torch.float64)
    rotation, _ = torch.linalg.qr(torch.randn(12, 12, generator=draws, dtype=torch.float64))
    noise = torch.randn(200, 12, generator=draws, dtype=torch.float64)
    assert linear_cka(x, 3 * x @ rotation + 5) == pytest.approx(1)
    assert linear_cka(x, noise) < 0.2


def test_bad_input(trained: Trained, task: PCFGTask) -> None:
    other = build_model(ModelConfig(2, 2, 8, len(task.vocabulary), task.sample_length - 1))
    batch = batch_of(task, 5)
    with pytest.raises(ConfigError, match="width 16 in one model and 8 in the other"):
        diff_activations(trained, other, batch)
    with pytest.raises(UnknownNameError, match=r"blocks\.7\.hook_resid_post"):
        diff_activations(trained, trained, batch, hook_names=["blocks.7.hook_resid_post"])
    with pytest.raises(ConfigError, match="at most the width of a site; got k=17"):
        diff_activations(trained, trained, batch, k=17)
    with pytest.raises(ConfigError, match="no site to compare"):
        diff_activations(trained, trained, batch, hook_names=[])
    twice = diff_activations(trained, trained, batch, hook_names=[resid_post(0), resid_post(0)])
    assert len(twice) == 1
    with pytest.raises(ConfigError, match="at least 1; got 0"):
        diff_activations(trained, trained, batch, k=0)
    with pytest.raises(ConfigError, match="no batch to work on"):
        diff_activations(trained, trained, iter(()))
    with pytest.raises(ConfigError, match="without a position axis"):
        diff_activations(trained, trained, batch, hook_names=["blocks.0.attn.hook_pattern"])
    broken = clone(trained.model)
    with torch.no_grad():
        broken.get_parameter("blocks.0.mlp.b_out").fill_(float("nan"))
    with pytest.raises(ConfigError, match="not finite"):
        diff_activations(trained, broken, batch)
    edited, _ = with_rank_one_edit(trained.model)
    found = diff_activations(trained, edited, batch, hook_names=[resid_post(1)])
    with pytest.raises(ConfigError, match=r"There are 1 directions of .*; got k=2"):
        found.direction(resid_post(1), 2)
    with pytest.raises(UnknownNameError, match="Unknown site"):
        found.direction(head_output(1))
