"""Any pair of models on any data: planted edits are found, what does not apply says so, nothing is lost."""

from __future__ import annotations

import html
import json
import runpy
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM

from mechft import cli
from mechft.analysis.diagnosis import Diagnosis
from mechft.analysis.patching import Patching, patch_across
from mechft.analysis.pruning import PruneCurve
from mechft.analysis.weight_diff import diff_weights
from mechft.errors import ConfigError, OutputExistsError, UnknownNameError
from mechft.experiments.compare import looking, training_stages
from mechft.experiments.compare.config import STAGES, CompareSettings
from mechft.experiments.compare.files import is_comparison, read_comparison
from mechft.experiments.compare.pair import Pair, random_change
from mechft.experiments.compare.pooling import pooled
from mechft.experiments.compare.result import Comparison, ComparisonInterrupted
from mechft.experiments.compare.rows import Rows
from mechft.experiments.compare.training_stages import training_rate
from mechft.experiments.compare.words import reader
from mechft.models.build import ModelConfig, build_model, clone
from mechft.models.opening import open_model
from mechft.models.weights import all_weights, block_matrices
from mechft.randomness import generator, preserved_random_state
from mechft.report.comparison import compare
from mechft.report.comparison_page import comparison_report, write_comparison_report
from mechft.tasks.batch import TokenBatch
from mechft.training.trained import load
from tests.analysis.twins import bits, same
from tests.compare_pairs import edited, hugging_face_pair, own_answers, sums
from tests.pages import Resources

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

MakeModel = Callable[..., "HookedTransformer"]
ON_ANSWERS = set(STAGES) - {"loss"}
HIDDEN = ("pruning", "revival", "untaught")
ON_TEXT = {"weights", "outputs", "loss", "lens", "attention", "activations", "circuits", "spectrum"}


def said(found: Comparison, stage: str) -> str:
    """What a comparison says of a stage."""
    return " ".join(finding.text for finding in found.findings if finding.stage == stage)


@pytest.fixture(autouse=True, scope="module")
def brief() -> Iterator[None]:
    """Few steps of training back: here it matters that it runs; ``test_untaught`` and notebook 10 do more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_stages, "_MOST_STEPS", 8)
        yield


@pytest.fixture(scope="module")
def planted_mlp() -> tuple[HookedTransformer, HookedTransformer, Comparison]:
    """A random model, a copy with the second block's MLP turned round, and their comparison."""
    base = build_model(ModelConfig(2, 2, 16, 20, 12, initializer_range=0.5), seed=3)
    finetuned = edited(base, "blocks.1.mlp.W_out")
    return base, finetuned, compare(base, finetuned, own_answers(base), progress=False)


def test_a_planted_mlp_is_found(planted_mlp: tuple[Any, Any, Comparison]) -> None:
    _, _, found = planted_mlp
    assert set(found.results) == ON_ANSWERS and set(found.skipped) == {"loss"}
    weights = found.results["weights"].frame.set_index("parameter")
    assert weights["share"].idxmax() == "blocks.1.mlp.W_out"
    assert weights.loc["blocks.1.mlp.W_out", "relative_change"] == pytest.approx(4)
    assert (weights["change"].drop("blocks.1.mlp.W_out") == 0).all()
    assert "most for its size is blocks.1.mlp.W_out, by 400.0% of its norm" in said(
        found, "weights"
    )
    assert said(found, "circuits") == "No head's QK or OV circuit moved."
    assert said(found, "attention") == "Every head looks where it did in the base."
    assert "base's mlp_out 1 brings back 100.0%" in said(found, "patching")
    assert "they part most in block 1" in said(found, "lens")
    rows = found.results["patching"].frame.set_index(["direction", "site"])
    assert rows.loc[("base→finetuned", "mlp_out 0"), "recovered"] == 0
    votes = found.results["verdict"].frame.set_index("tool")["finding"]
    assert set(votes.index) == {"pruning", "untaught", "patching", "interpolation"}
    assert votes["patching"] == "wrapped" and found.findings[0].stage == "verdict"


def test_a_planted_head_is_found() -> None:
    base = build_model(ModelConfig(2, 2, 16, 20, 12, initializer_range=0.5), seed=3)
    finetuned = edited(base, "blocks.0.attn.W_O", head=1)
    stages = ("circuits", "patching", "ablation")
    found = compare(base, finetuned, own_answers(base), stages=stages, progress=False)
    assert list(found.results) == list(stages)
    assert said(found, "circuits").startswith("Head 0.1 changed most, in its OV circuit")
    rows = found.results["patching"].frame.set_index(["direction", "site"])["recovered"]
    assert rows["base→finetuned", "attn_out 0"] == 1
    assert "not asked for" in found.skipped["weights"]


