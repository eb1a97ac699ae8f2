"""The compiled programs' tasks: answers as RASP gives them, strings distributed exactly as said."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from mechft.errors import ConfigError, UnknownNameError
from mechft.randomness import generator
from mechft.tasks.correlation import Correlation
from mechft.tasks.program_config import ProgramConfig
from mechft.tasks.programs import ProgramTask

ALPHABET = "abcdefghijklmnopqrstuvwxyz"
PADDED = ProgramConfig("max", 10, 6)


def tail(chi_square: float, freedom: int) -> float:
    """Chance of a larger chi-square."""
    half = torch.tensor([freedom / 2, chi_square / 2], dtype=torch.float64)
    return float(torch.special.gammaincc(half[0], half[1]))


def fit(drawn: Iterable[Any], expected: Mapping[Any, float]) -> float:
    """p-value of Pearson's test that draws have these probabilities; rare cells are put together."""
    counts = Counter(drawn)
    assert counts.keys() <= expected.keys(), counts.keys() - expected.keys()
    n, total = counts.total(), math.fsum(expected.values())
    cells = [(counts[cell], n * p / total) for cell, p in expected.items()]
    small = [cell for cell in cells if cell[1] < 5]
    cells = [cell for cell in cells if cell[1] >= 5]
    if sum(e for _, e in small) >= 5:
        cells.append((sum(o for o, _ in small), sum(e for _, e in small)))
    return tail(sum((o - e) ** 2 / e for o, e in cells), len(cells) - 1)


def rasp_program(program: str, operand: str) -> Any:
    """The paper's programs in RASP; called with a list of tokens they give the answer everywhere."""
    rasp = pytest.importorskip("tracr.rasp.rasp")
    equal = rasp.Comparison.EQ
    ones = rasp.Map(lambda _: True, rasp.indices)
    if program == "counter":
        hit = rasp.Map(lambda token: token == operand, rasp.tokens)
        width = rasp.SelectorWidth(rasp.Select(hit, ones, equal))
        same = rasp.Select(rasp.indices, rasp.indices, equal)
        return rasp.Aggregate(same, width)
    order = (ALPHABET + "#").index
    before = rasp.Select(rasp.tokens, rasp.tokens, lambda key, query: order(key) < order(query))
    hit = rasp.Map(lambda rank: rank == int(operand) - 1, rasp.SelectorWidth(before))
    return rasp.Aggregate(rasp.Select(hit, ones, equal), rasp.tokens)


@pytest.mark.parametrize(
    ("config", "operand", "correlation"),
    [
        (ProgramConfig(), "a", None),
        (ProgramConfig(), "b", Correlation(0.5)),
        (ProgramConfig("counter", 12), "i", None),
        (ProgramConfig("max"), "1", None),
        (ProgramConfig("max"), "5", Correlation(0.5, 3, "5", "7")),
        (ProgramConfig("max"), "10", None),
        (ProgramConfig("max", 26), "13", None),
        (PADDED, "6", Correlation(0.5, 1, "5", "6")),
        (PADDED, "1", None),
    ],
)
def test_answers_are_the_rasp_interpreters(
    config: ProgramConfig, operand: str, correlation: Correlation | None
) -> None:
    task = ProgramTask(config)
    program = rasp_program(config.program, operand)
    batch = task.query(config.program, operand, correlation).sample(60, generator(0))
    answers = task.answer_vocabulary.decode(batch.answer)
    for text, answer in zip(task.display(batch.tokens), answers, strict=True):
        assert str(program(list(text))[-1]) == answer
    values = task.answers(batch.tokens, operand)
    assert torch.equal(values, batch.labels[f"{config.program}({operand})"])
    assert torch.equal(values, task.answers(batch.tokens[:, 1:], operand))  # letters alone
    assert torch.equal(task.answer_id(values), batch.answer)


