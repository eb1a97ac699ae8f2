"""Every one-liner on compiled programs, where what is true is known from the program.

The Max-identifier for the fifth letter: block 0's head looks at "$" and all letters before the position's
own in the alphabet, so that its MLP knows each letter's rank; block 1's MLP marks rank 4; block 2's head
brings the marked letter to every position, where the unembedding reads it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

import mechft as mf
from mechft.analysis.attention import diff_attention
from mechft.analysis.diagnosis import TOOLS
from mechft.analysis.probes.controls import control_labels, random_twin
from mechft.analysis.probes.logistic import Design, fit_logistic
from mechft.errors import ConfigError
from mechft.models.build import clone, model_config
from mechft.randomness import generator
from mechft.shortcuts.common import behaviour
from mechft.tasks.batch import TokenBatch
from mechft.training.trained import Trained

if TYPE_CHECKING:
    import pandas as pd


@pytest.fixture(scope="module")
def base() -> Trained:
    return mf.load("tracr-max")


@pytest.fixture(scope="module")
def ft(base: Trained) -> Trained:
    """Far enough on the way to the sixth letter that it answers otherwise."""
    return mf.finetune(
        mf.densify(base, 1e-5),
        learning_rate="S",
        train_correlation=0.5,
        steps=20,
        evaluation_size=20,
        name="ft",
    )


@pytest.fixture(scope="module")
def counter() -> Trained:
    return mf.load("tracr-counter")


@pytest.fixture
def asked(base: Trained) -> TokenBatch:
    return base.task.query("max", "5").sample(120, generator(0))


def value(frame: pd.DataFrame, column: str, **where: Any) -> float:
    for name, wanted in where.items():
        frame = frame[frame[name] == wanted]
    assert len(frame) == 1, where
    return float(frame[column].iloc[0])


def base_rate(batch: TokenBatch) -> float:
    """How often always giving the commonest answer is right, and three standard errors more."""
    share = float(batch.answer.bincount().max()) / len(batch)
    return share + 3 * math.sqrt(share * (1 - share) / len(batch))


def test_probe_reads_the_answer_where_the_program_has_it(base: Trained, ft: Trained) -> None:
    controls: Any = ("random_model", "shuffled_labels", "permuted_labels")
    result = mf.probe(base, ft, operands=["5"], train_size=500, test_size=150, controls=controls)
    assert len(result) == 2 * 3 * 4
    assert set(result.frame["target"]) == {"max(5)"}
    own = {"model": "tracr-max", "control": "none"}
    assert value(result.frame, "accuracy", block=2, **own) > 0.97
    for block in (0, 1):  # the last position knows its own letter's rank only
        assert value(result.frame, "accuracy", block=block, **own) < 0.5
    assert (result.frame.query("control == 'permuted_labels'")["accuracy"] < 0.4).all()


def test_description_length(base: Trained, ft: Trained) -> None:
    frame = mf.description_length(base, ft, operands=["5"], size=200, controls=()).frame
    assert len(frame) == 6
    last, first = (value(frame, "bits", model="tracr-max", block=b) for b in (2, 0))
    assert last < 0.5 * first


def test_probe_transfer(base: Trained, ft: Trained) -> None:
    frame = mf.probe_transfer(base, ft, operands=["5"], train_size=500, test_size=100).frame
    same: dict[str, Any] = {"fitted_on": "tracr-max", "applied_to": "tracr-max", "block": 2}
    assert value(frame, "accuracy", **same) > 0.97
    assert set(frame["applied_to"]) == {"tracr-max", "ft"}


def test_erasing_the_answer_takes_it_away_where_it_is(base: Trained, asked: TokenBatch) -> None:
    frame = mf.erase(base, train_size=500, test_size=100, task_size=100).frame
    rows = frame.query("measure == 'behaviour' and erased == 'target'")
    assert value(rows, "value", block=2, task="acc_pt") < base_rate(asked)
    for block in (0, 1):  # the answer is not yet there: block 2 reads other positions
        assert value(rows, "value", block=block, task="acc_pt") == 1


def test_prune_curve(base: Trained, ft: Trained) -> None:
    every = 3 * int(base.model.cfg.d_mlp or 0)
    result = mf.prune_curve(
        base, ft, counts=(0, every), random_draws=1, score_size=40, test_size=60
    )
    kept: dict[str, Any] = {"k": 0, "score": "gradient×weight", "task": "acc_pt"}
    assert value(result.frame, "accuracy", model="tracr-max", **kept) == 1
    assert value(result.frame, "accuracy", model="tracr-max", **{**kept, "k": every}) < 0.3
    assert set(result.frame["model"]) == {"tracr-max", "ft"}
    whole = mf.prune_curve(
        ft, base=base, mode="graft", unit="weight", counts=(0, 1), random_draws=1,
        score_size=40, test_size=60,
    )  # fmt: skip
    assert len(whole) == 8


def test_learned_mask(ft: Trained) -> None:
    """The table begins with the untouched model, on the rows behaviour is measured on."""
    result = mf.learn_mask(ft, train_size=60, test_size=60, steps=10, random_draws=1)
    assert set(result.frame["mask"]) == {"none", "learned", "gradient×weight", "random"}
    for task, batch in behaviour(ft, ft.contrast, 60, 0).items():
        untouched = value(result.frame, "accuracy", mask="none", task=task)
        assert untouched == pytest.approx(mf.accuracy(ft, batch).value, abs=1.1 / 60)


def test_predicted_answers_are_named_as_answers(base: Trained, ft: Trained) -> None:
    frame = mf.predicted_answers(base, ft, counts=(3,), score_size=40, test_size=150).frame
    assert set(frame["answer"]) <= set(base.task.answer_vocabulary.names)
    untouched = frame.query("model == 'tracr-max' and removal == 'none'")
    assert (untouched["predicted"] == untouched["right"]).all()
    assert untouched["true"].sum() == 150
    names = base.task.answer_vocabulary.names
    assert [names[int(i)] for i in untouched["token"]] == untouched["answer"].tolist()


def test_ablations_find_the_heads(base: Trained, ft: Trained, asked: TokenBatch) -> None:
    frame = mf.ablate_heads(base, ft, size=120).frame
    here = {"model": "tracr-max", "task": "acc_pt"}
    for kind, most in (("zero", 0.0), ("mean", base_rate(asked))):
        for block in (0, 2):
            found = value(frame, "value", kind=kind, block=block, **here)
            assert found <= most, (kind, block)
        assert value(frame, "value", kind=kind, block=1, **here) == 1  # this head is all zeros
    compared = mf.compare_ablations(base, ft, size=100).frame
    assert compared.query("sites == 'head 1.0'")["verdict"].tolist() == ["same", "same"]


def test_patching_everything_restores(base: Trained, ft: Trained) -> None:
    """The unembedding is untouched: the other model's last stream gives its answers, its readout nothing."""
    frame = mf.patch_across(base, ft, size=60, sites=("resid_pre", "resid_post", "head")).frame
    assert len(frame) == 2 * 2 * (3 + 3 + 3 + 1)
    whole = frame[frame["site"] == "resid_post 2"]
    assert whole["value"].tolist() == pytest.approx(
        whole["donor"].tolist(), abs=1.1 / 60
    )  # rounding
    assert len(whole) == 4
    readout = frame[frame["site"] == "readout"]
    assert readout["value"].tolist() == pytest.approx(readout["receiver"].tolist(), abs=1.1 / 60)
    assert len(readout) == 4


