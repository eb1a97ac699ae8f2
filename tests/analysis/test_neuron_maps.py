"""Neuron maps are the cache; on a compiled program they are what the program says."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import torch

import mechft as mf
from mechft.analysis.neuron_maps import neuron_maps
from mechft.errors import ConfigError, MechftError
from mechft.models.build import ModelConfig, build_model
from mechft.models.hook_points import neurons
from mechft.models.weights import block_matrices
from mechft.randomness import generator
from mechft.tasks.batch import TokenBatch
from mechft.tasks.pcfg import PCFGTask
from mechft.training.trained import Trained

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

Make = Callable[..., "HookedTransformer"]


@pytest.fixture
def batch(task: PCFGTask) -> TokenBatch:
    return task.query("C", "a").sample(150, generator(0))


@pytest.fixture(scope="module")
def counter() -> Trained:
    return mf.load("tracr-counter")


def cached(model: HookedTransformer, batch: TokenBatch, block: int) -> torch.Tensor:
    return model.run_with_cache(batch.prompt)[1][neurons(block)].detach().double()


@pytest.mark.parametrize("block", [0, 1])
def test_maps_are_the_cache(batch: TokenBatch, make_any: Make, block: int) -> None:
    models = {"base": make_any(0), "ft": make_any(1)}
    mean = neuron_maps(
        models, (batch.rows(slice(i, i + 40)) for i in range(0, 150, 40)), block=block
    )
    single = neuron_maps(models, batch, block=block, row=140)
    assert (mean.n, single.n, mean.left_out, mean.block) == (150, 1, 0, block)
    length = batch.prompt.shape[1]
    for name, model in models.items():
        wanted = cached(model, batch, block).transpose(1, 2)  # [row, neuron, position]
        close: dict[str, Any] = {"atol": 1e-6, "rtol": 1e-5}
        torch.testing.assert_close(mean.activations[name], wanted.mean(0), **close)
        torch.testing.assert_close(single.activations[name], wanted[140], **close)
        grid = single.frame.query("model == @name").pivot(
            index="neuron", columns="position", values="activation"
        )
        torch.testing.assert_close(torch.tensor(grid.values), single.activations[name])
        assert len(grid) == wanted.shape[1]
    assert len(single) == 2 * length * len(single.neurons)
    assert single.frame["token"].tolist() == single.frame["position"].astype(str).tolist()


def test_chosen_neurons_in_their_order(batch: TokenBatch, make_model: Make) -> None:
    model = make_model(0)
    some = neuron_maps({"one": model}, batch, neurons=[9, 2, 9])
    every = neuron_maps({"one": model}, batch)
    assert some.neurons == (9, 2)
    assert torch.equal(some.activations["one"], every.activations["one"][[9, 2]])
    rows = some.frame.query("neuron == 2 and position == 5")
    assert rows["activation"].tolist() == [float(every.activations["one"][2, 5])]


def test_quiet_neurons_are_counted(batch: TokenBatch, make_model: Make) -> None:
    """Left out only if quiet in every model; a neuron silenced in one model stays."""
    one, two = make_model(0), make_model(0)
    with torch.no_grad():  # GELU(0) = 0
        for model, silenced in ((one, [3, 5]), (two, [5, 7])):
            block_matrices(model)["blocks.1.mlp.W_in"].tensor[:, silenced] = 0
            model.get_parameter("blocks.1.mlp.b_in")[silenced] = 0
    found = neuron_maps({"one": one, "two": two}, batch, block=1, quiet=0)
    assert found.left_out == 1
    assert set(range(64)) - set(found.neurons) == {5}
    assert (found.activations["one"][found.neurons.index(3)] == 0).all()
    assert found.frame["neuron"].nunique() == 63
    largest = neuron_maps({"one": one}, batch, block=1).activations["one"].abs().amax(1)
    bar = float(largest.median())
    loud = neuron_maps({"one": one}, batch, block=1, quiet=bar)
    assert loud.neurons == tuple(i for i in range(64) if float(largest[i]) > bar)
    assert loud.left_out + len(loud.neurons) == 64


def test_counter_shows_where_the_letter_is(counter: Trained) -> None:
    """Block 0 computes whether the letter is "a", on letters only: two neurons, and one for the constant."""
    found = mf.neuron_maps(counter, quiet=0, row=2, size=3)
    words = list(found.labels)
    is_a = torch.tensor([float(word == "a") for word in words])
    letter = torch.tensor([float(word != "$") for word in words])
    assert 0 < is_a.sum() < 46 and letter.sum() == 46
    wanted = torch.stack([letter - is_a, is_a, letter])
    maps = found.activations["tracr-counter"]
    assert found.left_out == int(counter.model.cfg.d_mlp or 0) - 3
    ordered = sorted(maps.round(decimals=5).tolist())
    assert ordered == sorted(wanted.tolist())


def test_mean_of_the_counter_is_the_frequency(counter: Trained) -> None:
    task = counter.task
    batch = task.query("counter", "a").sample(70, generator(0))
    found = mf.neuron_maps(counter, batch=batch, row=None, quiet=0)
    assert found.labels == ("$", *"·" * 46)
    share = (batch.prompt == task.vocabulary.id("a")).double().mean(0)
    distance = (found.activations["tracr-counter"] - share).abs().amax(1)
    assert float(distance.min()) < 1e-5


def test_figure_has_the_maps_on_one_scale(counter: Trained) -> None:
    noisy = mf.densify(counter, 1e-2).renamed("noisy")
    found = mf.neuron_maps(counter, noisy, quiet=0.05, size=1)
    figure = mf.plot(found)
    assert [a.text for a in figure.layout.annotations] == ["tracr-counter", "noisy"]
    for trace, values in zip(figure.data, found.activations.values(), strict=True):
        assert (trace.z == values.numpy()).all()
        assert trace.coloraxis == "coloraxis"
    assert list(figure.layout.xaxis.ticktext) == list(found.labels)
    assert figure.layout.yaxis.autorange == "reversed"
    highest = max(float(values.max()) for values in found.activations.values())
    assert figure.layout.coloraxis.cmax == highest
    assert f"{found.left_out} quiet" in figure.layout.coloraxis.colorbar.title.text
    assert f"{found.left_out} quiet ones left out" in found._repr_html_()


def test_bad_input(batch: TokenBatch, make_model: Make, task: PCFGTask) -> None:
    model = make_model(0)
    other = build_model(ModelConfig(2, 2, 16, len(task.vocabulary), task.n_ctx, d_mlp=8))
    cases: list[tuple[dict[str, Any], str]] = [
        ({"block": 2}, r"blocks\.2\.mlp\.hook_post"),
        ({"row": 150}, r"Rows of the data are 0\.\.149; got row=150"),
        ({"row": -1}, "got row=-1"),
        ({"neurons": [0, 64]}, r"in 0\.\.63; got \[64\]"),
        ({"neurons": []}, r"at least one neuron"),
        ({"labels": ["a"]}, "each of the 19 positions of the prompt; got 1"),
        ({"quiet": -1.0}, "at least 0; got -1"),
        ({"quiet": 1e9}, r"further than quiet=1e\+09 from 0 anywhere"),
    ]
    for settings, message in cases:
        with pytest.raises(MechftError, match=message):
            neuron_maps({"one": model}, batch, **settings)
    with pytest.raises(ConfigError, match="at least one model"):
        neuron_maps({}, batch)
    with pytest.raises(ConfigError, match=r"same width; got \{'one': 64, 'two': 8\}"):
        neuron_maps({"one": model, "two": other}, batch)
    shorter = TokenBatch(batch.tokens, batch.answer_position - 1, batch.answer)
    with pytest.raises(ConfigError, match="same length; got 19 and 18"):
        neuron_maps({"one": model}, [batch, shorter])
    with torch.no_grad():
        block_matrices(model)["blocks.0.mlp.W_in"].tensor.fill_(float("nan"))
    with pytest.raises(ConfigError, match="not finite"):
        neuron_maps({"one": model}, batch)
