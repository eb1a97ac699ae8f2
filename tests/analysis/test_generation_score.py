"""How often models write what is looked for: counted by hand, on a model whose answers are known."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import pytest

from mechft.analysis.generation_score import GenerationScore, generation_score
from mechft.errors import ConfigError
from mechft.models.generation import generate
from mechft.plots import plot
from mechft.randomness import derive_seed, generator
from mechft.statistics import proportion
from mechft.training.trained import Trained, load


class Words:
    """Tokens as numbers, a space between them."""

    def encode(self, text: str) -> list[int]:
        return [int(word) for word in text.split()]

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(map(str, ids))


@pytest.fixture(scope="module")
def base() -> Trained:
    return load("pcfg-tiny-low")


def asked(base: Trained, operand: str, n: int = 40) -> tuple[list[str], list[str]]:
    """Questions and right answers."""
    rows = base.task.query("C", operand).sample(n, generator(0, operand))
    return [Words().decode(row) for row in rows.prompt.tolist()], [
        str(a) for a in rows.answer.tolist()
    ]


def test_shares_by_hand(base: Trained) -> None:
    prompts, answers = asked(base, "a")
    found = generation_score(
        {"base": base.model},
        {"count a": prompts, "the first three": prompts[:3]},
        {
            "right": lambda texts: [t == a for t, a in zip(texts, answers, strict=False)],
            "unsure": lambda texts: [None, *[False] * (len(texts) - 1)],
        },
        Words(),
        new_tokens=1,
        temperature=0,
    )
    assert found.texts["base", "count a"] == tuple(answers)  # the base counts a without a mistake
    table = found.frame.set_index(["prompts", "judge"])
    assert table.loc[("count a", "right"), ["has", "has_not", "unclear", "n"]].tolist() == [
        40,
        0,
        0,
        40,
    ]
    assert table.loc[("the first three", "unsure"), ["has", "has_not", "unclear"]].tolist() == [
        0,
        2,
        1,
    ]
    assert table.loc[("the first three", "unsure"), "ci_high"] == proportion(0, 3).high


def test_what_is_written_is_what_generate_gives(base: Trained) -> None:
    """Models get the same random numbers; the stop token is in no text; long prompts lose their beginning."""
    prompts, answers = asked(base, "a", 12)
    long = [f"{prompts[1]} {prompt}" for prompt in prompts]
    stop = int(answers[0])
    found = generation_score(
        {"one": base.model, "other": base.model}, {"long": long}, {"any": lambda t: [True] * len(t)},
        Words(), new_tokens=2, stop_token=stop, seed=5,
    )  # fmt: skip
    assert found.texts["one", "long"] == found.texts["other", "long"]
    room = base.model.cfg.n_ctx - 1
    ids = [Words().encode(prompt)[-room:] for prompt in long]
    rows = generate(
        base.model, ids, 2, temperature=0.8, stop_token=stop, seed=derive_seed(5, "writing", "long")
    )
    kept = [[token for token in row if token != stop] for row in rows]
    assert found.texts["one", "long"] == tuple(map(Words().decode, kept))
    assert found.frame["share"].tolist() == [1, 1]


def test_bad_input(base: Trained) -> None:
    prompts, _ = asked(base, "a", 2)
    models = {"base": base.model}
    with pytest.raises(ConfigError, match="no prompts of 'none'"):
        generation_score(models, {"none": []}, {}, Words(), new_tokens=1)
    with pytest.raises(ConfigError, match="1 verdicts of 'short' on 2 texts"):
        generation_score(
            models, {"a": prompts}, {"short": lambda texts: [True]}, Words(), new_tokens=1
        )
    with pytest.raises(ConfigError, match=r"context of 40 tokens.*new_tokens=41"):
        generation_score(models, {"a": prompts}, {}, Words(), new_tokens=41)


def test_the_figure_shows_every_share_with_its_interval() -> None:
    rows = [
        {
            "model": m,
            "prompts": p,
            "judge": "rule",
            "has": h,
            "has_not": 9 - h,
            "unclear": 1,
            "n": 10,
        }
        | {"share": h / 10, "ci_low": h / 10 - 0.05, "ci_high": h / 10 + 0.1}
        for m, p, h in [
            ("base", "asked", 9),
            ("base", "not", 1),
            ("ft", "asked", 2),
            ("ft", "not", 0),
        ]
    ]
    made = plot(GenerationScore(pd.DataFrame(rows), {}))
    assert {bar.name: list(bar.y) for bar in made.data} == {"asked": [0.9, 0.2], "not": [0.1, 0.0]}
    for bar in made.data:
        assert list(bar.error_y.array) == pytest.approx([0.1, 0.1])
        assert list(bar.error_y.arrayminus) == pytest.approx([0.05, 0.05])
    assert "n = 10" in made.layout.yaxis.title.text
