"""Attention patterns of a model, chunk by chunk, and which keys of a prompt belong to a group."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechft.analysis.activations import chunks
from mechft.analysis.batches import Data, each_batch
from mechft.errors import ConfigError, require
from mechft.models.hook_points import check_hook_points, device_of, pattern

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

    from mechft.tasks.batch import TokenBatch

Query = Literal["answer", "all"]
"""Which queries count: the position whose next token is the answer, or every position of the prompt."""
Tokens = Mapping[str, Sequence[int]] | Sequence[int]
"""Groups of token ids by name, or single token ids, a group each."""
KeysOf = Callable[["TokenBatch"], Bool[Tensor, "row key"]]
"""Which keys of each prompt count, where that differs from row to row."""

_BUDGET = 2**24  # attention weights of one model held at once


def attention_chunks(data: Data, model: HookedTransformer, query: Query) -> Iterator[TokenBatch]:
    """Rows in chunks whose patterns fit in memory, whatever the prompts' length."""
    per_pair = int(model.cfg.n_layers) * int(model.cfg.n_heads)
    for batch in each_batch(data):
        length = batch.answer_position + 1
        queries = 1 if query == "answer" else length
        yield from chunks(batch, max(1, min(64, _BUDGET // (per_pair * length * queries))))


@torch.no_grad()
def patterns(
    model: HookedTransformer, prompt: Int[Tensor, "row key"], query: Query = "all"
) -> list[Float[Tensor, "row head query key"]]:
    """A model's attention patterns, a tensor a block; with "answer" those of the last query alone.

    Raises:
        ConfigError: If a pattern is not finite, or empty.
    """
    found: dict[str, Tensor] = {}

    def keep(value: Tensor, hook: Any) -> None:
        found[hook.name] = value[:, :, -1:] if query == "answer" else value

    names = [pattern(block) for block in range(int(model.cfg.n_layers))]
    model.run_with_hooks(prompt.to(device_of(model)), fwd_hooks=[(name, keep) for name in names])
    for name in names:
        # TransformerLens writes zeros where a pattern would be NaN. A NaN fails this comparison too.
        require(
            bool((found[name].sum(-1) > 0).all()),
            f"{name} has queries that attend to nothing, or values that are not finite; the model has "
            "diverged or overflowed.",
        )
    return [found[name] for name in names]


def check_models(models: Mapping[str, HookedTransformer]) -> None:
    """Raise unless models show their patterns and have as many blocks and heads."""
    shapes = {}
    for name, model in models.items():
        n_layers, n_heads = int(model.cfg.n_layers), int(model.cfg.n_heads)
        check_hook_points(model, [pattern(block) for block in range(n_layers)])
        shapes[name] = (n_layers, n_heads)
    if len(set(shapes.values())) > 1:
        told = ", ".join(f"{name} {blocks} × {heads}" for name, (blocks, heads) in shapes.items())
        raise ConfigError(
            f"Attention is compared head by head, so models need as many blocks and heads; got {told} "
            "(blocks × heads)."
        )


def key_groups(
    tokens: Tokens | None, positions: Mapping[str, Sequence[int]] | None, d_vocab: int
) -> dict[str, tuple[str, list[int]]]:
    """Groups of keys by name, as ("tokens" or "positions", numbers).

    Raises:
        ConfigError: If a group is empty, a name comes twice, or a token does not exist.
    """
    named = tokens if isinstance(tokens, Mapping) else {str(t): [t] for t in tokens or ()}
    groups: dict[str, tuple[str, list[int]]] = {}
    for kind, given in (("tokens", named), ("positions", positions or {})):
        for name, numbers in given.items():
            require(name not in groups, f"Groups need different names; {name!r} comes twice.")
            require(
                isinstance(numbers, Iterable) and not isinstance(numbers, str),
                f"A group of keys is a list of numbers; {name!r} is {numbers!r}.",
            )
            found = [_whole(number, name) for number in numbers]
            require(
                bool(found),
                f"A group of keys needs a token id or a position; {name!r} has none.",
            )
            wrong = [n for n in found if kind == "tokens" and not 0 <= n < d_vocab]
            require(
                not wrong,
                f"Token ids are 0..{d_vocab - 1} in this model; group {name!r} has {wrong}.",
            )
            groups[name] = (kind, found)
    return groups


def key_masks(
    groups: Mapping[str, tuple[str, list[int]]], prompt: Int[Tensor, "row key"]
) -> Bool[Tensor, "row group key"]:
    """Which keys of each prompt are in each group, in their order."""
    rows, length = prompt.shape
    masks = torch.zeros(rows, len(groups), length, dtype=torch.bool, device=prompt.device)
    for place, (name, (kind, numbers)) in enumerate(groups.items()):
        if kind == "tokens":
            masks[:, place] = torch.isin(prompt, torch.tensor(numbers, device=prompt.device))
            continue
        outside = [n for n in numbers if not -length <= n < length]
        require(
            not outside,
            f"Positions of a prompt of {length} tokens are {-length}..{length - 1}; group {name!r} has "
            f"{outside}.",
        )
        masks[:, place, [n % length for n in numbers]] = True
    return masks


def own_masks(groups: Mapping[str, KeysOf], batch: TokenBatch) -> Bool[Tensor, "row group key"]:
    """``key_masks`` of groups that differ from row to row.

    Raises:
        ConfigError: If a function gives anything but a truth value for each row and position.
    """
    shape = tuple(batch.prompt.shape)
    masks = torch.zeros(
        shape[0], len(groups), shape[1], dtype=torch.bool, device=batch.prompt.device
    )
    for place, (name, keys) in enumerate(groups.items()):
        found = keys(batch)
        fits = isinstance(found, Tensor) and found.dtype == torch.bool
        require(
            fits and tuple(found.shape) == shape,
            f"The keys of group {name!r} are truth values of shape {list(shape)}, rows and positions of "
            f"the prompt; got {list(found.shape) if fits else type(found).__name__}.",
        )
        masks[:, place] = found
    return masks


def _whole(number: object, group: str) -> int:
    value = number.item() if isinstance(number, torch.Tensor) else number
    require(
        isinstance(value, Integral) and not isinstance(value, bool),
        f"Token ids and positions are whole numbers; the group {group!r} has {value!r}.",
    )
    return int(cast(int, value))