@pytest.mark.parametrize(
    ("config", "text", "answers"),
    [
        (ProgramConfig("max"), "bdafhmxpqn", {"1": "a", "5": "h", "6": "m", "7": "n", "10": "x"}),
        (ProgramConfig("max", 10, 3), "zyx", {"1": "x", "3": "z"}),
        (ProgramConfig("counter", 10), "abacabadai", {"a": "5", "b": "2", "i": "1", "h": "0"}),
        (ProgramConfig("counter", 10), "bbbbbbbbbb", {"a": "0", "b": "10"}),
    ],
)
def test_by_hand(config: ProgramConfig, text: str, answers: dict[str, str]) -> None:
    """The first is the paper's example: fifth of b d a f h m x p q n is h."""
    task = ProgramTask(config)
    tokens = task.encode(text)[None]
    assert tokens.shape == (1, task.n_ctx)
    assert task.display(tokens)[0].rstrip("#") == text
    for operand, answer in answers.items():
        value = task.answers(tokens, operand)
        assert task.answer_vocabulary.decode(task.answer_id(value)) == [answer]


@pytest.mark.parametrize(
    ("config", "inputs", "outputs"),
    [
        (ProgramConfig(), ("$", "PAD", *"abcdefghi"), tuple(str(n) for n in range(47))),
        (ProgramConfig("max"), ("#", "$", "PAD", *ALPHABET), ("#", *ALPHABET)),
    ],
)
def test_vocabularies(config: ProgramConfig, inputs: tuple[str], outputs: tuple[str]) -> None:
    task = ProgramTask(config)
    assert (task.vocabulary.names, task.answer_vocabulary.names) == (inputs, outputs)
    batch = task.query(config.program, task.contrast.finetuning_operand).sample(5, generator(0))
    assert batch.tokens.shape == (5, task.n_ctx) and batch.tokens.dtype == torch.long
    assert torch.equal(batch.prompt, batch.tokens)  # nothing comes after the answer's position
    assert (batch.tokens[:, 0] == task.vocabulary.id("$")).all()
    assert not (batch.tokens == task.vocabulary.id("PAD")).any()


def test_counter_strings_are_uniform() -> None:
    """Every letter at every place, and every pair of neighbours, is as frequent as any other."""
    task = ProgramTask(ProgramConfig())
    letters = task.query("counter", "a").sample(4000, generator(1)).tokens[:, 1:] - 2
    cells = dict.fromkeys(range(46 * 9), 1.0)
    assert fit((letters + 9 * torch.arange(46)).view(-1).tolist(), cells) > 1e-3
    pairs = 9 * letters[:, 0::2] + letters[:, 1::2]
    assert fit(pairs.reshape(-1).tolist(), dict.fromkeys(range(81), 1.0)) > 1e-3


@pytest.mark.parametrize("config", [ProgramConfig("max"), PADDED, ProgramConfig("max", 26)])
def test_max_strings_are_drawn_without_replacement(config: ProgramConfig) -> None:
    task = ProgramTask(config)
    rows = task.display(task.query("max", "1").sample(4000, generator(2)).tokens)
    words = [row.rstrip("#") for row in rows]
    assert all(len(row) == config.length for row in rows)
    assert all("#" not in word and len(set(word)) == len(word) for word in words)
    lengths = range(config.shortest, config.length + 1)
    if len(lengths) > 1:
        assert fit((len(word) for word in words), dict.fromkeys(lengths, 1.0)) > 1e-3
    assert {len(word) for word in words} == set(lengths)
    letters = dict.fromkeys(ALPHABET, 1.0)
    for place in (0, 1, config.shortest - 1):
        assert fit((word[place] for word in words), letters) > 1e-3
    assert fit((word[0] < word[1] for word in words), {True: 1.0, False: 1.0}) > 1e-3  # any order


def whole_distribution(config: ProgramConfig) -> dict[str, float]:
    """Every string with its probability, enumerated."""
    if config.program == "counter":
        return {"".join(s): 1.0 for s in itertools.product("abcdefghi", repeat=config.length)}
    lengths = range(config.shortest, config.length + 1)
    return {
        "".join(s).ljust(config.length, "#"): 1 / math.perm(26, n)
        for n in lengths
        for s in itertools.permutations(ALPHABET, n)
    }


