"""Channels of a compiled model's residual stream, by what they mean.

Tracr gives every direction of the residual stream a meaning: "tokens:a" is 1 where the token is a,
"count:3" where the count is 3, "one" everywhere. The names stay with the model through cloning,
fine-tuning and checkpoints; after fine-tuning they say what a channel meant to the compiler.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from mechft.errors import require, unknown_name
from mechft.models.hook_points import ModelLike, as_model

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer


def residual_labels(model: ModelLike) -> tuple[str, ...]:
    """The name of every channel of the residual stream, in order.

    Args:
        model: A compiled program, or what became of it.

    Raises:
        ConfigError: If the model's channels have no names: it was not compiled.

    Example:
        >>> import mechft as mf
        >>> labels = mf.residual_labels(mf.load("tracr-max"))
        >>> [label for label in labels if label.startswith("rank:")][:3]
        ['rank:0', 'rank:1', 'rank:2']
    """
    inner = as_model(model)
    labels = getattr(inner, "residual_labels", None)
    require(
        isinstance(labels, tuple),
        "The residual channels of this model have no names; only compiled models' have "
        "(mechft.models.tracr.compile_program). Address a channel of a trained model by its number.",
    )
    names: tuple[str, ...] = tuple(labels or ())
    return names


def channel(model: ModelLike, label: str) -> int:
    """The place of a named channel: "count:3" is where the residual stream says that the count is 3.

    Args:
        model: A compiled program, or what became of it.
        label: The channel's name, of ``residual_labels``.

    Raises:
        UnknownNameError: If no channel has that name; the nearest ones are named.
        ConfigError: As ``residual_labels``.

    Example:
        >>> import mechft as mf
        >>> base = mf.load("tracr-max")
        >>> tokens = base.task.encode("bdafhmxpqn")[None]
        >>> _, cache = base.model.run_with_cache(tokens)
        >>> fifth = cache["resid_post", 0][0, :, mf.channel(base.model, "rank:4")]
        >>> base.task.vocabulary.decode(tokens[0])[fifth.argmax()]  # four letters come before h
        'h'
    """
    labels = residual_labels(model)
    if label not in labels:
        raise unknown_name("residual channel", label, labels)
    return labels.index(label)


def variable(model: ModelLike, name: str) -> dict[str, int]:
    """The channels of one variable of the program: ``{"0": 11, "1": 12, …}`` for "count".

    A numerical variable has one channel, under the empty value.

    Raises:
        UnknownNameError: If the program has no such variable; the nearest ones are named.
        ConfigError: As ``residual_labels``.
    """
    parts = [label.partition(":") for label in residual_labels(model)]
    found = {value: place for place, (owner, _, value) in enumerate(parts) if owner == name}
    if not found:
        raise unknown_name("variable", name, dict.fromkeys(owner for owner, _, _ in parts))
    return found


def attach_labels_(model: HookedTransformer, labels: Iterable[str]) -> None:
    """Name the residual channels of a model, in place.

    Raises:
        ConfigError: If there is not one name, of its own, for each channel.
    """
    names, width = tuple(labels), int(model.cfg.d_model)
    require(
        len(names) == width and len(set(names)) == width,
        f"Each of the {width} residual channels has a name of its own; got {len(names)} names, "
        f"{len(set(names))} of them different.",
    )
    holder: Any = model  # a plain attribute: deep copies keep it
    holder.residual_labels = names