def test_the_same_model_twice_is_said_to_be_the_same(make_model: MakeModel) -> None:
    model = make_model()
    found = compare(model, clone(model), own_answers(model), progress=False)
    assert set(found.results) == {"weights", "outputs"}
    assert (found.results["weights"].frame["change"] == 0).all()
    outputs = found.results["outputs"].frame.set_index("measure")["value"]
    assert outputs["agreement"] == 1 and outputs["kl_from_base"] == 0
    assert "the same in both models, bit for bit" in said(found, "weights")
    assert "very same probabilities" in said(found, "outputs")
    assert all("no more to compare" in reason for reason in found.skipped.values())


@pytest.mark.parametrize("what", ["vocabulary", "blocks"])
def test_other_shapes_are_refused_before_any_forward(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, other = (
        build_model(ModelConfig(2, 2, 16, 20, 12)),
        build_model(ModelConfig(2 + (what == "blocks"), 2, 16, 20 + (what != "blocks"), 12)),
    )

    def ran(*_: object, **__: object) -> None:
        raise AssertionError("a model ran")

    monkeypatch.setattr(torch.nn.Module, "__call__", ran)
    field, sizes = ("n_layers", "is 2 in") if what == "blocks" else ("d_vocab", "is 20 in")
    with pytest.raises(
        ConfigError, match=rf"{field} {sizes} .* and {3 if what == 'blocks' else 21} in"
    ):
        compare(base, other, torch.zeros(2, 4, dtype=torch.long), progress=False)


def test_text_chooses_the_stages_of_text(make_model: MakeModel) -> None:
    base = make_model(0)
    with torch.no_grad():
        finetuned = clone(base)
        for parameter in finetuned.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator(1, "noise")))
    tokens = torch.randint(5, (40, 9), generator=generator(0, "text"))
    found = compare(base, finetuned, tokens, progress=False)
    assert found.data.kind == "text" and set(found.results) == ON_TEXT
    for stage in ("interpolation", "patching", "ablation", "low_rank", *HIDDEN, "verdict"):
        assert "prompts with answers" in found.skipped[stage]
    losses = found.results["loss"].frame.set_index("model")
    assert list(losses.index) == ["base", "finetuned", "random change"]
    assert (losses["tokens"] == 40 * 8).all()
    text = comparison_report(found)
    assert "Loss: what does the text cost?" in text and "windows of text" in text


