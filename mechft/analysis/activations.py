"""Activations at the answer position, gathered in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from mechft.errors import ConfigError, require
from mechft.models.hook_points import check_hook_points, device_of
from mechft.tasks.batch import TokenBatch

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

_CHUNK = 64  # rows a forward: bounds the memory of the cache (256 took a quarter longer)


@torch.no_grad()
def answer_activations(
    model: HookedTransformer, batch: TokenBatch, hook_names: Sequence[str]
) -> dict[str, Float[Tensor, "batch width"]]:
    """Activations at each row's answer position, on the CPU, by hook name; heads laid side by side.

    Args:
        model: Any model with ``run_with_cache``.
        batch: What to run; only the prompt is shown.
        hook_names: Hook points with a position axis second, such as "blocks.0.hook_resid_post".

    Raises:
        UnknownNameError: If the model lacks a hook point; names the nearest.
        ConfigError: If the batch is empty, a hook has no position axis, or a value is not finite.

    Cost: one hooked forward over the prompt for all hook points together.
    """
    require(len(batch) > 0, "A batch needs at least one row; got none.")
    check_hook_points(model, hook_names)
    wanted = set(hook_names)
    found: dict[str, list[Tensor]] = {name: [] for name in hook_names}
    for prompt in batch.prompt.to(device_of(model)).split(_CHUNK):
        _, cache = model.run_with_cache(prompt, names_filter=lambda name: name in wanted)
        for name in hook_names:
            value = cache[name]
            if value.dim() < 3 or value.shape[1] != prompt.shape[1]:
                raise ConfigError(
                    f"{name} has shape {tuple(value.shape)}, without a position axis second. Name a "
                    "hook point of the residual stream, of a component's output, or of heads (z)."
                )
            found[name].append(value[:, batch.answer_position].flatten(1).cpu())
    activations = {name: torch.cat(parts) for name, parts in found.items()}
    for name, value in activations.items():
        require(
            bool(value.isfinite().all()),
            f"{name} holds values that are not finite; the model has diverged or overflowed.",
        )
    return activations