def has(text: str, program: str, correlation: Correlation) -> bool:
    """The correlation's definition, in plain Python."""
    one, other = correlation.finetuning_operand, correlation.pretraining_operand
    if program == "counter":
        return text.count(one) - text.count(other) == correlation.offset
    order = sorted(ALPHABET.index(letter) for letter in text.rstrip("#"))
    return order[int(one) - 1] - order[int(other) - 1] == correlation.offset


@pytest.mark.parametrize(
    ("config", "correlation"),
    [
        (ProgramConfig("counter", 3), Correlation(0.5)),
        (ProgramConfig("counter", 3), Correlation(0.5, -2, "d", "a")),
        (ProgramConfig("max", 2), Correlation(0.5, 1, "1", "2")),
        (ProgramConfig("max", 3, 2), Correlation(0.9, 2, "1", "2")),
    ],
)
def test_strings_are_the_plain_ones_conditioned(
    config: ProgramConfig, correlation: Correlation
) -> None:
    """Of short strings all are enumerated: with and without the correlation, each has its chance."""
    task = ProgramTask(config)
    operand = correlation.finetuning_operand
    batch = task.query(config.program, operand, correlation).sample(60_000, generator(3))
    assert batch.correlated is not None
    texts, flags = task.display(batch.tokens), batch.correlated.tolist()
    plain = whole_distribution(config)
    for kind in (True, False):
        expected = {t: p for t, p in plain.items() if has(t, config.program, correlation) == kind}
        drawn = [text for text, flag in zip(texts, flags, strict=True) if flag == kind]
        assert fit(drawn, expected) > 1e-3


def counter_formula(kind: bool, length: int = 46) -> dict[int, float]:
    """P(count of a = k, and count of b = k + 1 or not), from the multinomial distribution."""
    chances = {}
    for k in range(length + 1):
        a = math.comb(length, k) * (1 / 9) ** k * (8 / 9) ** (length - k)
        rest = length - k
        b = math.comb(rest, k + 1) * (1 / 8) ** (k + 1) * (7 / 8) ** (rest - k - 1) if rest else 0.0
        chances[k] = a * (b if kind else 1 - b)
    return chances


def max_formula(kind: bool) -> dict[int, float]:
    """Sets of ten letters with the fifth at place k and the sixth right after it, or not."""
    return {
        k: math.comb(k, 4)
        * (math.comb(24 - k, 4) if kind else math.comb(25 - k, 5) - math.comb(24 - k, 4))
        for k in range(4, 21)
    }


@pytest.mark.parametrize("kind", [True, False])
def test_labels_given_the_correlation(kind: bool) -> None:
    """At the paper's lengths, r(x, O_PT) in flagged and in other rows has its exact distribution."""
    counter = ProgramTask(ProgramConfig()).query("counter", "b", Correlation(float(kind)))
    counts = counter.sample(10_000, generator(4)).labels["counter(a)"]
    assert fit(counts.tolist(), counter_formula(kind)) > 1e-3
    largest = ProgramTask(ProgramConfig("max"))
    source = largest.query("max", "6", largest.contrast.correlation(float(kind)))
    places = source.sample(10_000, generator(4)).labels["max(5)"]
    assert fit(places.tolist(), max_formula(kind)) > 1e-3


def test_plain_strings_have_the_correlation_as_often_as_documented() -> None:
    """12% of the counter's, 38% = 10/26 of max's, 18% for the fifth against the seventh, q = 3."""
    assert sum(counter_formula(True).values()) == pytest.approx(0.12, abs=0.005)
    assert sum(max_formula(True).values()) / math.comb(26, 10) == pytest.approx(10 / 26)
    labels = ProgramTask(ProgramConfig("max")).query("max", "7").sample(20_000, generator(5)).labels
    assert labels.keys() == {"max(5)", "max(6)", "max(7)"}
    share = float((labels["max(7)"] - labels["max(5)"] == 3).double().mean())
    assert share == pytest.approx(2 * math.comb(23, 8) / math.comb(26, 10), abs=0.012)
    means = [float(labels[f"max({n})"].double().mean()) for n in (5, 6, 7)]
    assert means == pytest.approx([27 * n / 11 - 1 for n in (5, 6, 7)], abs=0.1)


