"""Strings of the grammar: in the language, with the right probabilities, cropped uniformly."""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest
import torch

from mechft.errors import ConfigError
from mechft.tasks.grammar import PAPER_RULES, Grammar, Rules


def expand_slowly(rules: Rules, symbol: str) -> dict[str, float]:
    """Every string of a small grammar with its exact probability."""
    if symbol not in rules:
        return {symbol: 1.0}
    found: Counter[str] = Counter()
    for side in rules[symbol]:
        partial = {"": 0.5}
        for letter in side:
            partial = {
                left + right: p * q
                for left, p in partial.items()
                for right, q in expand_slowly(rules, letter).items()
            }
        found.update(partial)
    return dict(found)


def derives(text: str, symbol: str = "s") -> bool:
    """Whether the paper's grammar derives ``text`` from ``symbol``: a plain recursive parser."""

    @cache
    def ends(symbol: str, start: int) -> frozenset[int]:
        if symbol not in PAPER_RULES:
            return frozenset({start + 1} if text[start : start + 1] == symbol else ())
        found: set[int] = set()
        for side in PAPER_RULES[symbol]:
            places = {start}
            for letter in side:
                places = {end for place in places for end in ends(letter, place)}
            found |= places
        return frozenset(found)

    return len(text) in ends(symbol, 0)


def test_paper_strings_are_in_the_language() -> None:
    grammar = Grammar()
    flat, lengths = grammar.strings(40, torch.Generator().manual_seed(0))
    for string in flat.split(lengths.tolist()):
        assert derives("".join("abc"[i] for i in string))
    assert not derives("abc" * 60)  # the parser does say no
    assert grammar.min_length <= int(lengths.min()) <= int(lengths.max()) <= grammar.max_length


SMALL_GRAMMARS: list[Rules] = [
    {"s": ("xy", "yx"), "x": ("a", "bb"), "y": ("c", "ab")},
    # One rule has more flips below it than the other: its share must still be a half.
    {"s": ("a", "xxx"), "x": ("ya", "b"), "y": ("a", "bc")},
    {"s": ("xa", "x"), "x": ("yy", "c"), "y": ("ab", "c")},
]


@pytest.mark.parametrize("rules", SMALL_GRAMMARS)
def test_probabilities_are_exact(rules: Rules) -> None:
    """Chi-squared against the exact distribution: the expectation is its degrees of freedom."""
    grammar, count = Grammar(rules), 40_000
    flat, lengths = grammar.strings(count, torch.Generator().manual_seed(1))
    letters = grammar.terminals
    seen = Counter("".join(letters[i] for i in s) for s in flat.split(lengths.tolist()))
    exact = expand_slowly(rules, "s")
    assert sum(exact.values()) == pytest.approx(1)
    assert set(seen) <= set(exact)
    chi2 = sum((seen[s] - count * p) ** 2 / (count * p) for s, p in exact.items())
    freedom = len(exact) - 1
    assert chi2 < freedom + 5 * (2 * freedom) ** 0.5


def test_crops_start_uniformly() -> None:
    """In a grammar with one string, every crop of two letters is as likely as any other."""
    grammar = Grammar({"s": ("abcde", "abcde")})
    crops = grammar.sample(8000, 2, torch.Generator().manual_seed(2))
    starts = torch.bincount(crops[:, 0], minlength=4)
    assert starts.tolist() == pytest.approx([2000] * 4, abs=160)
    assert torch.equal(crops[:, 1], crops[:, 0] + 1)


def test_strings_are_fresh_and_seeded() -> None:
    grammar = Grammar()
    one, same, other = (
        grammar.sample(64, 32, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert len({tuple(row.tolist()) for row in one}) == 64


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"s": ("a", "")}, "exactly two non-empty rules"),
        ({"s": ("x", "a"), "x": ("s", "b")}, "acyclic.*s → x → s"),
        ({"x": ("a", "b")}, "start symbol 's'"),
    ],
)
def test_bad_grammars(rules: Rules, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Grammar(rules)


def test_too_long_a_crop() -> None:
    with pytest.raises(ConfigError, match="between 1 and 432"):
        Grammar().sample(4, 433, torch.Generator())
