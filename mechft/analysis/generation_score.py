"""How often a language model writes what it is asked for, judged text by text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mechft.analysis.result import Result
from mechft.errors import require
from mechft.models.generation import generate
from mechft.models.hook_points import ModelLike, as_model
from mechft.models.tokenizers import TextCoder
from mechft.randomness import derive_seed
from mechft.statistics import proportion

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

Judge = Callable[[Sequence[str]], Sequence[bool | None]]
"""Says of each text whether it has what is looked for; None where it cannot tell."""


@dataclass(frozen=True)
class GenerationScore(Result):
    """The share of texts written by models that have what was looked for.

    Columns: model, prompts (the name of the prompts), judge, has, has_not, unclear (texts), share (of all
    texts: has / n), ci_low, ci_high (95% Wilson), n.

    Attributes:
        texts: What was written, by (model, name of the prompts).
    """

    texts: Mapping[tuple[str, str], tuple[str, ...]] = field(repr=False)


def generation_score(
    models: Mapping[str, ModelLike],
    prompts: Mapping[str, Sequence[str]],
    judges: Mapping[str, Judge],
    coder: TextCoder,
    *,
    new_tokens: int,
    stop_token: int | None = None,
    temperature: float = 0.8,
    seed: int = 0,
) -> GenerationScore:
    """Let models continue the same prompts with the same random numbers, and judge what they write.

    Compare prompts that ask for something with prompts that do not: a model that always writes it answers
    both alike.

    Args:
        models: HookedTransformers that ``generate`` takes, by name.
        prompts: Texts to continue, by name; longer ones than the context has room for lose their beginning.
        judges: By name, each called once a model and set of prompts.
        coder: The models' tokenizer: a ``StoryTokenizer``, or what ``open_model`` calls ``coder``.
        new_tokens: Longest continuation, in tokens.
        stop_token: What ends a text; it is not part of it.
        temperature: Of sampling; 0 takes the likeliest token.
        seed: Of the random numbers; each set of prompts has a stream of its own.

    Raises:
        ConfigError: If there are no prompts, a judge answers with another number of verdicts, or as
            ``generate``.

    Source: the generation score of Jain et al. (2024), Sec. 5 and Table 1; sampled, with an interval.

    Cost: that of ``generate`` and the judges.

    Example:
        >>> import mechft as mf
        >>> base = mf.load("pcfg-tiny-low")
        >>> class Numbers:  # a tokenizer whose tokens are written as numbers
        ...     encode = staticmethod(lambda text: [int(word) for word in text.split()])
        ...     decode = staticmethod(lambda ids: " ".join(map(str, ids)))
        >>> rows = base.task.query("C", "a").sample(20, mf.generator(0))
        >>> asked = {"count a": [Numbers.decode(row) for row in rows.prompt.tolist()]}
        >>> right = [str(answer) for answer in rows.answer.tolist()]
        >>> judges = {"right": lambda texts: [text == a for text, a in zip(texts, right)]}
        >>> found = mf.generation_score(
        ...     {"base": base.model}, asked, judges, Numbers, new_tokens=1, temperature=0
        ... )
        >>> found.frame[["model", "prompts", "judge", "share", "n"]].values.tolist()
        [['base', 'count a', 'right', 1.0, 20]]
    """
    import pandas as pd

    for name, some in prompts.items():
        require(len(some) > 0, f"A share needs at least one text; got no prompts of {name!r}.")
    rows, texts = [], {}
    for model_name, model in models.items():
        for name, some in prompts.items():
            written = _written(
                as_model(model),
                [coder.encode(prompt) for prompt in some],
                coder,
                new_tokens,
                stop_token=stop_token,
                temperature=temperature,
                seed=derive_seed(seed, "writing", name),
            )
            texts[model_name, name] = written
            for judge_name, judge in judges.items():
                counted = _counted(judge(written), len(written), judge_name)
                rows.append({"model": model_name, "prompts": name, "judge": judge_name, **counted})
    return GenerationScore(pd.DataFrame(rows), texts)


def _written(
    model: HookedTransformer,
    prompts: Iterable[list[int]],
    coder: TextCoder,
    new_tokens: int,
    **how: Any,
) -> tuple[str, ...]:
    room = model.cfg.n_ctx + 1 - new_tokens
    require(
        room >= 1,
        f"Texts fit the context of {model.cfg.n_ctx} tokens behind a prompt; got new_tokens={new_tokens}.",
    )
    rows = generate(model, [ids[-room:] for ids in prompts], new_tokens, **how)
    stop = how["stop_token"]
    return tuple(coder.decode(row[:-1] if row[-1] == stop else row).strip() for row in rows)


def _counted(verdicts: Sequence[bool | None], n: int, judge: str) -> dict[str, Any]:
    require(
        len(verdicts) == n,
        f"A judge says something of every text; got {len(verdicts)} verdicts of {judge!r} on {n} texts.",
    )
    has = sum(verdict is True for verdict in verdicts)
    unclear = sum(verdict is None for verdict in verdicts)
    share = proportion(has, n)
    return {
        "has": has,
        "has_not": n - has - unclear,
        "unclear": unclear,
        "share": share.value,
        "ci_low": share.low,
        "ci_high": share.high,
        "n": n,
    }