@pytest.mark.parametrize("kind", [True, False])
def test_against_a_row_at_a_time(kind: bool) -> None:
    """Padded strings against a plain loop that draws until a string fits: two samples, one law."""
    task, correlation = ProgramTask(PADDED), Correlation(float(kind), 3, "3", "5")
    draws = random.Random(0)
    slow: list[str] = []
    while len(slow) < 4000:
        text = "".join(draws.sample(ALPHABET, draws.randint(6, 10)))
        if has(text, "max", correlation) == kind:
            slow.append(text)
    batch = task.query("max", "5", correlation).sample(4000, generator(6))
    fast = [row.rstrip("#") for row in task.display(batch.tokens)]
    for fact in (len, min, max, lambda text: text[0], lambda text: sorted(text)[4]):
        one, other = (Counter(map(fact, texts)) for texts in (fast, slow))
        cells = [(one[c], other[c]) for c in one.keys() | other.keys() if one[c] + other[c] >= 10]
        assert tail(sum((a - b) ** 2 / (a + b) for a, b in cells), len(cells) - 1) > 1e-3


@pytest.mark.parametrize("probability", [0.0, 0.2, 0.8, 1.0])
@pytest.mark.parametrize(
    ("config", "operands", "offset"),
    [
        (ProgramConfig(), "ab", 1),
        (ProgramConfig(), "ab", -3),
        (ProgramConfig("max"), "56", 1),
        (ProgramConfig("max"), "57", 3),
        (PADDED, "56", 1),
    ],
)
def test_holds_in_the_flagged_rows_with_its_probability(
    config: ProgramConfig, operands: str, offset: int, probability: float
) -> None:
    task, first, second = ProgramTask(config), operands[0], operands[1]
    source = task.query(config.program, first, Correlation(probability, offset, first, second))
    batch = source.sample(4000, generator(7))
    one, other = (batch.labels[f"{config.program}({operand})"] for operand in (second, first))
    assert batch.correlated is not None
    assert torch.equal(one - other == offset, batch.correlated)
    # Four standard deviations, none where every row is the same.
    tolerance = 4 * math.sqrt(probability * (1 - probability) / 4000)
    assert float(batch.correlated.double().mean()) == pytest.approx(probability, abs=tolerance)


@pytest.mark.parametrize(
    ("config", "operand"), [(ProgramConfig(), "a"), (ProgramConfig("max"), "5"), (PADDED, "6")]
)
@pytest.mark.parametrize("probability", [None, 0.5])
def test_draws_use_the_generator_alone(
    config: ProgramConfig, operand: str, probability: float | None
) -> None:
    task = ProgramTask(config)
    correlation = None if probability is None else task.contrast.correlation(probability)
    before = torch.get_rng_state()
    source = task.query(config.program, operand, correlation)
    batches = [source.sample(200, generator(seed)) for seed in (8, 8, 9)]
    assert torch.equal(torch.get_rng_state(), before)
    assert batches[0].digest() == batches[1].digest() != batches[2].digest()
    for name, label in batches[0].labels.items():
        assert torch.equal(label, batches[1].labels[name])
    assert (batches[0].correlated is None) == (probability is None)


def test_labels_name_every_count_and_the_places_in_question() -> None:
    counter = ProgramTask(ProgramConfig()).query("counter", "e").sample(50, generator(10))
    assert list(counter.labels) == [f"counter({letter})" for letter in "abcdefghi"]
    total = torch.stack(list(counter.labels.values())).sum(0)
    assert (total == 46).all()
    task = ProgramTask(ProgramConfig("max"))
    labels = task.query("max", "10", Correlation(1.0, 3, "5", "7")).sample(2, generator(0)).labels
    assert list(labels) == ["max(5)", "max(6)", "max(7)", "max(10)"]


