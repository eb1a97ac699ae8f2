"""Models with a known fate: a wrapper put on by hand, and a capability destroyed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from mechft.analysis.units.editing import grafted_copy
from mechft.analysis.units.scores import gradient_times_weight
from mechft.models.build import build_model, clone, model_config
from mechft.randomness import generator
from mechft.training.recipes import finetune
from mechft.training.trained import Trained

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

NEURONS = (11, 57, 300)


def wrapped(base: Trained, neurons: tuple[int, ...] = NEURONS, strength: float = 40.0) -> Trained:
    """A copy whose named MLP neurons of the last block say "0" at the answer position, whatever is asked.

    They are tuned to what the stream holds there in common when a is asked for, are off where their
    incoming weights are gone, and write the direction of the token "0". Nothing else is touched, so the
    count is still worked out.
    """
    model = clone(base.model)
    last = int(model.cfg.n_layers) - 1
    stream = _normalised_mid(model, base, last)
    # The direction in which these streams are most alike: ridge regression of 1 on them.
    gram = stream.T @ stream / len(stream) + 0.01 * torch.eye(stream.shape[1])
    tuned = torch.linalg.solve(gram, stream.mean(0))
    least, mean = float((stream @ tuned).min()), float((stream @ tuned).mean())
    slope = 3 / (mean - least)  # on by 2 at the least of the values, by 5 at their mean
    assert slope * least > 6  # so that without its weights a neuron is at most at gelu(-4), off
    zero = base.task.vocabulary.id("0")
    weights: Any = model
    unembed: torch.Tensor = weights.W_U.detach()
    says = torch.nn.functional.normalize(unembed[:, zero] - unembed.mean(1), dim=0)
    mlp: Any = model.blocks[last].mlp
    with torch.no_grad():
        for neuron in neurons:
            mlp.W_in[:, neuron] = tuned * slope
            mlp.b_in[neuron] = 2 - slope * least
            mlp.W_out[neuron] = says * (strength / len(neurons))
    return replace(base, model=model, name="wrapped")


@torch.no_grad()
def _normalised_mid(model: HookedTransformer, base: Trained, block: int) -> torch.Tensor:
    rows = base.task.query("C", "a").sample(300, generator(0, "planted"))
    name = f"blocks.{block}.ln2.hook_normalized"
    _, cache = model.run_with_cache(rows.prompt, names_filter=lambda n: n == name)
    ln2: Any = model.blocks[block].ln2
    stream: torch.Tensor = cache[name][:, -1] * ln2.w + ln2.b
    return stream


def destroyed(base: Trained, units: int = 1500, steps: int = 100) -> Trained:
    """A copy whose units that count a are overwritten with noise, retrained on counting b alone.

    The units are those with the largest |gradient × weight| of the loss on counting a.
    """
    rows = base.task.query("C", "a").sample(1000, generator(0, "planted", "score"))
    mask = abs(gradient_times_weight(base, rows)).top(units)
    noise = build_model(model_config(base.model), seed=1)
    model = grafted_copy(base, mask, noise)
    start = replace(base, model=model, name="destroyed")
    return finetune(
        start, "b", train_correlation=0.0, steps=steps, learning_rate=1e-3, name="destroyed",
        evaluation_size=20,  # which nobody reads
    )  # fmt: skip
