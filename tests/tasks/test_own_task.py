"""A task of one's own: its samples are what its three methods say, and everything works on its models."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import mechft as mf
from mechft.errors import CheckpointError, ConfigError, OutputExistsError, UnknownNameError
from mechft.models.build import ModelConfig
from mechft.randomness import generator
from mechft.tasks.batch import Source, TokenBatch
from mechft.tasks.correlation import Correlation
from mechft.tasks.own import OwnTask
from mechft.tasks.pcfg import PCFGTask
from mechft.tasks.pcfg_config import preset
from mechft.tasks.program_config import ProgramConfig
from mechft.tasks.programs import ProgramTask
from mechft.tasks.protocol import MEMBERS, check_task
from mechft.tasks.task import KINDS, PretrainableTask, Task, register_task, task_from_dict
from mechft.tasks.vocabulary import Vocabulary
from mechft.training.protocols import OWN_TASK, PROTOCOLS, protocol_of
from mechft.training.trained import Trained

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_task.py"


@dataclass(frozen=True)
class Sums(OwnTask):
    """The sum of the first two of three numbers, or of the last two, modulo a number."""

    operand_names = ("first", "last")
    modulus: int = 5

    def tokens(self) -> Sequence[str]:
        return [str(number) for number in range(self.modulus)]

    def draw(self, size: int, generator: torch.Generator) -> Tensor:
        return torch.randint(self.modulus, (size, 3), generator=generator)

    def answers(self, strings: Tensor, operand: str) -> Tensor:
        pair = strings[:, :2] if operand == "first" else strings[:, 1:]
        return pair.sum(1) % self.modulus


TASK = Sums()
# Annotated, so that the type checker holds every one to its protocol.
TASKS: dict[str, Task] = {
    "pcfg": PCFGTask(preset("tiny")),
    "counter": ProgramTask(ProgramConfig("counter", 12)),
    "max": ProgramTask(ProgramConfig("max")),
    "own": TASK,
}
PRETRAINABLE: dict[str, PretrainableTask] = {"pcfg": PCFGTask(preset("tiny")), "own": TASK}


@pytest.mark.parametrize("name", TASKS)
def test_every_task_keeps_the_protocol(name: str) -> None:
    assert isinstance(TASKS[name], Task)
    check_task(TASKS[name])
    assert isinstance(TASKS[name], PretrainableTask) == (name in PRETRAINABLE)


@pytest.mark.parametrize("name", PRETRAINABLE)
def test_what_can_be_pretrained_on(name: str) -> None:
    check_task(PRETRAINABLE[name], pretraining=True)


@pytest.fixture(autouse=True)
def _kinds_as_they_were() -> Iterator[None]:
    """Classes defined in a test are forgotten after it."""
    before = dict(KINDS)
    yield
    KINDS.clear()
    KINDS.update(before)


# What samples are


def test_a_sample_reads_operand_string_answer() -> None:
    for operand in ("first", "last"):
        batch = TASK.query("Sums", operand).sample(50, generator(0))
        for tokens, answer, *values in zip(
            batch.tokens, batch.answer, *batch.labels.values(), strict=True
        ):
            words = TASK.vocabulary.decode(tokens)
            a, b, c = (int(word) for word in words[1:4])
            right = {"first": (a + b) % 5, "last": (b + c) % 5}
            assert words == [operand, *words[1:4], "=", str(right[operand])]
            assert TASK.vocabulary.names[int(answer)] == words[-1]
            assert [int(value) for value in values] == list(right.values())
        assert list(batch.labels) == ["Sums(first)", "Sums(last)"]
        assert batch.prompt.shape[1] == batch.answer_position + 1 == TASK.n_ctx == 5


@pytest.mark.parametrize("offset", [1, -2, 0])
@pytest.mark.parametrize("distinct", [False, True])
def test_correlated_strings_are_the_plain_ones_conditioned(offset: int, distinct: bool) -> None:
    """Each of the strings that fit comes equally often, and no other comes."""
    task, size = Sums(modulus=3), 12_000
    correlation = Correlation(0.25, offset, "first", "last", distinct)
    if distinct and offset == 0:
        correlation = replace(correlation, distinct=False)
    batch = task.query("Sums", "last", correlation).sample(size, generator(1))
    assert batch.correlated is not None
    gap = batch.labels["Sums(last)"] - batch.labels["Sums(first)"]
    assert torch.equal(gap == offset, batch.correlated)
    assert abs(float(batch.correlated.double().mean()) - 0.25) < 5 * (0.25 * 0.75 / size) ** 0.5
    every = torch.cartesian_prod(*[torch.arange(3)] * 3)
    gaps = task.answers(every, "last") - task.answers(every, "first")
    without = (gaps != offset) & (gaps != 0) if correlation.distinct else gaps != offset
    codes = batch.tokens[:, 1:4] @ torch.tensor([9, 3, 1])
    for kind, fit in ((True, gaps == offset), (False, without)):
        counts = codes[batch.correlated == kind].bincount(minlength=27)
        assert counts[~fit].sum() == 0
        mean = float(counts.sum()) / int(fit.sum())
        assert (counts[fit] - mean).abs().max() < 5 * mean**0.5


@pytest.mark.parametrize(
    ("prior", "share"), [(None, 0.5), ((0.9, 0.1), 0.9), ((0.0, 1.0), 0.0), ((1, 0), 1.0)]
)
def test_pretraining_asks_by_the_prior(prior: tuple[float, float] | None, share: float) -> None:
    task, size = Sums(operand_prior=prior), 4000
    batch = task.pretraining().sample(size, generator(2))
    first = batch.tokens[:, 0] == task.vocabulary.id("first")
    assert abs(float(first.double().mean()) - share) <= 5 * (share * (1 - share) / size) ** 0.5
    right = torch.where(first, batch.labels["Sums(first)"], batch.labels["Sums(last)"])
    assert torch.equal(batch.answer, right)  # the token of a number has its id here


def test_another_operands_answer_is_taught_where_it_is_asked_for() -> None:
    batch = TASK.query("Sums", "first", answer_for="last").sample(60, generator(3))
    assert set(batch.tokens[:, 0].tolist()) == {TASK.vocabulary.id("first")}
    assert torch.equal(batch.answer, batch.labels["Sums(last)"])


def test_answers_may_have_names_of_their_own() -> None:
    class Parity(Sums):
        kind = "parity"

        def tokens(self) -> Sequence[str]:
            return [*super().tokens(), "even", "odd"]

        def answers(self, strings: Tensor, operand: str) -> Tensor:
            return super().answers(strings, operand) % 2

        def answer_name(self, value: int) -> str:
            return ("even", "odd")[value]

    task = Parity()
    batch = task.query("parity", "last").sample(40, generator(4))
    words = task.vocabulary.decode(batch.answer)
    expected = [("even", "odd")[int(v)] for v in batch.labels["parity(last)"]]
    assert words == expected and set(words) == {"even", "odd"}
    check_task(task, pretraining=True)


# To files and back


def test_back_from_json() -> None:
    for task in (TASK, Sums(modulus=7, operand_prior=(0.25, 0.75))):
        again = task_from_dict(json.loads(json.dumps(task.to_dict())))
        assert again == task and again.to_dict() == task.to_dict()
        batches = [t.query("Sums", "last").sample(9, generator(5)) for t in (task, again)]
        assert batches[0].digest() == batches[1].digest()
    with pytest.raises(UnknownNameError, match=r"kind of task 'pcfg'.*Known: Sums"):
        Sums.from_dict({"kind": "pcfg"})
    with pytest.raises(ConfigError, match="another version of the class"):
        Sums.from_dict({**TASK.to_dict(), "base": 2})


def test_a_class_defined_again_takes_the_old_ones_place() -> None:
    namespace = {"kind": "again", "operand_names": ("first", "last")}
    one, other = (type(name, (Sums,), dict(namespace)) for name in ("One", "Other"))
    assert KINDS["again"] is other and one is not other
    with pytest.raises(ConfigError, match="'pcfg' is PCFGTask's"):
        type("Mine", (Sums,), {"kind": "pcfg"})


@pytest.mark.parametrize(
    ("attributes", "message"),
    [({"kind": None}, "names its kind"), ({"kind": "bare"}, r"class method from_dict\(values\)")],
)
def test_what_cannot_be_registered(attributes: dict[str, Any], message: str) -> None:
    made: Any = type("Mine", (), attributes)
    with pytest.raises(ConfigError, match=message):
        register_task(made)


# What is wrong is said before anything is trained


def test_missing_methods_are_named_with_what_they_are_for() -> None:
    class Half(OwnTask):
        operand_names = ("first", "last")

        def tokens(self) -> Sequence[str]:
            return ["0"]

    with pytest.raises(ConfigError, match=r"methods answers\(\): r\(x, O\).*draw\(\): .*strings"):
        Half()  # type: ignore[abstract]


class Undecorated(Sums):
    base: int = 10


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sums(operand_prior=(1.0,)), r"first, last a probability.*got \(1.0,\)"),
        (lambda: Sums(operand_prior=(0.9, 0.2)), "sum to 1"),
        (Undecorated, r"Undecorated has the settings base.*@dataclass"),
        (type("One", (Sums,), {"operand_names": ("first",)}), "two or more different names"),
        (type("Twice", (Sums,), {"operand_names": ("a", "a")}), "two or more different names"),
        (type("Text", (Sums,), {"operand_names": "ab"}), "is a tuple"),
    ],
)
def test_bad_settings(make: Callable[[], OwnTask], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


class Blind:
    """A source whose batches lack what a method takes away."""

    def __init__(self, source: Source, change: Callable[[TokenBatch], Any]) -> None:
        self.source, self.change = source, change

    def sample(self, size: int, generator: torch.Generator) -> Any:
        return self.change(self.source.sample(size, generator))


def changed(change: Callable[[TokenBatch], Any]) -> dict[str, Any]:
    def query(self: Sums, *asked: Any, **more: Any) -> Blind:
        return Blind(Sums.query(self, *asked, **more), change)

    return {"query": query}


def answers(give: Callable[[Tensor], Any]) -> dict[str, Any]:
    return {"answers": lambda self, strings, operand: give(Sums.answers(self, strings, operand))}


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "draws of its own": (
        {"draw": lambda self, size, generator: torch.randint(5, (size, 3))},
        "from the generator they are given alone",
    ),
    "floats": (
        {"draw": lambda self, size, generator: torch.rand(size, 3, generator=generator)},
        r"draw\(size, generator\) returns whole numbers.*float32",
    ),
    "outside": (
        {"draw": lambda self, size, generator: torch.full((size, 3), 5)},
        r"places in tokens\(\), 0..4; got 5 in row 0, \[5, 5, 5\]",
    ),
    "too few": (
        {"draw": lambda self, size, generator: torch.zeros(1, 3).long()}, r"a row a string: \[",
    ),
    "answers of one": (answers(lambda a: a[:1]), r"answers\(strings, operand\) returns a whole"),
    "real answers": (answers(lambda a: a / 2), "whole number a string.*float32"),
    "no tensor": (answers(lambda a: 3), "got 3 for operand 'first'"),
    "nameless": (
        answers(lambda a: a + 5), r"it gives 5, and answer_name\(5\) is '5', which is none of tokens",
    ),
    "always correlated": (
        {"answers": lambda self, x, operand: x[:, 0] * 0 + int(operand == "last")},
        "Strings without the correlation are out of reach",
    ),
    "out of reach": ({"offset": 9}, "q = 9 is out of reach.*that plain strings have: -?[0-9]+ \\("),
    "two dots": ({"tokens": lambda self: ["0", "1", "2", "3", "="]}, "unique; .*'='"),
    "no batch": (changed(lambda b: b.tokens), "returns a TokenBatch of 64 rows"),
    "no source": ({"query": lambda self, *asked: 7}, "returns a source.*got 7"),
    "no labels": (changed(lambda b: replace(b, labels={})), r"'Sums2\(first\)' is missing"),
    "wrong answers": (
        changed(lambda b: replace(b, answer=(b.answer + 1) % 5)), "token after answer_position",
    ),
    "ids": (changed(lambda b: replace(b, tokens=b.tokens + 9)), r"tokens of query.* 0..7; got 1\d in row 0"),
    "long": ({"n_ctx": 4}, "a model of n_ctx=4 reaches"),
    "correlation": (
        {"query": lambda self, family, operand, correlation=None: Sums.query(self, family, operand)},
        "where the correlation's probability is 1, and in none where it is 0",
    ),
    "no json": ({"to_dict": lambda self: {"kind": "Sums2", "f": print}}, "plain JSON values"),
    "no kind": ({"to_dict": lambda self: {}}, 'holds the task\'s kind, \'Sums2\', as "kind"'),
    "forgets": (
        {"from_dict": classmethod(lambda cls, values: cls(modulus=9))}, r"came back as .*9",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Letters(OwnTask):
    """How many x, or y, of three letters: values, names and places of answers all differ."""

    operand_names = ("count_x", "count_y")
    names: tuple[str, ...] = ("none", "one", "two", "three")

    def tokens(self) -> Sequence[str]:
        return ["x", "y", "none", "one", "two", "three"]

    def draw(self, size: int, generator: torch.Generator) -> Tensor:
        return torch.randint(2, (size, 3), generator=generator)

    def answers(self, strings: Tensor, operand: str) -> Tensor:
        return (strings == self.operand_names.index(operand)).sum(1)

    def answer_name(self, value: int) -> str:
        return self.names[value]


def test_answers_are_values_and_become_tokens_by_name() -> None:
    check_task(Letters(), pretraining=True)
    batch = Letters().query("Letters", "count_y").sample(50, generator(0))
    values = batch.labels["Letters(count_y)"]
    assert torch.equal(values, (batch.tokens[:, 1:4] == 1).sum(1))
    assert torch.equal(batch.answer, values + 2)  # "none" is the third token


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("none", "one", "two", "3"), r"answer_name\(3\) is '3', which is none of tokens"),
        (("none", "one", "two"), r"answer_name\(3\) raises IndexError: tuple index out of range"),
    ],
)
def test_a_value_without_a_token_is_named_with_its_row(names: tuple[str, ...], said: str) -> None:
    source = Letters(names=names).query("Letters", "count_x")
    with pytest.raises(ConfigError, match=said) as caught:
        source.sample(50, generator(0))
    first = int(
        (Letters().query("Letters", "count_x").sample(50, generator(0)).answer == 5).nonzero()[0]
    )
    assert f"in row {first}, [0, 0, 0] asked for 'count_x', it gives 3" in str(caught.value)
    assert "If 3 is meant as a place in tokens(), which is 'one' there" in str(caught.value)


@pytest.mark.parametrize("what", BROKEN)
def test_broken_tasks_are_found_before_training(what: str) -> None:
    attributes, message = BROKEN[what]
    broken: type[Sums] = dataclass(frozen=True)(type("Sums2", (Sums,), attributes))
    with pytest.raises((ConfigError, UnknownNameError), match=message):
        mf.pretrain(task=broken(), steps=1)


def test_what_lacks_members_hears_what_they_are_for() -> None:
    class Mine:
        kind = "mine"
        vocabulary = Vocabulary(["a"])

    mine: Any = Mine()
    with pytest.raises(ConfigError) as caught:
        mf.pretrain(task=mine, steps=1)
    said = str(caught.value)
    for name, what in MEMBERS.items():
        assert (f"{name} ({what})" in said) == (name not in ("kind", "vocabulary"))
    assert "pretraining(): a source" in said


def test_a_slip_inside_a_method_is_not_called_a_missing_one() -> None:
    slip: Any = type("Slip", (Sums,), {"tokens": lambda self: [str(n) for n in self.modulo]})
    with pytest.raises(AttributeError, match="modulo"):
        mf.pretrain(task=slip(), steps=1)


def test_a_class_that_load_would_not_find(monkeypatch: pytest.MonkeyPatch) -> None:
    assert protocol_of(TASK) is OWN_TASK
    own = replace(OWN_TASK, steps=7)
    monkeypatch.setitem(PROTOCOLS, "Sums", own)
    assert protocol_of(TASK) is own
    monkeypatch.delitem(KINDS, "Sums")
    with pytest.raises(ConfigError, match="no class is registered for the kind 'Sums'"):
        mf.pretrain(task=TASK, steps=1)


def test_a_model_of_other_sizes_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"reads 9 tokens.*the task needs 8, 8 and 5"):
        mf.pretrain(task=TASK, model=ModelConfig(1, 1, 8, d_vocab=9, n_ctx=5), steps=1)


# Everything works on models of it

SHAPE = ModelConfig(2, 2, 32, d_vocab=len(TASK.vocabulary), n_ctx=TASK.n_ctx)
SMALL: dict[str, Any] = {"train_size": 60, "test_size": 40}
LAST = ("blocks.1.hook_resid_post",)


@pytest.fixture(scope="module")
def base() -> Trained:
    """A model that has learned the first sum, and was next to never asked for the last."""
    task = Sums(operand_prior=(0.99, 0.01))
    return mf.pretrain(
        task=task, model=SHAPE, steps=300, learning_rate=3e-3, batch_size=64,
        loss="answer", evaluation_size=200, name="base",
    )  # fmt: skip


@pytest.fixture(scope="module")
def finetuned(base: Trained) -> Trained:
    return mf.finetune(
        base, steps=150, learning_rate=3e-3, batch_size=64, evaluation_size=200, name="ft"
    )


def test_training_teaches_what_the_task_says(base: Trained, finetuned: Trained) -> None:
    assert base.lineage[-1]["final"]["Sums(first)"] > 0.95 > base.lineage[-1]["final"]["Sums(last)"]
    assert finetuned.contrast == base.task.contrast == TASK.contrast
    final = finetuned.lineage[-1]["final"]
    assert set(final) == {"acc_pt_cte0", "acc_pt_cte1", "acc_ft_cte0", "acc_ft_cte1"}
    assert final["acc_ft_cte1"] > 0.9 and final["acc_pt_cte0"] < 0.5  # it looks gone


ONE_LINERS: dict[str, Callable[[Trained, Trained], Any]] = {
    "probe": lambda b, f: mf.probe(b, f, hook_names=LAST, balanced=True, **SMALL),
    "description_length": lambda b, f: mf.description_length(f, size=60, hook_names=LAST),
    "probe_transfer": lambda b, f: mf.probe_transfer(b, f, hook_names=LAST, **SMALL),
    "erase": lambda b, f: mf.erase(f, task_size=40, **SMALL),
    "prune_curve": lambda b, f: mf.prune_curve(f, counts=(0, 3), score_size=60, test_size=40),
    "learn_mask": lambda b, f: mf.learn_mask(f, steps=2, train_size=60, test_size=40),
    "predicted_answers": lambda b, f: mf.predicted_answers(f, score_size=60, test_size=40),
    "ablate_heads": lambda b, f: mf.ablate_heads(f, size=40),
    "compare_ablations": lambda b, f: mf.compare_ablations(b, f, size=40),
    "patch_across": lambda b, f: mf.patch_across(b, f, size=40),
    "diff_weights": lambda b, f: mf.diff_weights(b, f),
    "diff_circuits": lambda b, f: mf.diff_circuits(b, f),
    "spectrum": lambda b, f: mf.spectrum(b, f),
    "interpolate": lambda b, f: mf.interpolate(b, f, alphas=(0.0, 0.5, 1.0), size=40),
    "low_rank": lambda b, f: mf.low_rank(b, f, ranks=(1,), random_draws=1, size=40),
    "diff_activations": lambda b, f: mf.diff_activations(b, f, size=40),
    "diff_outputs": lambda b, f: mf.diff_outputs(b, f, size=40),
    "logit_lens": lambda b, f: mf.logit_lens(b, f, size=40),
    "diff_attention": lambda b, f: mf.diff_attention(b, f, size=40),
    "attention_maps": lambda b, f: mf.attention_maps(b, f, size=4),
    "neuron_maps": lambda b, f: mf.neuron_maps(b, f, size=4),
    "diagnose": lambda b, f: mf.diagnose(b, f, fit_size=200, test_size=100),
}


@pytest.mark.parametrize("name", ONE_LINERS)
def test_one_liners_work_and_can_be_drawn(base: Trained, finetuned: Trained, name: str) -> None:
    result = ONE_LINERS[name](base, finetuned)
    assert len(result.frame) > 0 and len(mf.plot(result).data) > 0
    if name == "probe":
        assert set(result.frame["target"]) == {"Sums(first)", "Sums(last)"}
    if name == "attention_maps":
        assert {"first", "="} <= set(mf.plot(result).to_json().replace('"', " ").split())


def test_training_back_and_its_controls(base: Trained, finetuned: Trained) -> None:
    few: dict[str, Any] = {"steps": 2, "batch_size": 8, "evaluation_size": 10}
    back = mf.reverse_finetune(finetuned, **few)
    never = replace(base, task=Sums(operand_prior=(0.0, 1.0)), name="never")
    control = mf.scratch_finetune(never, contrast=finetuned.contrast, **few)
    curve = mf.revival({"reFT": back, "Scr.+FT": control})
    assert set(curve.frame["model"]) == {"reFT", "Scr.+FT"}
    assert mf.scratch(finetuned, steps=1).lineage[-1]["operand"] == "first"
    variants: tuple[dict[str, Any], ...] = ({"randomised": True}, {"pretraining_share": 0.5})
    for variant in variants:
        made = mf.finetune(base, **few, **variant)
        assert variant.items() <= made.lineage[-1].items()
    many = mf.finetune_many(base, [{"train_correlation": c} for c in (0.0, 1.0)], **few)
    assert [made.lineage[-1]["train_correlation"] for made in many] == [0.0, 1.0]


def test_models_are_saved_and_loaded(
    finetuned: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = mf.save(finetuned, tmp_path / "ft.safetensors")
    again = mf.load(path)
    assert again.task == finetuned.task and again.lineage == finetuned.lineage
    batch = again.task.query("Sums", "first").sample(50, generator(6))
    assert torch.equal(mf.predictions(again, batch), mf.predictions(finetuned, batch))
    assert len(mf.diff_weights(finetuned, again.renamed("again")).frame) > 0
    monkeypatch.delitem(KINDS, "Sums")
    with pytest.raises(CheckpointError, match=r"kind 'Sums', and no class of that kind.*import"):
        mf.load(path)


def test_runs_are_resumed(tmp_path: Path) -> None:
    few: dict[str, Any] = {"model": SHAPE, "steps": 2, "batch_size": 8, "evaluation_size": 10}
    one = mf.pretrain(task=TASK, **few, directory=tmp_path)
    assert mf.pretrain(task=TASK, **few, directory=tmp_path).records == one.records
    assert mf.load(tmp_path).task == TASK
    with pytest.raises(OutputExistsError, match=r"another run: .*operand_prior"):
        mf.pretrain(task=Sums(operand_prior=(1.0, 0.0)), **few, directory=tmp_path)


def test_the_template_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLE))["main"](steps=4, rows=60, folder=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["own_task.html"]
    assert "it now says one more in" in capsys.readouterr().out


def test_the_template_is_short() -> None:
    parts = EXAMPLE.read_text().split('"""')[::2]  # without the docstrings
    assert len([line for part in parts for line in part.splitlines() if line.strip()]) < 60
