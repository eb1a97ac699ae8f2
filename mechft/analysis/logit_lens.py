"""Logit lens: what a model would answer if it stopped after each block.

nostalgebraist (2020): the residual stream after a block, through the final norm and the unembedding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from mechft.analysis.activations import chunks
from mechft.analysis.batches import Data
from mechft.analysis.metrics import n_answers
from mechft.analysis.result import Result
from mechft.analysis.streaming.means import MeanFitter, finite_float64
from mechft.errors import ConfigError, require, unknown_name
from mechft.models.hook_points import (
    ModelLike,
    as_model,
    check_hook_points,
    device_of,
    resid_post,
)
from mechft.statistics import proportion
from mechft.training.evaluation import among_candidates

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

Readout = Literal["own", "base"]
_BUDGET = 2**23  # log-probabilities of one model held at once


@dataclass(frozen=True)
class LogitLens(Result):
    """What models would answer if they stopped after each block.

    Columns: model, block, hook, readout ("own" or "base": whose final norm and unembedding), accuracy,
    ci_low, ci_high (95% Wilson: the likeliest token is the right answer), rank, rank_low, rank_high (mean
    place of the right answer, 1 is the likeliest; tokens of equal logit share their mean place),
    probability, probability_low, probability_high (mean, of the right answer), kl_from_base,
    kl_from_base_low, kl_from_base_high (mean KL(base ‖ model) of the two lenses at the same block, nats;
    NaN for the base), n (rows). Intervals of means are 95% normal, over rows. Of a batch with candidates,
    accuracy, rank and probability are among these.
    """


def lens_logits(
    model: ModelLike, resid: Float[Tensor, "batch d_model"]
) -> Float[Tensor, "batch d_vocab"]:
    """A residual stream through a model's final norm and unembedding, as after its last block.

    Raises:
        ConfigError: If the model has no ``unembed``.
    """
    model = as_model(model)
    parts: Any = model
    if not hasattr(parts, "unembed"):
        raise ConfigError(
            f"The logit lens needs the modules ln_final and unembed; this {type(parts).__name__} has "
            "no unembed."
        )
    # Compiled models have no final norm. Modules take Float["batch pos d_model"].
    norm = getattr(parts, "ln_final", None)
    x = resid[:, None]
    logits: Tensor = parts.unembed(x if norm is None else norm(x))[:, 0]
    cap = float(getattr(model.cfg, "output_logits_soft_cap", None) or -1.0)
    return cap * torch.tanh(logits / cap) if cap > 0 else logits


def logit_lens(
    models: Mapping[str, ModelLike], data: Data, *, readout: Readout = "own"
) -> LogitLens:
    """Both models' lenses block by block, at the answer position, and how far apart they are.

    To ask for another token than the right answer (such as the answer for another operand), give a batch
    whose ``answer`` holds it: ``dataclasses.replace(batch, answer=…)``.

    Args:
        models: By name; the first is the base, the others are compared with it.
        data: Rows; read once, every model sees each chunk.
        readout: "own": each model's residual stream is read by its own norm and unembedding. "base": by
            the base's, so that a change of the readout itself is left out.

    Raises:
        UnknownNameError: If a model lacks ``blocks.i.hook_resid_post``, or the readout is not known.
        ConfigError: If there is no model or row, vocabularies or (for "base") widths differ, values are
            not finite, or after the last block a model's own lens does not give its own logits.

    Cost: one hooked forward a model, and an unembedding a block and row.
    """
    named = {name: as_model(model) for name, model in models.items()}
    require(bool(named), "The logit lens needs at least one model, by name; got none.")
    if readout not in ("own", "base"):
        raise unknown_name("readout", readout, ("own", "base"))
    base = next(iter(named.values()))
    for name, model in named.items():
        check_hook_points(model, [resid_post(b) for b in range(int(model.cfg.n_layers))])
        _check_shapes(name, model, base, readout)
    hits: dict[tuple[str, int], int] = {}
    means: dict[tuple[str, int], MeanFitter] = {}
    most = max(int(model.cfg.n_layers) for model in named.values()) * n_answers(base)
    for chunk in chunks(data, max(1, min(64, _BUDGET // most))):
        reference: list[Tensor] = []
        for name, model in named.items():
            logs = _lenses(model, chunk.prompt, base if readout == "base" else model)
            for block, log in enumerate(logs):
                key = (name, block)
                told, right = among_candidates(log, chunk)
                if chunk.candidates is not None:
                    told = told.log_softmax(-1)
                hits[key] = hits.get(key, 0) + int((told.argmax(-1) == right).sum())
                values = [_rank(told, right), told.exp().gather(1, right[:, None])[:, 0]]
                if block < len(reference):
                    values.append(_kl(reference[block].to(log.device), log))
                means.setdefault(key, MeanFitter()).update(torch.stack(values, 1))
            reference = reference or logs
    rows = []
    for (name, block), fitter in means.items():
        found = fitter.result()
        share = proportion(hits[name, block], found.n)
        row: dict[str, Any] = {
            "model": name,
            "block": block,
            "hook": resid_post(block),
            "readout": readout,
            "accuracy": share.value,
            "ci_low": share.low,
            "ci_high": share.high,
        }
        for i, measure in enumerate(("rank", "probability", "kl_from_base")):
            there = i < len(found.mean)
            estimate = found.estimate(i) if there else None
            row[measure] = estimate.value if estimate else float("nan")
            row[f"{measure}_low"] = estimate.low if estimate else float("nan")
            row[f"{measure}_high"] = estimate.high if estimate else float("nan")
        rows.append(row | {"n": found.n})
    import pandas as pd

    return LogitLens(pd.DataFrame(rows))


@torch.no_grad()
def _lenses(
    model: HookedTransformer, prompt: Int[Tensor, "batch pos"], reader: HookedTransformer
) -> list[Float[Tensor, "batch d_vocab"]]:
    """Log-probabilities of the next token after each block, in float64."""
    names = [resid_post(b) for b in range(int(model.cfg.n_layers))]
    logits: Any  # run_with_cache's type allows for outputs that were not asked for
    logits, cache = model.run_with_cache(
        prompt.to(device_of(model)), names_filter=lambda name: name in names
    )
    final = lens_logits(model, cache[names[-1]][:, -1])
    _check_final(final, logits[:, -1])
    like = next(reader.parameters())  # the reader may be on another device, in another precision
    read = [lens_logits(reader, cache[name][:, -1].to(like)) for name in names]
    return [
        finite_float64(value, f"The lens at {name}").log_softmax(-1)
        for name, value in zip(names, read, strict=True)
    ]


def _check_final(lens: Tensor, logits: Tensor) -> None:
    difference = float((lens.float() - logits.float()).abs().max())
    half = logits.dtype in (torch.float16, torch.bfloat16)
    allowed = (5e-2 if half else 1e-3) * (1 + float(logits.float().abs().max()))
    if difference > allowed:
        raise ConfigError(
            "After the last block the lens is the model's own readout, but its logits differ from the "
            f"model's by {difference:.3g}: between hook_resid_post and the logits this model does more "
            "than ln_final and unembed, or a hook changes something there. Remove the hook; a model of "
            "that kind cannot be read by the logit lens."
        )


def _check_shapes(
    name: str, model: HookedTransformer, base: HookedTransformer, readout: Readout
) -> None:
    for what, one, two in (
        ("tokens", int(model.cfg.d_vocab), int(base.cfg.d_vocab)),
        ("answers", n_answers(model), n_answers(base)),
    ):
        require(
            one == two,
            f"Models compared share a vocabulary; {name} has {one} {what}, the base {two}.",
        )
    one, two = int(model.cfg.d_model), int(base.cfg.d_model)
    require(
        readout == "own" or one == two,
        f'The base\'s unembedding reads streams of width {two}; {name} has {one}. Use readout="own".',
    )


def _rank(log: Float[Tensor, "row d_vocab"], right: Int[Tensor, " row"]) -> Float[Tensor, " row"]:
    own = log.gather(1, right[:, None])
    return 1 + (log > own).sum(1) + ((log == own).sum(1) - 1) / 2


def _kl(p: Float[Tensor, "row d_vocab"], q: Float[Tensor, "row d_vocab"]) -> Float[Tensor, " row"]:
    """KL(p ‖ q) from log-probabilities, nats; rounding does not take it below 0."""
    return F.kl_div(q, p, reduction="none", log_target=True).sum(-1).clamp(min=0)
