"""What the analyses by linear probes share: labelled rows, models with their sites, and controls."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

from jaxtyping import Int
from torch import Tensor

from mechft.analysis.activations import Positions, gather_activations
from mechft.analysis.batches import Data, one_batch
from mechft.analysis.probes.controls import (
    Control,
    TypeOf,
    control_labels,
    permuted,
    random_twin,
    twin_kind,
)
from mechft.analysis.probes.linear_probes import class_index
from mechft.errors import ConfigError, require, unknown_name
from mechft.models.hook_points import (
    ModelLike,
    as_model,
    block_of,
    check_hook_points,
    component_of,
    resid_post,
)
from mechft.tasks.batch import TokenBatch

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

Features = list[dict[str, Tensor]]
"""Activations at the answer position (or another) by site, batch for batch."""

Labels = tuple[Int[Tensor, " row"], ...]
"""Labels of each batch: training, test and, where there is one, validation."""


def labelled(data: Data, target: str, *, learn: bool = False) -> TokenBatch:
    """The rows as one batch, once they carry the label; with ``learn``, in at least two classes.

    Raises:
        UnknownNameError: If they lack it; names the nearest.
        ConfigError: If there is no row, or only one class to learn.
    """
    batch = one_batch(data)
    if target not in batch.labels:
        raise unknown_name("label", target, batch.labels)
    if learn:
        class_index(batch.labels[target])
    return batch


def sites_of(
    model: ModelLike, hook_names: Sequence[str] | None, positions: Positions = "answer"
) -> tuple[HookedTransformer, list[str]]:
    """A model and the sites to probe: by default the residual stream after each block.

    Raises:
        UnknownNameError: If the model lacks a site; names the nearest.
        ConfigError: If there is no site, or positions are "all".
    """
    require(
        positions != "all",
        'A label belongs to a row, so a probe reads one place a row: "answer", a position, or a slice '
        'to average over; got positions="all".',
    )
    found = as_model(model)
    names = [resid_post(b) for b in range(int(found.cfg.n_layers))]
    sites = list(dict.fromkeys(names if hook_names is None else hook_names))
    require(bool(sites), "A probe needs at least one site; hook_names is empty.")
    check_hook_points(found, sites)
    return found, sites


def named_sites(
    models: Mapping[str, ModelLike], hook_names: Sequence[str] | None, positions: Positions
) -> dict[str, tuple[HookedTransformer, list[str]]]:
    """``sites_of`` every model.

    Raises:
        ConfigError: If models are not given by name, or there is none.
    """
    if not isinstance(models, Mapping) or not models:
        raise ConfigError(
            'Models are given by name, such as {"base": model}, at least one; got '
            f"{'none' if isinstance(models, Mapping) else type(models).__name__}."
        )
    return {name: sites_of(model, hook_names, positions) for name, model in models.items()}


def place(site: str) -> dict[str, Any]:
    """The columns that say where a site is."""
    return {"block": block_of(site), "hook": site, "component": component_of(site)}


def control_tasks(
    controls: Sequence[Control],
    target: str,
    batches: Sequence[TokenBatch],
    control_type: TypeOf | None,
    seed: int,
) -> dict[str, Labels]:
    """The labels each control is fitted and scored on, with "none" first: the target's own.

    Args:
        controls: Their names.
        target: Name of the label.
        batches: Training rows first.
        control_type: As in ``control_labels``.
        seed: Seed of the controls.

    Raises:
        UnknownNameError: If a control is not known.
        ConfigError: If one is named twice, or as ``control_labels``.
    """
    own = tuple(batch.labels[target].cpu() for batch in batches)
    found = {"none": own}
    for control in controls:
        if control not in get_args(Control):
            raise unknown_name("control", control, get_args(Control))
        require(control not in found, f"Name each control once; got {list(controls)}.")
        if control == "shuffled_labels":
            found[control] = control_labels(own[0], batches, type_of=control_type, seed=seed)
        elif control == "permuted_labels":
            found[control] = tuple(permuted(x, seed, str(i)) for i, x in enumerate(own))
        else:
            found[control] = own
    return found


def features_of_controls(
    controls: Sequence[str],
    model: HookedTransformer,
    sites: Sequence[str],
    batches: Sequence[TokenBatch],
    positions: Positions,
    seed: int,
    twins: dict[Hashable, Features] | None = None,
) -> Iterator[tuple[str, Features]]:
    """Each control with the activations its probes see; one forward serves all that share a model.

    Args:
        twins: Activations of random twins by their kind: filled, and read where models share a twin.

    Memory: the activations of one model, and from "random_model" on those of its random twin.
    """

    def gathered(of: HookedTransformer) -> Features:
        return [gather_activations(of, batch, sites, positions) for batch in batches]

    def of_twin() -> Features:
        kind = twin_kind(model)
        if twins is None or kind is None:
            return gathered(random_twin(model, seed))
        if kind not in twins:
            twins.clear()  # those of one kind at a time
            twins[kind] = gathered(random_twin(model, seed))
        return twins[kind]

    own = gathered(model)
    for control in controls:
        yield control, of_twin() if control == "random_model" else own