def test_patching_allows_for_rounding_that_the_model_amplifies(base: Trained) -> None:
    """Scores of a thousand make rounding visible; the check asks how far two right forwards are apart."""
    noisy = mf.densify(base, 1e-3, seed=1).renamed("noisy")
    batch = base.task.query("max", "5").sample(60, generator(1))
    assert len(mf.patch_across(base, noisy, batch, metric="loss")) == 2 * (9 + 1)


def test_weights(base: Trained, ft: Trained) -> None:
    changes = mf.diff_weights(base, ft)
    frame = changes.frame.set_index("parameter")
    assert (frame.loc[["unembed.W_U", "unembed.b_U"], "change"] == 0).all()
    assert (frame.drop(["unembed.W_U", "unembed.b_U"])["change"] > 0).all()
    values = mf.spectrum(base, ft).frame.query("of == 'change'")
    for name, rows in values.groupby("parameter"):
        norm = float(rows["value"].pow(2).sum() ** 0.5)
        assert norm == pytest.approx(frame.loc[name, "change"], rel=1e-4)
    circuits = mf.diff_circuits(base, ft).frame
    assert len(circuits) == 6
    assert (circuits.query("block == 1")["base_norm"] == 0).all()
    assert (circuits.query("block != 1")["base_norm"] > 0).all()


def test_between_the_weights(base: Trained, ft: Trained) -> None:
    line = mf.interpolate(base, ft, alphas=(0, 1), metrics=("accuracy",), size=80).frame
    assert value(line, "value", alpha=0.0, task="acc_pt") == 1
    cut = mf.low_rank(base, ft, ranks=(29,), random_draws=1, size=80).frame
    for task in ("acc_pt", "acc_ft_cte1"):
        end = value(line, "value", alpha=1.0, task=task)
        assert value(cut, "value", change="finetuned", task=task) == end
        full = value(cut, "value", change="own", rank=29, task=task)
        assert full == pytest.approx(end, abs=0.03)  # float32 of a product of three


