"""Attention figures show the numbers of their frame; maps have the tokens on their axes."""

from __future__ import annotations

import pytest

from mechft.models.build import clone
from mechft.models.weights import block_matrices
from mechft.plots import plot
from mechft.randomness import generator
from mechft.shortcuts.attention import attention_maps, diff_attention, letter_groups
from mechft.tasks.contrast import Contrast
from mechft.training.trained import Trained


@pytest.fixture
def models(trained: Trained) -> list[Trained]:
    """A base and two models with other queries."""
    found = [trained.renamed("base")]
    for name, factor in (("one", -1.0), ("two", 3.0)):
        edited = clone(trained.model)
        block_matrices(edited)["blocks.0.attn.W_Q"].tensor.mul_(factor)
        found.append(Trained(edited, trained.task, name=name))
    return found


def test_divergence_and_mass(models: list[Trained]) -> None:
    result = diff_attention(*models, size=20)
    grids = plot(result).data
    assert [grid.z.tolist() for grid in grids] == [
        rows.pivot(index="block", columns="head", values="js").values.tolist()
        for _, rows in result.frame.groupby("model", sort=False)
    ]
    mass = result.mass.frame
    assert len(mass) == 3 * 2 * 2 * 3  # models (the base once), blocks, heads, groups
    assert list(dict.fromkeys(mass["group"])) == ["a", "b", "operand"]
    for trace in plot(result.mass).data:
        rows = mass[mass["model"] == trace.name]
        assert set(trace.x) <= set(rows["mass"])
        high = trace.x + trace.error_x.array
        assert high.tolist() == pytest.approx(trace.customdata[:, 1].tolist())
    assert len(plot(result.mass).data) == 9
    assert len(plot(diff_attention(*models, size=5, tokens=[]).mass).data) == 0


def test_models_keep_their_names(trained: Trained) -> None:
    """The base's too, whatever it is; its rows come first and once, and have no change to themselves."""
    named = [trained.renamed(name) for name in ("small+ft", "base", "finetuned")]
    result = diff_attention(*named, size=5)
    assert list(dict.fromkeys(result.frame["model"])) == ["base", "finetuned"]
    mass = result.mass.frame
    assert list(dict.fromkeys(mass["model"])) == ["small+ft", "base", "finetuned"]
    assert (mass["change"].isna() == (mass["model"] == "small+ft")).all()
    assert (mass["change"].dropna() == 0).all()
    assert {t.name for t in plot(result.mass).data} == set(mass["model"])


def test_groups_follow_the_contrast(trained: Trained) -> None:
    pairs = Contrast(family="CC", pretraining_operand="aa", finetuning_operand="bc")
    assert letter_groups(trained, pairs) == {"aa": [0], "bc": [1, 2]}
    assert letter_groups(trained, Contrast("T", "NULL", "NULL")) == {"NULL": [0, 1, 2]}


def test_maps_are_labelled_by_tokens(models: list[Trained]) -> None:
    task = models[0].task
    batch = task.query("C", "a").sample(6, generator(0))
    single = attention_maps(*models, batch=batch, row=4, heads=[(1, 0), (0, 1)])
    words = task.vocabulary.decode(batch.prompt[4])
    assert list(single.labels) == words
    mean = attention_maps(*models, batch=batch, row=None, heads=[(1, 0)])
    assert mean.labels[:5] == ("SOS", "C", "a", "6", "SOT")
    assert mean.labels[-2:] == ("EOT", "ART")
    assert "·" in mean.labels
    figure = plot(single)
    assert len(figure.data) == 6
    titles = [a.text for a in figure.layout.annotations]
    assert titles[0] == "base, block 1 head 0"
    for trace, title in zip(figure.data, titles, strict=False):
        assert trace.z.shape == (len(words), len(words))
        assert title
    assert list(figure.layout.xaxis.ticktext) == words
    assert figure.layout.yaxis.autorange == "reversed"  # the attending token runs down
    head = single.patterns["one", 0, 1].numpy()
    assert any((trace.z == head).all() for trace in figure.data)
    with pytest.raises(Exception, match=r"Rows of the batch are 0\.\.5; got 6"):
        attention_maps(*models, batch=batch, row=6)