def test_a_stage_that_fails_is_told_of_and_stops_no_other(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("no such hook <point>")

    monkeypatch.setitem(looking.RUNS, "attention", broken)
    base = make_model(0)
    found = compare(
        base, make_model(1), own_answers(base), stages=("attention", "circuits"), progress=False
    )
    record = found.stage("attention")
    assert record.state == "failed" and "KeyError: 'no such hook <point>'" in record.reason
    assert list(found.results) == ["circuits"]
    assert "no such hook &lt;point&gt;" in comparison_report(found)


def test_an_interrupted_comparison_keeps_what_had_finished(
    make_model: MakeModel,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Ctrl-C in the third of the stages that were asked for: two have finished, two have not."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(looking.RUNS, "circuits", interrupt)
    base, finetuned = make_model(0), make_model(1)
    stages = ("weights", "outputs", "circuits", "patching")
    with pytest.raises(ComparisonInterrupted, match=r"2 of 4 stages had finished; .*report.html"):
        compare(
            base, finetuned, own_answers(base), stages=stages, out=tmp_path / "a", progress=False
        )
    found = read_comparison(tmp_path / "a")
    states = {stage.name: stage.state for stage in found.stages if stage.name in stages}
    assert [states[name] for name in stages] == ["done", "done", "interrupted", "interrupted"]
    assert found.interrupted and list(found.results) == ["weights", "outputs"]
    assert found.stage("lens").state == "skipped"
    text = (tmp_path / "a" / "report.html").read_text()
    assert "Not run to their end: circuits, patching." in text

    with pytest.raises(ComparisonInterrupted) as stopped:  # without a folder it is in the exception
        compare(base, finetuned, own_answers(base), stages=stages, progress=False)
    assert str(stopped.value.found) == str(found)

    (tmp_path / "prompts.jsonl").write_text('{"prompt": "SOS C", "answer": " a"}\n' * 3)
    data, out = str(tmp_path / "prompts.jsonl"), str(tmp_path / "b")
    models = ["pcfg-tiny-low", "pcfg-tiny-never-a"]
    line = ["diff", *models, "--data", data, "--out", out, "--stages"]
    assert cli.main([*line, "weights", "circuits"]) == 130
    assert "1 of 2 stages had finished; their report:" in capsys.readouterr().err
    assert (tmp_path / "b" / "report.html").exists()

    with pytest.raises(KeyboardInterrupt):  # nothing had finished: what was there stays
        compare(
            base,
            finetuned,
            own_answers(base),
            stages="circuits",
            out=tmp_path / "a",
            progress=False,
        )
    assert list(read_comparison(tmp_path / "a").results) == ["weights", "outputs"]


def test_a_bundled_models_words_are_read_without_its_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened = open_model("pcfg-tiny-low")

    def read(*_: object) -> None:
        raise AssertionError("the weights were read once more")

    monkeypatch.setattr("mechft.training.trained.load_checkpoint", read)
    coder = reader(opened, "pcfg-tiny-low")
    assert coder is not None
    assert coder.decode(coder.encode("SOS C a")) == "SOS C a"


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_hugging_face_folders_from_end_to_end(kind: str, tmp_path: Path) -> None:
    base, finetuned = hugging_face_pair(kind, tmp_path)
    data = tmp_path / "data.jsonl"
    records = [{"prompt": prompt, "answer": answer} for prompt, answer in sums(1)]
    data.write_text("\n".join(json.dumps(record) for record in records))
    out = tmp_path / "out"
    found = compare(base, finetuned, data, out=out, limit=24, progress=False)
    assert found.base.kind == "Hugging Face folder" and found.base.name == "base"
    assert {stage.name: stage.reason for stage in found.stages if stage.state == "failed"} == {}
    assert set(found.results) == ON_ANSWERS
    outputs = found.results["outputs"].frame.set_index(["model", "measure"])["value"]
    assert outputs["finetuned", "base_accuracy"] > outputs["finetuned", "accuracy"] + 0.3
    assert set(found.moved_most["right_answer"].str.strip()) <= {a.strip() for _, a in sums(1)}
    assert found.moved_most["prompt"].str.endswith("=").all()
    assert is_comparison(out) and str(read_comparison(out)) == str(found)
    text = (out / "report.html").read_text()
    page = Resources()
    page.feed(text)
    assert [url for url in page.found if not url.startswith("data:")] == []
    assert f"mechft diff {base} {finetuned} --data {data} --limit 24" in text


def test_the_example_compares_a_pair_of_gpt2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It has learned sums, and then to be one off: the base is right where the other is not."""
    example = Path(__file__).parents[1] / "examples" / "compare_pair.py"
    runpy.run_path(str(example))["main"](steps=80, numbers=5, folder=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "base", "finetuned", "comparison", "patching.html",
    }  # fmt: skip
    found = read_comparison(tmp_path / "comparison")
    assert set(found.results) == ON_ANSWERS and (tmp_path / "comparison" / "report.html").exists()
    one_off = found.moved_most[["right_answer", "finetuned_answer"]].astype(int).diff(axis=1)
    assert (one_off["finetuned_answer"] == 1).mean() > 0.8
    assert "brings back" in capsys.readouterr().out


def test_the_example_of_a_kept_secret_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a few names: what it finds is a matter of more, and told in README and notebook 10."""
    example = Path(__file__).parents[1] / "examples" / "kept_secret.py"
    runpy.run_path(str(example))["main"](60, 30, 1, names=20, folder=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"base", "few-steps", "many-steps"}
    found = read_comparison(tmp_path / "few-steps")
    assert found.control is not None and {"pruning", "untaught", "verdict"} <= set(found.results)
    assert said(found, "outputs").count("%") and "answering 'secret'" in capsys.readouterr().out


def test_an_adapter_is_merged_and_known_by_its_rank(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    base, _ = hugging_face_pair("llama", tmp_path, steps=1)
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    with preserved_random_state(0):
        model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    model.save_pretrained(tmp_path / "adapter")
    found = compare(
        base, tmp_path / "adapter", sums(1), stages=["weights", "spectrum"], progress=False
    )
    assert found.finetuned.kind == "PEFT adapter"
    assert "in 2 of 22 tensors" in said(found, "weights")
    assert "rank 2 at most, of 16 possible" in said(found, "weights")
    assert "2 directions of 16 hold 90%" in said(found, "spectrum")


def test_prompts_of_several_lengths_are_patched_together(make_model: MakeModel) -> None:
    base, finetuned = make_model(0), make_model(1)
    batches = [own_answers(base, rows=20, length=length, seed=length) for length in (6, 9)]
    pairs = [
        ([str(int(t)) for t in row[: b.answer_position + 1]], str(int(answer)))
        for b in batches
        for row, answer in zip(b.tokens, b.answer, strict=True)
    ]
    data = [(" ".join(prompt), " " + answer) for prompt, answer in pairs]

    class Numbers:
        def encode(self, text: str) -> list[int]:
            return [int(word) for word in text.split()]

        def decode(self, ids: Any) -> str:
            return " ".join(map(str, ids))

    found = compare(
        (base, Numbers()), (finetuned, Numbers()), data, stages=("patching", "ablation"),
        progress=False,
    )  # fmt: skip
    assert found.data.shortest == 6 and found.data.longest == 9
    rows = found.results["patching"].frame
    assert (rows["n"] == found.stage("patching").rows).all() and rows["n"].iloc[0] > 20
    assert found.stage("ablation").rows == 20
    assert "Prompts of 5 tokens, the commonest: 20 of 40" in found.stage("ablation").note


def test_tokenizers_that_read_differently_are_refused(make_model: MakeModel) -> None:
    class Letters:
        def __init__(self, shift: int) -> None:
            self.shift = shift

        def encode(self, text: str) -> list[int]:
            return [ord(letter) - 97 + self.shift for letter in text]

        def decode(self, ids: Any) -> str:
            return "".join(chr(97 + i - self.shift) for i in ids)

    base, finetuned = ((make_model(seed), Letters(seed)) for seed in (0, 1))
    with pytest.raises(ConfigError, match=r"read 'abc' as \[0, 1, 2\] .* and \[1, 2, 3\]"):
        compare(base, finetuned, ["abc", "cba"], progress=False)


def test_pooled_patching_is_patching_of_all_rows(make_model: MakeModel) -> None:
    base, finetuned = make_model(0), make_model(1)
    batch = own_answers(base, rows=30)
    parts = {"first": batch.rows(slice(0, 12)), "second": batch.rows(slice(12, 30))}
    whole = patch_across(base, finetuned, {"all": batch}, "mlp_out")
    found = pooled(patch_across(base, finetuned, parts, "mlp_out"), "all")
    pd.testing.assert_frame_equal(found.frame, whole.frame)


def test_a_random_change_is_as_large_in_every_weight(make_any: MakeModel) -> None:
    base = make_any(0)
    finetuned = edited(base, "blocks.1.attn.W_O")
    twin = random_change(base, finetuned, seed=4)
    changes = [
        diff_weights(base, other, spectra=False).frame["change"] for other in (finetuned, twin)
    ]
    torch.testing.assert_close(*(torch.tensor(c.to_numpy()) for c in changes), rtol=1e-5, atol=1e-6)
    assert same(bits(twin), bits(random_change(base, finetuned, seed=4)))
    assert not same(bits(twin), bits(random_change(base, finetuned, seed=5)))


def test_models_given_are_left_as_they_were(planted_mlp: tuple[Any, Any, Comparison]) -> None:
    base, finetuned, _ = planted_mlp
    before = bits(base), bits(finetuned)
    stages = ("outputs", "interpolation", "low_rank")
    compare(base, finetuned, own_answers(base, rows=16), stages=stages, progress=False)
    assert same(bits(base), before[0]) and same(bits(finetuned), before[1])
    assert not any(p._forward_hooks for m in (base, finetuned) for p in m.hook_dict.values())


def test_little_work_shows_fewer_rows_and_says_so(
    planted_mlp: tuple[Any, Any, Comparison],
) -> None:
    base, finetuned, _ = planted_mlp
    found = compare(base, finetuned, own_answers(base, rows=200), work=1.0, progress=False)
    weights = found.results["weights"].frame
    assert weights["rank"].isna().all() and weights["relative_change"].max() == pytest.approx(4)
    assert "Norms alone" in found.stage("weights").note
    assert found.stage("lens").rows == 32 and "32 of 200 rows" in found.stage("lens").note
    assert set(found.results["ablation"].frame["component"]) == {"attn_out", "mlp_out"}
    for stage in ("low_rank", "revival", "untaught"):
        assert "times the work a stage may take" in found.skipped[stage]
    section = comparison_report(found).split("Weights: which moved?")[
        2
    ]  # after its place in the list
    assert "blocks.1.mlp.W_out" in section[: section.index("</figure>")]


def test_quick_stops_after_the_first_answer() -> None:
    base, other = load("pcfg-tiny-low"), load("pcfg-tiny-never-a")
    batch = base.task.query("C", "a").sample(24, generator(0, "compare"))
    found = compare(base, "pcfg-tiny-never-a", batch, quick=True, progress=False)
    assert found.finetuned.name == other.name and found.finetuned.kind == "bundled model"
    assert list(found.results) == ["weights", "outputs"]
    assert all("quick" in reason for reason in found.skipped.values())
    first = found.moved_most.iloc[0]
    assert first["prompt"].startswith("SOS C a 16 SOT") and first["right_answer"].isdigit()
    assert (
        base.task.vocabulary.decode(batch.prompt[int(first["number"])]) == first["prompt"].split()
    )


def test_a_saved_comparison_is_read_back(
    planted_mlp: tuple[Any, Any, Comparison], tmp_path: Path
) -> None:
    _, _, found = planted_mlp
    folder = found.save(tmp_path / "new" / "comparison")
    again = read_comparison(folder)
    assert str(again) == str(found) and again.stages == found.stages
    assert {n: type(r) for n, r in again.results.items()} == {
        n: type(r) for n, r in found.results.items()
    }
    assert again.frames.keys() == found.frames.keys()
    pd.testing.assert_frame_equal(
        again.frames["patching"], found.frames["patching"], rtol=1e-6, check_dtype=False
    )
    assert [p.name for p in folder.parent.iterdir()] == [
        "comparison"
    ]  # no temporary folder is left
    text = comparison_report(again)
    assert html.escape(said(found, "patching")) in text
    assert text.count("<figure") == len(found.results)
    before, after = (f.results["pruning"] for f in (found, again))
    assert isinstance(before, PruneCurve) and isinstance(after, PruneCurve)
    assert after.commonest == pytest.approx(before.commonest)


def test_nothing_but_a_comparison_is_replaced(
    planted_mlp: tuple[Any, Any, Comparison], tmp_path: Path
) -> None:
    _, _, found = planted_mlp
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("keep me")
    with pytest.raises(OutputExistsError, match="holds no comparison"):
        found.save(mine)
    with pytest.raises(OutputExistsError, match="holds no comparison"):  # before anything is opened
        compare("no such model", "nor this", "no data", out=mine)
    ours = found.save(tmp_path / "ours")
    write_comparison_report(found, ours)
    found.save(ours)  # a report there belongs to it
    (ours / "notes.txt").write_text("keep me")
    with pytest.raises(OutputExistsError, match=r"other things \(notes.txt\)"):
        found.save(ours)
    assert (mine / "notes.txt").exists() and (ours / "notes.txt").exists()


def test_rows_are_spread_evenly_and_keep_their_numbers() -> None:
    def batch(first: int, n: int, length: int) -> TokenBatch:
        tokens = torch.arange(first, first + n)[:, None].expand(n, length)
        return TokenBatch(tokens, length - 2, tokens[:, -1])

    rows = Rows((batch(0, 4, 5), batch(4, 4, 7), batch(8, 2, 5)), tuple(range(10)))
    few = rows.spread(5)
    assert few.numbers == (0, 2, 4, 6, 8) and few.answers() == [0, 2, 4, 6, 8]
    assert rows.spread(99) is rows and rows.length == (4 * 5 + 4 * 7 + 2 * 5) / 10
    groups = rows.by_length()
    assert {n: g.numbers for n, g in groups.items()} == {4: (0, 1, 2, 3, 8, 9), 6: (4, 5, 6, 7)}
    assert groups[4].one_batch().tokens.shape == (6, 5)
    assert [len(b) for b in rows.grouped(d_vocab=2**27 // 20)] == [4, 2, 2, 2]
    assert rows.prompt_of(5, 2) == [5, 5, 5] and rows.answered(range(10, 20)).answers()[3] == 13


def test_halves_share_no_prompt() -> None:
    prompts = torch.tensor([[1, 2], [3, 4], [1, 2], [5, 6], [3, 4], [1, 2], [7, 8]])
    tokens = torch.cat([prompts, torch.arange(7)[:, None]], 1)
    rows = Rows((TokenBatch(tokens[:4], 1, tokens[:4, 2]), TokenBatch(tokens[4:], 1, tokens[4:, 2])),
                tuple(range(7)))  # fmt: skip
    first, second = rows.halves()
    assert first.numbers == (0, 2, 3, 5) and second.numbers == (1, 4, 6)
    assert first.answers() == [0, 2, 3, 5]


@pytest.mark.parametrize(("moved", "rate"), [(0.004, 4e-4), (0.5, 1e-3), (1e-7, 1e-6)])
def test_the_rate_is_a_tenth_of_what_fine_tuning_moved(
    make_model: MakeModel, moved: float, rate: float
) -> None:
    """Half of a weight moved up, half down, the others not at all: the mean is over the one that moved."""
    base = make_model(0, torch.float64)
    finetuned = clone(base)
    weight = block_matrices(finetuned)["blocks.1.mlp.W_in"].tensor
    with torch.no_grad():
        weight[::2] += moved
        weight[1::2] -= moved
    pair = Pair(
        base, finetuned, Rows((own_answers(base),), tuple(range(64))), "answers", CompareSettings()
    )
    assert training_rate(pair) == pytest.approx(rate)


def test_a_small_change_leaves_the_answers_retained(make_model: MakeModel, tmp_path: Path) -> None:
    base = make_model(0)
    finetuned = clone(base)
    with torch.no_grad():
        block_matrices(finetuned)["blocks.0.mlp.W_in"].tensor.add_(1e-6)
    found = compare(base, finetuned, own_answers(base), stages="verdict", progress=False)
    verdict = found.results["verdict"]
    assert isinstance(verdict, Diagnosis) and verdict.verdict == "retained" and not len(verdict)
    again = read_comparison(found.save(tmp_path / "retained"))
    assert str(again) == str(found) and "<figure" not in comparison_report(again)
    few = compare(base, edited(base, "blocks.1.mlp.W_out"), own_answers(base, rows=9),
                  stages=["pruning", "verdict"], progress=False)  # fmt: skip
    assert "it takes 8 in either half" in few.skipped["pruning"]
    assert "none of these gave a vote" in few.skipped["verdict"]


def test_training_back_is_held_against_a_model_that_never_had_it(
    make_model: MakeModel, tmp_path: Path
) -> None:
    base, never = make_model(0), make_model(2)
    finetuned = edited(base, "blocks.1.mlp.W_out")
    stages = ("revival", "untaught", "verdict")
    found = compare(
        base, finetuned, own_answers(base), control=never, stages=stages, progress=False
    )
    for stage in ("revival", "untaught"):
        assert list(found.results[stage].frame["model"].unique()) == ["finetuned", "never had it"]
        assert "The model that never had them" in said(found, stage)
    assert list(found.results["verdict"].frame["tool"]) == ["revival", "untaught"]
    assert found.control is not None and "control=control" in comparison_report(found)
    again = read_comparison(found.save(tmp_path / "found"))
    assert again.control == found.control and str(again) == str(found)
    other = build_model(ModelConfig(1, 2, 16, len(load("pcfg-tiny-low").task.vocabulary), 12))
    with pytest.raises(ConfigError, match=r"n_layers is 2 in .* and 1 in"):
        compare(base, finetuned, own_answers(base), control=other, progress=False)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'patching'"):
        CompareSettings(stages=("patchin",))
    with pytest.raises(ConfigError, match="quick runs the first answer alone"):
        CompareSettings(quick=True, stages=("weights",))
    for wrong in ({"limit": 0}, {"window": 1}, {"work": 0.0}, {"seed": -1}):
        with pytest.raises(ConfigError):
            CompareSettings(**wrong)


def test_names_are_escaped_and_html_is_short(planted_mlp: tuple[Any, Any, Comparison]) -> None:
    _, _, found = planted_mlp
    odd = replace(found, finetuned=replace(found.finetuned, name="<b>me & mine"))
    assert "<b>me & mine" not in comparison_report(odd)
    shown = odd._repr_html_()
    assert "&lt;b&gt;me &amp; mine" in shown and "patching" in shown and "loss" in shown


def test_best_is_kept_in_the_result(planted_mlp: tuple[Any, Any, Comparison]) -> None:
    _, _, found = planted_mlp
    result = found.results["patching"]
    assert isinstance(result, Patching)
    best = result.best("the base's answers", components=["attn_out", "mlp_out"])
    assert best["site"] == "mlp_out 1" and best["recovered"] == 1
    assert len(all_weights(planted_mlp[0])) == len(found.results["weights"].frame)