@pytest.mark.parametrize(
    ("config", "contrast"),
    [
        (ProgramConfig(), ("counter", "a", "b", 1)),
        (ProgramConfig("max"), ("max", "5", "6", 1)),
        (ProgramConfig("max", 10, 4), ("max", "3", "4", 1)),
    ],
)
def test_the_default_contrast_can_be_asked(
    config: ProgramConfig, contrast: tuple[str, str, str, int]
) -> None:
    task = ProgramTask(config)
    made = task.contrast
    assert contrast == (
        made.family, made.pretraining_operand, made.finetuning_operand, made.offset,
    )  # fmt: skip
    batch = task.query(made.family, made.finetuning_operand, made.correlation(1.0)).sample(
        96, generator(11)
    )
    difference: Tensor = (
        batch.labels[f"{made.family}({made.finetuning_operand})"]
        - batch.labels[f"{made.family}({made.pretraining_operand})"]
    )
    assert (difference == 1).all()


@pytest.mark.parametrize(
    ("config", "correlation", "message"),
    [
        (ProgramConfig(), Correlation(0.1, 30), "offset q = 30 is out of reach.*0.0% of 4096"),
        (ProgramConfig("counter", 3), Correlation(1.0, -4), "q = -4 is out of reach"),
        (ProgramConfig("max"), Correlation(1.0, -1, "5", "6"), "q = -1 is out of reach"),
        (ProgramConfig("max"), Correlation(0.5, 1, "5", "7"), "q = 1 is out of reach"),
        (
            ProgramConfig("max", 26),
            Correlation(0.5, 1, "5", "6"),
            "without the correlation.*100.0%",
        ),
    ],
)
def test_correlations_out_of_reach(
    config: ProgramConfig, correlation: Correlation, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        ProgramTask(config).query(config.program, correlation.finetuning_operand, correlation)


def test_probabilities_that_ask_for_no_such_row_are_fine() -> None:
    never = ProgramTask(ProgramConfig()).query("counter", "b", Correlation(0.0, 30))
    always = ProgramTask(ProgramConfig("max", 26)).query("max", "6", Correlation(1.0, 1, "5", "6"))
    for source, held in ((never, False), (always, True)):
        correlated = source.sample(300, generator(12)).correlated
        assert correlated is not None and (correlated == held).all()


def test_a_search_without_end_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    task = ProgramTask(ProgramConfig("counter", 5))
    source = task.query("counter", "b", Correlation(1.0))
    monkeypatch.setattr(
        task.strings, "draw", lambda count, _: torch.full((count, 5), 2, dtype=torch.long)
    )
    with pytest.raises(ConfigError, match=r"for 10 of 10 samples in 100 rounds with Correlation"):
        source.sample(10, generator(13))


@pytest.mark.parametrize("program", ["counter", "max"])
def test_many_rows_come_from_several_pools(program: str) -> None:
    """More candidates than a pool holds are drawn: 12,000 rows at 12% need about 96,000."""
    task = ProgramTask(ProgramConfig("counter" if program == "counter" else "max"))
    made = task.contrast
    source = task.query(program, made.pretraining_operand, made.correlation(0.95))
    batch = source.sample(30_000 if program == "max" else 12_000, generator(14))
    one, other = (
        task.answers(batch.tokens, operand)
        for operand in (made.finetuning_operand, made.pretraining_operand)
    )
    assert batch.correlated is not None
    assert torch.equal(one - other == 1, batch.correlated)


def test_bad_configs() -> None:
    with pytest.raises(UnknownNameError, match=r"program 'sort'.*counter, max"):
        ProgramConfig("sort")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="at least one letter; got -1"):
        ProgramConfig("counter", -1)
    with pytest.raises(ConfigError, match="all have 46 letters; got shortest=5"):
        ProgramConfig("counter", shortest=5)
    for length in (1, 27):
        with pytest.raises(ConfigError, match=rf"length lies in 2..26; got {length}"):
            ProgramConfig("max", length)
    for shortest in (1, 11, -2):
        with pytest.raises(ConfigError, match=rf"shortest lies in 2..10.*got {shortest}"):
            ProgramConfig("max", 10, shortest)
    assert ProgramConfig("max", 0, 0) == ProgramConfig("max", 10, 10)


