"""What a probe's accuracy is compared with: a model that knows nothing, and labels that mean nothing."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Int
from torch import Tensor

from mechft.errors import require
from mechft.models.build import build_model, clone, model_config
from mechft.models.fused import unsupported_features
from mechft.models.hook_points import ModelLike, as_model, device_of
from mechft.randomness import derive_seed, generator
from mechft.tasks.batch import TokenBatch

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

Control = Literal["random_model", "shuffled_labels", "permuted_labels"]
"""random_model: the same probe on the model with its weights drawn afresh; a generous control for a
bidirectional model, where each position of even this one holds which letters the whole string has.
shuffled_labels: a control task (Hewitt & Liang 2019), labels that are a fixed random function of a row's
type. permuted_labels: the labels dealt out to the rows anew, so that nothing can be learned from them."""

TypeOf = int | Callable[[TokenBatch], Int[Tensor, "row part"]]
"""A row's type, on which control labels depend: its last so many prompt tokens, of those positions whose
token varies; or a function that gives a row of whole numbers for each row."""

_MOST = 3  # tokens of a type if none is asked for
_SEEN = 0.5  # share of test rows whose type must occur in training for the control to be learnable


def random_twin(model: ModelLike, seed: int = 0) -> HookedTransformer:
    """A model of the same architecture, dtype and device whose weights are drawn afresh.

    A HookedTransformer that ``build_model`` could have made is built anew. Of any other model, such as a
    TransformerBridge, a clone is redrawn: matrices from N(0, initializer_range²), norms' scales 1,
    biases 0. The model given is left as it is.

    Cost: one copy of the weights.
    """
    model = as_model(model)
    parameter = next(model.parameters())
    if not unsupported_features(model):  # then ``model_config`` describes it whole
        # A seed of its own: the model itself may have been drawn from this very one.
        fresh = derive_seed(seed, "random twin")
        twin = build_model(model_config(model), fresh, parameter.dtype)
        twin.to(device_of(model), print_details=False)
        twin.train(model.training)
        return twin
    twin = clone(model)
    spread = _initializer_range(model)
    draws = generator(seed, "random twin")
    with torch.no_grad():
        for name, value in twin.named_parameters():
            kind = name.split(".")[-1]
            if value.dim() >= 2 and not (kind.startswith("b_") or kind == "bias"):
                drawn = torch.randn(value.shape, generator=draws, dtype=torch.float32)
                value.copy_(spread * drawn)
            else:
                value.fill_(1.0 if kind in ("w", "weight") else 0.0)
    return twin


def twin_kind(model: HookedTransformer) -> Hashable:
    """What decides with the seed which random twin a model gets; None where it is the model itself."""
    if unsupported_features(model):
        return None
    parameter = next(model.parameters())
    return model_config(model), parameter.dtype, parameter.device, model.training


def _initializer_range(model: HookedTransformer) -> float:
    inner = getattr(getattr(model, "original_model", None), "config", None)
    for config in (inner, model.cfg):
        found = getattr(config, "initializer_range", None)
        if isinstance(found, float) and found > 0:
            return found
    return 0.02  # GPT-2's


def control_labels(
    target: Int[Tensor, " row"],
    batches: Sequence[TokenBatch],
    *,
    type_of: TypeOf | None = None,
    seed: int = 0,
) -> tuple[Int[Tensor, " row"], ...]:
    """Labels of the control task for each batch: a fixed random function of a row's type.

    The types, in random order, divide the training rows among themselves; each gets the label at its
    middle in the sorted training labels. So the labels have about the distribution of the target's,
    a type has the same label in every batch, and only what a probe remembers of types helps it.

    Args:
        target: The target's labels of the training rows.
        batches: The rows, training first.
        type_of: What a row's type is; by default its last three tokens, or fewer where the vocabulary is
            so large that types of three seldom come again.
        seed: Seed of the random function.

    Raises:
        ConfigError: If all training rows are of one type, or most other rows of a type training lacks.

    Source: Hewitt & Liang (2019), "Designing and Interpreting Probes with Control Tasks".
    """
    types = _recurring(batches) if type_of is None else _types(batches, type_of)
    kinds, index = types.unique(dim=0, return_inverse=True)
    per_batch = index.split([len(batch) for batch in batches])
    counts = torch.bincount(per_batch[0], minlength=len(kinds))
    require(
        int((counts > 0).sum()) > 1,
        "A control task needs rows of several types; all training rows are of one. Give more tokens "
        "or another function as control_type.",
    )
    seen = min(float((counts[found] > 0).double().mean()) for found in per_batch)
    require(
        seen >= _SEEN,
        f"A control task can only be learned from types that occur in training; {seen:.0%} of the other "
        f"rows have one that does, out of {len(kinds)} types. Give fewer tokens as control_type.",
    )
    order = torch.randperm(len(kinds), generator=generator(seed, "control", "types"))
    middle = counts[order].cumsum(0) - (counts[order] + 1) // 2
    label_of = target.new_empty(len(kinds))
    label_of[order] = target.sort().values[middle.clamp(0, len(target) - 1)]
    # A type that training lacks has no share of the rows; its label is any row's.
    unseen = counts == 0
    any_row = torch.randint(
        len(target), (len(kinds),), generator=generator(seed, "control", "unseen")
    )
    label_of[unseen] = target[any_row[unseen]]
    return tuple(label_of[found] for found in per_batch)


def _recurring(batches: Sequence[TokenBatch]) -> Int[Tensor, "row part"]:
    """Types of three tokens; of fewer if most rows would then have one that is nowhere else in training."""
    sizes = [len(batch) for batch in batches]
    for tokens in range(_MOST, 0, -1):
        found = _types(batches, tokens)
        train, *others = found.unique(dim=0, return_inverse=True)[1].split(sizes)
        counts = torch.bincount(train, minlength=int(max(map(torch.max, [train, *others]))) + 1)
        again = [counts[train] > 1, *(counts[other] > 0 for other in others)]
        if min(float(part.double().mean()) for part in again) >= _SEEN:
            break
    return found


def _types(batches: Sequence[TokenBatch], type_of: TypeOf) -> Int[Tensor, "row part"]:
    if callable(type_of):
        parts = [type_of(batch).cpu() for batch in batches]
        return torch.cat([part[:, None] if part.dim() == 1 else part for part in parts])
    require(type_of >= 1, f"A row's type is at least its last token; got {type_of} tokens.")
    shown = torch.cat([batch.prompt for batch in batches]).cpu()
    varying = (shown != shown[0]).any(0).nonzero()[:, 0]
    require(
        len(varying) > 0,
        "A control task needs rows of several types; all rows show the same prompt. Give more varied rows.",
    )
    return shown[:, varying[-type_of:]]


def permuted(labels: Int[Tensor, " row"], seed: int, *path: str) -> Int[Tensor, " row"]:
    """The labels dealt out to the rows anew."""
    order = torch.randperm(len(labels), generator=generator(seed, "permuted", *path))
    return labels[order]
