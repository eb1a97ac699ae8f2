"""Activations as rows: one forward a chunk serves every hook point."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mechft.analysis.batches import Data, each_batch
from mechft.errors import ConfigError, require
from mechft.models.fused import EDITABLE, fused_activations, unsupported_features
from mechft.models.hook_points import (
    ModelLike,
    as_model,
    check_hook_points,
    device_of,
    has_hooks,
)
from mechft.models.weights import is_hooked_transformer
from mechft.tasks.batch import TokenBatch

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

_CHUNK = 64  # rows a forward: bounds the memory of the cache (256 took a quarter longer)

Positions = Literal["answer", "all"] | int | slice
"""Which positions of a prompt become rows.

"answer": the one whose next token is the answer. An int: that one, negative from the prompt's end. A
slice: the mean over it (``slice(-10, None)``: the last ten). "all": every position, a row each.
"""


def chunks(data: Data, size: int = _CHUNK) -> Iterator[TokenBatch]:
    """The rows of some data in batches of at most ``size``, so that memory stays bounded."""
    for batch in each_batch(data):
        for start in range(0, len(batch), size):
            yield batch.rows(slice(start, start + size))


def stream_activations(
    model: ModelLike,
    data: Data,
    hook_names: Sequence[str],
    positions: Positions = "answer",
) -> Iterator[dict[str, Float[Tensor, "row width"]]]:
    """Activations chunk by chunk, by hook name; heads laid side by side, on the model's device.

    Args:
        model: Any model with ``run_with_cache``.
        data: What to run; only the prompts are shown.
        hook_names: Hook points with a position axis second, such as "blocks.0.hook_resid_post".
        positions: Which positions; see ``Positions``.

    Raises:
        UnknownNameError: If the model lacks a hook point; names the nearest.
        ConfigError: If there is no row, a hook has no position axis, a position does not exist, or a
            value is not finite.

    Cost: one hooked forward over the prompts for all hook points together.
    """
    model = as_model(model)
    check_hook_points(model, hook_names)
    for chunk in chunks(data):
        yield activations_of(model, chunk, hook_names, positions)


@torch.no_grad()
def activations_of(
    model: HookedTransformer,
    batch: TokenBatch,
    hook_names: Sequence[str],
    positions: Positions = "answer",
) -> dict[str, Float[Tensor, "row width"]]:
    """``stream_activations`` of one batch, in one forward."""
    wanted = set(hook_names)
    prompt = batch.prompt.to(device_of(model))
    largest, size = int(prompt.max()), int(model.cfg.d_vocab)
    require(largest < size, f"Token ids are below d_vocab = {size} of this model; got {largest}.")
    cache: Any
    if _fast(model, wanted):
        cache = fused_activations(model, prompt, wanted)
    else:
        _, cache = model.run_with_cache(prompt, names_filter=lambda name: name in wanted)
    found: dict[str, Tensor] = {}
    for name in hook_names:
        require(
            name in cache,
            f"{name} exists, but this model does not compute it as it is configured; choose another hook "
            "point (or, on a HookedTransformer, set_use_attn_result and the like).",
        )
        value = cache[name]
        if value.dim() < 3 or value.shape[1] != prompt.shape[1]:
            raise ConfigError(
                f"{name} has shape {tuple(value.shape)}, without a position axis second. Name a "
                "hook point of the residual stream, of a component's output, or of heads (z)."
            )
        found[name] = _rows(value.flatten(2), positions)
        require(
            bool(found[name].isfinite().all()),
            f"{name} holds values that are not finite; the model has diverged or overflowed.",
        )
    return found


def _fast(model: HookedTransformer, hook_names: set[str]) -> bool:
    """Whether the fused forward gives these activations: of Llama-style models, a third of the time.

    GPT-style models keep the hooked one, with whose bits the figures of the bundled ones were made.
    """
    return (
        is_hooked_transformer(model)
        and bool(model.cfg.gated_mlp)
        and all(name.startswith("blocks.") and name.endswith(EDITABLE) for name in hook_names)
        and not has_hooks(model)
        and not unsupported_features(model)
    )


def _rows(value: Float[Tensor, "batch pos width"], positions: Positions) -> Tensor:
    length = value.shape[1]
    if positions == "answer":
        return value[:, -1]  # the prompt ends there
    if positions == "all":
        return value.flatten(0, 1)
    if isinstance(positions, slice):
        part = value[:, positions]
        require(
            part.shape[1] > 0,
            f"{positions} selects no position of prompts of {length} tokens.",
        )
        return (part if part.dtype == torch.float64 else part.float()).mean(1)
    require(
        isinstance(positions, int) and -length <= positions < length,
        f'Positions are "answer", "all", a slice, or a number in {-length}..{length - 1} for prompts of '
        f"{length} tokens; got {positions!r}.",
    )
    return value[:, positions]


def gather_activations(
    model: ModelLike,
    data: Data,
    hook_names: Sequence[str],
    positions: Positions = "answer",
) -> dict[str, Float[Tensor, "row width"]]:
    """``stream_activations`` of all data at once, on the CPU, in float32 at least.

    Memory: rows × width × hook points.
    """
    found: dict[str, list[Tensor]] = {name: [] for name in hook_names}
    for part in stream_activations(model, data, hook_names, positions):
        for name, value in part.items():
            # Half precision would make sums and covariances meaningless.
            found[name].append(value.cpu() if value.dtype == torch.float64 else value.float().cpu())
    return {name: torch.cat(parts) for name, parts in found.items()}
