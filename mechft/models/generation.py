"""Sampling text from a model, many prompts at once, with a cache of keys and values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Int
from torch import Tensor

from mechft.errors import ConfigError, require
from mechft.models.fused import unsupported_features
from mechft.models.hook_points import device_of, has_hooks
from mechft.models.key_values import KeyValues
from mechft.models.sampling import Sampling, next_tokens
from mechft.randomness import generator

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

Prompts = Sequence[Sequence[int]] | Int[Tensor, "row pos"]
"""Token ids, a list for each row (of any lengths) or a tensor."""

_COMPACT_AT = 0.75  # ended rows are dropped once no more than this share is still going


def generate(
    model: HookedTransformer,
    prompts: Prompts,
    max_new_tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    stop_token: int | None = None,
    seed: int = 0,
    first_row: int = 0,
    batch_size: int = 256,
) -> list[list[int]]:
    """Continue prompts, each up to ``stop_token`` or ``max_new_tokens``.

    A row's random numbers are those of the stream (seed, row) with one number a step, drawn on the CPU. So
    what a row becomes does not depend on the rows beside it, on ``batch_size``, on how many tokens are
    asked for or on the device, up to the rounding of logits, which can turn a draw that falls exactly
    between two tokens. Temperature 0 draws nothing.

    Args:
        model: A HookedTransformer that the fused forward covers, causal, with no hook attached.
        prompts: Token ids, at least one a row; rows may have different lengths.
        max_new_tokens: Longest continuation.
        temperature, top_k, top_p: As in ``Sampling``.
        stop_token: The token that ends a row; None for none.
        seed: Of the random numbers.
        first_row: The first prompt's row number: to get in several calls what one call gives.
        batch_size: Rows at once; bounds the memory.

    Returns:
        New tokens of each row, in order, without the prompt; ``stop_token`` is the last of a row that
        ended with it.

    Raises:
        ConfigError: If a prompt is empty, has a token that the model does not know, or is longer than the
            context or leaves no room there for ``max_new_tokens``; if the model is not causal, predicts
            another vocabulary, has hooks, or has a feature that the fused forward lacks; if a setting is out
            of its range; if logits are not finite. All but the last before anything is computed.

    Cost: one forward over the prompts, then one over a single token a row and step. 256 rows of 150 tokens
    at ``llama_preset("tiny")`` took 8.5 s of one core (10 s with ``top_k``, 14 s with ``top_p``); 32 rows of
    60 took a twentieth of HookedTransformer's own ``generate`` on one after the other
    (``python -m tests.benchmarks.stories``).

    Example:
        >>> import mechft as mf
        >>> base = mf.load("pcfg-tiny-low")
        >>> rows = base.task.query("C", "a").sample(4, mf.generator(0))
        >>> new = mf.generate(base.model, rows.prompt.tolist(), 1, temperature=0)
        >>> [row[0] for row in new] == rows.answer.tolist()  # the base counts a
        True
    """
    sampling = Sampling(temperature, top_k, top_p)
    rows = _as_lists(prompts)
    _check_model(model)
    _check_request(model, rows, max_new_tokens, stop_token, first_row, batch_size)
    found: list[list[int]] = []
    for begin in range(0, len(rows), batch_size):
        batch = rows[begin : begin + batch_size]
        numbers = range(first_row + begin, first_row + begin + len(batch))
        # As many numbers as a row could ever need: fewer tokens asked for do not change the ones given.
        uniform = torch.stack(
            [
                torch.rand(
                    model.cfg.n_ctx, generator=generator(seed, "row", row), dtype=torch.float64
                )
                for row in numbers
            ]
        )
        found += _continued(model, batch, max_new_tokens, sampling, stop_token, uniform)
    return found


@torch.no_grad()
def _continued(
    model: HookedTransformer,
    prompts: list[list[int]],
    max_new_tokens: int,
    sampling: Sampling,
    stop_token: int | None,
    uniform: Tensor,
) -> list[list[int]]:
    """One batch's continuations. ``uniform``: Float["row step"]."""
    device = device_of(model)
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    longest = int(lengths.max())
    padded = torch.tensor([prompt + [0] * (longest - len(prompt)) for prompt in prompts])
    cache = KeyValues(model, longest + max_new_tokens - 1)  # the last new token is not read
    logits = cache.start(padded.to(device), lengths.to(device))
    uniform = uniform.to(device)
    going = torch.arange(len(prompts), device=device)  # which rows the cache holds
    ended = torch.zeros(len(prompts), dtype=torch.bool, device=device)  # of these
    found: list[list[int]] = [[] for _ in prompts]
    for step in range(max_new_tokens):
        tokens = next_tokens(logits, sampling, uniform[going, step])
        for row, token, over in zip(going.tolist(), tokens.tolist(), ended.tolist(), strict=True):
            if not over:
                found[row].append(token)
        if stop_token is not None:
            ended = ended | (tokens == stop_token)
        left = len(going) - int(ended.sum())
        if left == 0 or step == max_new_tokens - 1:
            break
        if left <= _COMPACT_AT * len(going):
            kept = (~ended).nonzero()[:, 0]
            going, ended, tokens = going[kept], ended[kept], tokens[kept]
            cache.keep(kept)
        logits = cache.step(tokens)
    return found