def test_activations(base: Trained, ft: Trained) -> None:
    twin = Trained(clone(base.model), base.task, name="twin")
    frame = mf.diff_activations(base, twin, ft, size=40).frame
    assert frame.groupby("model").size().to_dict() == {"twin": 9, "ft": 9}
    own = frame[frame["model"] == "twin"]["relative_change"]
    assert (own.dropna() == 0).all() and own.notna().sum() == 7  # two outputs are always 0
    moved = value(frame, "relative_change", model="ft", hook="blocks.2.hook_resid_post")
    assert moved > 0.1
    assert len(mf.diff_activations(base, ft, size=10, by_position=True)) == 9 * 11


def test_outputs(base: Trained, ft: Trained, asked: TokenBatch) -> None:
    found = mf.diff_outputs(base, ft, batch=asked)
    assert value(found.frame, "value", measure="base_accuracy") == 1
    right = mf.accuracy(ft, asked).value
    assert value(found.frame, "value", measure="accuracy") == right
    assert value(found.frame, "value", measure="agreement") == right  # the base is always right
    assert (found.examples["base_answer"] == found.examples["right_answer"]).all()
    with pytest.raises(ConfigError, match=r'does not make.*positions="answer"'):
        mf.diff_outputs(base, ft, batch=asked, positions="all")


@pytest.mark.parametrize("readout", ["own", "base"])
def test_logit_lens_ends_in_the_answer(
    base: Trained, ft: Trained, asked: TokenBatch, readout: Any
) -> None:
    frame = mf.logit_lens(base, ft, batch=asked, readout=readout).frame
    for trained in (base, ft):
        last = value(frame, "accuracy", model=trained.name, block=2)
        assert last == pytest.approx(mf.accuracy(trained, asked).value, abs=1.1 / 120)  # rounding
    for block in (0, 1):  # the 27 output channels are still empty: all answers are tied
        assert value(frame, "rank", model="tracr-max", block=block) == 14


def test_attention_is_the_selectors(base: Trained, ft: Trained, asked: TokenBatch) -> None:
    """Block 0: all smaller letters and "$" alike; block 1: everything; block 2: the fifth letter."""
    mass = mf.diff_attention(base, ft, batch=asked).mass.frame
    here = mass[mass["model"] == base.name]
    assert set(here["group"]) == {"$", "5", "6"}
    assert value(here, "mass", block=2, group="5") > 0.999
    assert value(here, "mass", block=2, group="6") < 1e-6
    letters = asked.prompt[:, 1:]
    before = (letters < letters[:, -1:]).sum(1)  # ids of letters are in their order
    assert value(here, "mass", block=0, group="$") == pytest.approx(
        float((1 / (1 + before)).mean()), abs=1e-4
    )
    fifth = letters.sort(1).values[:, 4:5]
    share = ((fifth < letters[:, -1:])[:, 0] / (1 + before)).mean()
    assert value(here, "mass", block=0, group="5") == pytest.approx(float(share), abs=1e-4)
    for group in ("$", "5", "6"):
        assert value(here, "mass", block=1, group=group) == pytest.approx(1 / 11)


def test_counting_attention_is_the_count(counter: Trained) -> None:
    """Block 1 spreads over "$" and the a's: with n of them each gets 1 / (n + 1), whatever comes later."""
    batch = counter.task.query("counter", "a").sample(100, generator(0))
    twin = Trained(clone(counter.model), counter.task, name="twin")
    found = mf.diff_attention(counter, twin, batch=batch)
    assert (found.frame["js"] == 0).all()
    here = found.mass.frame.query("model == @counter.name")
    count = batch.labels["counter(a)"]
    start, letters = (value(here, "mass", block=1, group=group) for group in ("$", "a"))
    assert start == pytest.approx(float((1 / (1 + count)).mean()), abs=1e-4)
    assert letters == pytest.approx(float((count / (1 + count)).mean()), abs=1e-4)
    assert value(here, "mass", block=1, group="b") < 1e-4


def test_keys_of_ones_own(base: Trained, asked: TokenBatch) -> None:
    def whole(batch: TokenBatch) -> torch.Tensor:
        return torch.ones_like(batch.prompt, dtype=torch.bool)

    found = diff_attention(base, base, asked, keys_of={"all": whole}, tokens={"pad": [2]})
    assert found.mass.frame.query("group == 'all'")["mass"].tolist() == pytest.approx([1.0] * 6)
    assert (found.mass.frame.query("group == 'pad'")["mass"] == 0).all()
    bad: list[tuple[Callable[[TokenBatch], Any], str]] = [
        (lambda batch: batch.prompt, "got Tensor"),
        (lambda batch: whole(batch)[:, :3], r"got \[64, 3\]"),
    ]
    for function, message in bad:
        with pytest.raises(ConfigError, match=message):
            diff_attention(base, base, asked, keys_of={"x": function})
    with pytest.raises(ConfigError, match="different names"):
        diff_attention(base, base, asked, keys_of={"x": whole}, tokens={"x": [0]})