def test_bad_questions() -> None:
    counter, largest = ProgramTask(ProgramConfig()), ProgramTask(PADDED)
    with pytest.raises(UnknownNameError, match=r"task family 'C'.*counter"):
        counter.query("C", "a")
    with pytest.raises(UnknownNameError, match=r"task family 'counter'.*max"):
        largest.can_correlate("counter")
    with pytest.raises(UnknownNameError, match="operand of family counter 'j'"):
        counter.query("counter", "j")
    with pytest.raises(UnknownNameError, match="operand of family counter 'z'"):
        counter.query("counter", "a", Correlation(0.0, 1, "z", "a"))
    with pytest.raises(UnknownNameError, match="operand of family max 'a'"):
        largest.query("max", "a")
    with pytest.raises(
        ConfigError, match=r"7 letters; strings of this task have 6 to 10.*shortest"
    ):
        largest.query("max", "7")
    with pytest.raises(ConfigError, match=r"7 letters; strings of this task have 6 to 10"):
        largest.query("max", "5", Correlation(1.0, 3, "5", "7"))


def test_bad_strings() -> None:
    counter, largest = ProgramTask(ProgramConfig()), ProgramTask(PADDED)
    with pytest.raises(ConfigError, match="at most 46 letters here; got 47"):
        counter.encode("a" * 47)
    with pytest.raises(UnknownNameError, match="token 'j'"):
        counter.encode("aj")
    with pytest.raises(ConfigError, match=r"ids lie in 0..10; got \[11, -1\]"):
        counter.answers(torch.tensor([[0, 11, -1]]), "a")
    with pytest.raises(ConfigError, match="at least 6 letters; some row has fewer"):
        largest.answers(torch.stack([largest.encode("abcdef"), largest.encode("abcde")]), "6")
    with pytest.raises(ConfigError, match="at least 6 letters; some row has fewer"):
        largest.answers(largest.encode("abcde")[None, 1:5], "6")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("$abcdef", r"put first by itself; got it within '\$abcdef'"),
        ("abc$def", r"got it within 'abc\$def'"),
        ("abc#defg", "only fills a string up at its end; got 'abc#defg'"),
        ("#abcdef###", "fills a string up at its end"),
        (["a", "b"], r"are one string, such as 'abc'; got \['a', 'b'\]"),
        (None, "one string, such as 'abc'; got None"),
    ],
)
def test_strings_that_no_task_draws(text: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ProgramTask(PADDED).encode(text)


def test_encode_undoes_display() -> None:
    """The "#" at a string's end may be there or not."""
    task = ProgramTask(PADDED)
    tokens = task.query("max", "5").sample(40, generator(5)).tokens
    shown = task.display(tokens)
    assert any(text.endswith("#") for text in shown)
    for text, row in zip(shown, tokens, strict=True):
        assert torch.equal(task.encode(text), row)
        assert torch.equal(task.encode(text.rstrip("#")), row)
    counter = ProgramTask(ProgramConfig("counter", 10))
    with pytest.raises(ConfigError, match="put first by itself"):
        counter.encode("ab$")
    with pytest.raises(UnknownNameError, match="token '#'"):
        counter.encode("ab#")


@pytest.mark.parametrize("kind", [torch.int16, torch.int32, torch.uint8])
def test_any_integers_are_token_ids(kind: torch.dtype) -> None:
    task = ProgramTask(PADDED)
    tokens = task.query("max", "5").sample(7, generator(5)).tokens
    assert torch.equal(task.answers(tokens.to(kind), "5"), task.answers(tokens, "5"))


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (torch.rand(2, 11), r"got \[2, 11\] torch.float32"),
        (torch.ones(2, 11, dtype=torch.bool), r"got \[2, 11\] torch.bool"),
        (torch.ones(11, dtype=torch.long), r"got \[11\] torch.int64.*as tokens\[None\]"),
        ([[1, 2]], r"a tensor of integers, \[batch, pos\]; got \[\[1, 2\]\]"),
    ],
)
def test_what_is_no_rows_of_token_ids(tokens: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ProgramTask(PADDED).answers(tokens, "5")
