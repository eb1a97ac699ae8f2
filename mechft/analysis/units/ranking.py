"""Which unit goes first: scores by name, computed once or again after every few removals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import torch

from mechft.analysis.batches import Data, each_batch
from mechft.analysis.units.editing import check_fits
from mechft.analysis.units.layout import unit_layout
from mechft.analysis.units.scores import (
    UnitScores,
    fisher,
    gradient_times_change,
    gradient_times_weight,
    magnitude,
    movement,
)
from mechft.analysis.units.weight_edit import editing, matching_weights
from mechft.errors import ConfigError, require, unknown_name
from mechft.models.hook_points import ModelLike, as_model

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

Mode = Literal["zero", "graft"]
"""What becomes of a removed unit: its weights are set to zero, or to the base model's values."""

SCORES: Mapping[str, Callable[[ModelLike, Data, str, ModelLike | None], UnitScores]] = {
    "gradient×weight": lambda m, rows, unit, _: gradient_times_weight(m, rows, unit=unit),
    "|gradient×weight|": lambda m, rows, unit, _: abs(gradient_times_weight(m, rows, unit=unit)),
    "gradient×change": lambda m, rows, unit, base: gradient_times_change(
        m, rows, _needed(base, "gradient×change"), unit=unit
    ),
    "fisher": lambda m, rows, unit, _: fisher(m, rows, unit=unit),
    "magnitude": lambda m, _, unit, __: magnitude(m, unit=unit),
    "movement": lambda m, _, unit, base: movement(m, _needed(base, "movement"), unit=unit),
}
"""Scores by name, from model, rows to revive, kind of unit and base; the largest come first."""


def rank_units(
    model: ModelLike,
    revive: Data,
    scores: str | UnitScores | Sequence[str | UnitScores] = "gradient×weight",
    *,
    unit: str = "neuron",
    mode: Mode = "zero",
    base: ModelLike | None = None,
    iterative: int | None = None,
    upto: int = 0,
) -> dict[str, UnitScores]:
    """Scores by the name they go under, once all of them are known to be usable.

    Args:
        model, revive, scores, unit, mode, base, iterative: As ``prune_curve``.
        upto: Units that iterative scoring ranks.

    Raises:
        ConfigError: If two have one name, or one needs a base that is missing or has other units.
        UnknownNameError: If a name is not known.
    """
    model = as_model(model)
    asked = [scores] if isinstance(scores, str | UnitScores) else list(scores)
    _check(asked, model, unit, base, iterative)
    revive = list(each_batch(revive))  # several scores read it
    found: dict[str, UnitScores] = {}
    for score in asked:
        if isinstance(score, UnitScores):
            found[score.name] = score
            continue
        if iterative is None:
            ranked = SCORES[score](model, revive, unit, base)
        else:
            ranked = iterative_scores(
                model, revive, score, iterative, upto, unit=unit, mode=mode, base=base
            )
        found[ranked.name] = ranked
    return found


def iterative_scores(
    model: ModelLike,
    revive: Data,
    score: str,
    every: int,
    upto: int,
    *,
    unit: str = "neuron",
    mode: Mode = "zero",
    base: ModelLike | None = None,
) -> UnitScores:
    """Rank units by a score that is computed again after every ``every`` removals.

    A single step assumes that the effects of removals add up; scoring again sees what is left.

    Args:
        model, revive, score, unit, mode, base: As ``prune_curve``.
        every: Units removed between two scorings.
        upto: Units to rank so; the last scoring ranks all others.

    Returns:
        Minus each unit's place in the order of removal.

    Cost: ``upto / every`` scorings.
    """
    model = as_model(model)
    require(
        every >= 1, f"iterative is a number of units between two scorings, at least 1; got {every}."
    )
    _check([score], model, unit, base, every)
    revive = list(each_batch(revive))
    layout = unit_layout(model, unit)
    places = torch.full((len(layout),), float("nan"), dtype=torch.float64)

    def ranked() -> UnitScores:
        parts = places.nan_to_num(-float("inf")).split(list(layout.sizes.values()))
        return UnitScores(
            dict(zip(layout.sizes, parts, strict=True)), layout, f"{score}, every {every}"
        )

    removed = 0
    with editing(model, layout, replacement_model(model, mode, base)) as edit:
        while True:
            edit.replace(ranked().top(removed))
            order = SCORES[score](model, revive, unit, base).order
            order = order[places[order].isnan()]  # those still there
            last = removed + every >= upto
            taken = order if last else order[:every]
            places[taken] = -torch.arange(removed, removed + len(taken), dtype=torch.float64)
            removed += len(taken)
            if last:
                return ranked()


def replacement_model(
    model: HookedTransformer, mode: str, base: ModelLike | None
) -> HookedTransformer | None:
    """The model whose values units get; None for zeros.

    Raises:
        UnknownNameError: If the mode is not known.
        ConfigError: If grafting lacks a base, or it is of another shape.
    """
    if mode not in ("zero", "graft"):
        raise unknown_name("mode", mode, ("zero", "graft"))
    if mode == "zero":
        return None
    found = as_model(_needed(base, 'mode="graft"'))
    matching_weights(model, found)
    return found


def _needed(base: ModelLike | None, what: str) -> ModelLike:
    if base is None:
        raise ConfigError(f"{what} looks at the model before fine-tuning; pass base=.")
    return base


def _check(
    scores: Sequence[str | UnitScores],
    model: HookedTransformer,
    unit: str,
    base: ModelLike | None,
    iterative: int | None,
) -> None:
    """Raise unless all scores can be used with this model."""
    require(bool(scores), "A pruning curve needs a score; got none.")
    names = [score if isinstance(score, str) else score.name for score in scores]
    require(
        len(set(names)) == len(names) and "random" not in names,
        f'Scores need different names, and "random" is the control\'s; got {names}.',
    )
    for score in scores:
        if isinstance(score, UnitScores):
            require(
                iterative is None, "Scores made elsewhere cannot be computed again; name a score."
            )
            require(
                score.layout.unit == unit,
                f"The scores are of {score.layout.unit!r} units, the curve counts {unit!r}; pass unit=.",
            )
            check_fits(model, score.top(0))
        elif score not in SCORES:
            raise unknown_name("score", score, SCORES)
        elif score in ("gradient×change", "movement"):
            _needed(base, score)