def _as_lists(prompts: Prompts) -> list[list[int]]:
    if isinstance(prompts, Tensor):
        require(
            prompts.dim() == 2 and not prompts.is_floating_point(),
            "Prompts as a tensor are whole numbers with axes row and pos; got "
            f"{prompts.dtype} of shape {tuple(prompts.shape)}.",
        )
        found: list[list[int]] = prompts.tolist()
        return found
    return [[int(token) for token in prompt] for prompt in prompts]


def _check_model(model: HookedTransformer) -> None:
    features = unsupported_features(model)
    if features:
        raise ConfigError(
            "Generation runs the fused forward, which does not cover this model: "
            f"{', '.join(features)}. Use its own generate()."
        )
    require(
        not has_hooks(model),
        "Generation runs no hooks, and this model has some attached. Call reset_hooks() first, or its own "
        "generate().",
    )
    require(
        model.cfg.attention_dir == "causal" and model.cfg.d_vocab == model.cfg.d_vocab_out,
        "Text is continued by a causal model that predicts its own tokens; this one's attention is "
        f"{model.cfg.attention_dir}, and it reads {model.cfg.d_vocab} tokens and predicts "
        f"{model.cfg.d_vocab_out}.",
    )


def _check_request(
    model: HookedTransformer,
    prompts: list[list[int]],
    max_new_tokens: int,
    stop_token: int | None,
    first_row: int,
    batch_size: int,
) -> None:
    for name, value, least in (
        ("max_new_tokens", max_new_tokens, 1),
        ("first_row", first_row, 0),
        ("batch_size", batch_size, 1),
    ):
        require(value >= least, f"{name} is at least {least}; got {value}.")
    d_vocab, n_ctx = int(model.cfg.d_vocab), int(model.cfg.n_ctx)
    require(
        stop_token is None or 0 <= stop_token < d_vocab,
        f"stop_token is a token of the model, 0..{d_vocab - 1}; got {stop_token}.",
    )
    for row, prompt in enumerate(prompts):
        require(bool(prompt), f"A prompt has at least one token; prompt {row} is empty.")
        require(
            0 <= min(prompt) <= max(prompt) < d_vocab,
            f"Tokens of this model are 0..{d_vocab - 1}; prompt {row} has {min(prompt)} to {max(prompt)}. "
            "Encode it with the model's own tokenizer.",
        )
        require(
            len(prompt) <= n_ctx,
            f"A prompt holds at most n_ctx = {n_ctx} tokens; prompt {row} has {len(prompt)}. Shorten it.",
        )
        require(
            len(prompt) + max_new_tokens <= n_ctx + 1,
            f"Prompt and new tokens fit into the context, n_ctx = {n_ctx} (the last new token is not read); "
            f"prompt {row} has {len(prompt)} tokens and {max_new_tokens} new ones are asked for. Ask for at "
            f"most {n_ctx + 1 - len(prompt)}, or shorten it.",
        )