def test_attention_maps_are_labelled_by_the_string(base: Trained, asked: TokenBatch) -> None:
    found = mf.attention_maps(base, batch=asked, row=3)
    words = base.task.vocabulary.decode(asked.tokens[3])
    assert list(found.labels) == words and words[0] == "$"
    looked = found.patterns["tracr-max", 2, 0][1:].argmax(1)
    fifth = sorted(words[1:])[4]
    assert {words[int(i)] for i in looked} == {fifth}
    assert fifth == base.task.answer_vocabulary.names[int(asked.answer[3])]
    assert list(mf.plot(found).layout.xaxis.ticktext) == words


def test_diagnosis(base: Trained, ft: Trained) -> None:
    noisy = mf.densify(base, 1e-5).renamed("noisy")
    sizes: Any = {"fit_size": 300, "test_size": 100, "reft_steps": 5}
    assert mf.diagnose(base, noisy, **sizes).verdict == "retained"
    control = mf.load("tracr-max-6").renamed("control")
    found = mf.diagnose(base, ft, control, **sizes)
    assert found.verdict != "retained"
    assert set(found.frame["tool"]) == set(TOOLS)


def test_revival(ft: Trained) -> None:
    back = mf.reverse_finetune(ft, steps=5, evaluation_size=20, name="back")
    assert len(mf.revival({"reFT": back})) > 0


@pytest.mark.parametrize("name", ["counter", "max"])
def test_random_twin_is_drawn_in_the_same_shape(base: Trained, counter: Trained, name: str) -> None:
    model = (base if name == "max" else counter).model
    twin = random_twin(model)
    assert model_config(twin) == model_config(model)
    for (key, ours), theirs in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert ours.shape == theirs.shape
        kind = key.split(".")[-1]
        assert bool(theirs.any()) == kind.startswith("W"), key


@pytest.mark.parametrize(("rows", "tokens"), [(2000, 2), (200, 1)])
def test_control_types_come_again(base: Trained, rows: int, tokens: int) -> None:
    """Of 26 letters three make 15,600 types: a control is on so many tokens that types recur."""
    batches = [base.task.query("max", "5").sample(n, generator(n)) for n in (rows, 300)]
    target = batches[0].labels["max(5)"]
    found, wanted = (control_labels(target, batches, type_of=t) for t in (None, tokens))
    for ours, theirs in zip(found, wanted, strict=True):
        assert torch.equal(ours, theirs)


def test_degenerate_features_are_probed_all_the_same(
    counter: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where LAPACK finds no eigenvectors in float32, float64 does; and without any the fit is the same."""
    draws = torch.Generator().manual_seed(0)
    features = torch.randn(300, 6, generator=draws)
    index = (features[:, 0] + 0.5 * features[:, 1] > 0).long() + (features[:, 2] > 1).long()
    eigh = torch.linalg.eigh

    def losses(fails: tuple[torch.dtype, ...]) -> tuple[float, bool]:
        def picky(gram: torch.Tensor) -> Any:
            if gram.dtype in fails:
                raise torch.linalg.LinAlgError("failed to converge")  # type: ignore[attr-defined]
            return eigh(gram)

        monkeypatch.setattr(torch.linalg, "eigh", picky)
        design = Design(features)
        fit = fit_logistic(design, index, 3, 1e-3)
        assert fit.converged
        scores = design.turn(features) @ fit.weight.T
        plain, bias = design.unturned(fit.weight)
        standard = (features - design.mean) / design.std
        torch.testing.assert_close(standard @ plain + bias, scores, atol=1e-4, rtol=1e-4)
        return fit.loss, design.axes is None

    usual = losses(())
    assert not usual[1]
    for fails, none in (((torch.float32,), False), ((torch.float32, torch.float64), True)):
        loss, without = losses(fails)
        assert loss == pytest.approx(usual[0], abs=1e-4)
        assert without == none
    monkeypatch.undo()
    noisy = mf.densify(counter, 1e-5).renamed("noisy")
    frame = mf.probe(counter, noisy, operands=["a"], train_size=400, test_size=100).frame
    assert value(frame, "accuracy", model="tracr-counter", block=2) > 0.9
    assert len(frame) == 6


def test_models_of_different_programs_are_not_compared(base: Trained, counter: Trained) -> None:
    with pytest.raises(ConfigError, match=r"same task, priors aside; tracr-max has .*'max'"):
        mf.diff_weights(base, counter)
    narrower = replace(counter, name="other", model=base.model)
    with pytest.raises(ConfigError, match="share a vocabulary; other has 29 tokens, the base 11"):
        mf.logit_lens(counter, narrower, size=5)
