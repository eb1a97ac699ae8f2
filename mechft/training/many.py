"""Recipes for many models at once: their plans, carried out as one ensemble."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mechft.errors import require
from mechft.models import build
from mechft.tasks.batch import Source
from mechft.training.ensemble import train_ensemble
from mechft.training.plan import Plan, finetuning_plan, reversal_plan
from mechft.training.trained import Trained


def finetune_many(
    base: Trained | Sequence[Trained], settings: Sequence[Mapping[str, Any]], **common: Any
) -> list[Trained]:
    """Carry out ``finetune`` with several settings at once, as one batched computation for a GPU.

    Args:
        base: The model all start from, or one for each entry of ``settings``; of one shape.
        settings: Keyword arguments of ``finetune`` for each member, all but ``directory``: such as
            ``{"learning_rate": "M", "train_correlation": 0.5, "name": "M, C_Tr = .5"}``. Members that ask
            for the same data with the same seed share it.
        common: Arguments that all members have; ``steps`` and ``batch_size`` belong here.

    Returns:
        One model a member, equal to ``finetune``'s up to rounding. A member that diverged has
        the weights before that step, its history until then, and ``diverged_at`` (that step) in its lineage.

    Raises:
        TypeError: If an argument is none of ``finetune``'s.
        ConfigError, UnknownNameError: As ``finetune`` and ``train_ensemble``.

    Cost: the arithmetic of ``finetune`` for each member, and the memory of all members at once.

    Example:
        >>> import mechft as mf
        >>> base = mf.load("pcfg-tiny-low")
        >>> rates = [{"learning_rate": rate, "name": rate} for rate in ("M", "L")]
        >>> models = mf.finetune_many(base, rates, operand="b", steps=2, batch_size=8, evaluation_size=20)
        >>> [ft.name for ft in models]
        ['M', 'L']
    """
    bases = _one_each(base, settings)
    plans = [
        finetuning_plan(start, **{"name": f"{start.name}+ft {i}", **common, **own})
        for i, (start, own) in enumerate(zip(bases, settings, strict=True))
    ]
    return carry_out_together(plans)


def reverse_finetune_many(
    models: Trained | Sequence[Trained], settings: Sequence[Mapping[str, Any]], **common: Any
) -> list[Trained]:
    """Carry out ``reverse_finetune`` on several models, or with several settings, at once.

    Args:
        models: The fine-tuned models, one for each entry of ``settings``, or one for all; of one shape.
        settings: Keyword arguments of ``reverse_finetune`` for each member, all but ``directory``.
        common: Arguments that all members have.

    Returns:
        As ``finetune_many``.

    Raises:
        As ``finetune_many``.

    Cost: as ``finetune_many``.

    Example:
        >>> import mechft as mf
        >>> ft = mf.load("pcfg-tiny-low-to-b")
        >>> seeds = [{"seed": seed, "name": f"seed {seed}"} for seed in range(2)]
        >>> runs = mf.reverse_finetune_many(ft, seeds, steps=2, batch_size=8, evaluation_size=20)
        >>> mf.revival({"reFT": runs}).frame["run"].unique().tolist()
        [0, 1]
    """
    starts = _one_each(models, settings)
    plans = [
        reversal_plan(start, **{"name": f"{start.name}+reft {i}", **common, **own})
        for i, (start, own) in enumerate(zip(starts, settings, strict=True))
    ]
    return carry_out_together(plans)


def carry_out_together(plans: Sequence[Plan]) -> list[Trained]:
    """Train copies of all plans' starts as one ensemble; raises as ``train_ensemble`` does."""
    names = [plan.start.name for plan in plans]
    require(
        len(set(names)) == len(names),
        f"Members need different names to be told apart; got {names}. Name each in its settings.",
    )
    models = [build.clone(plan.start.model) for plan in plans]
    histories = train_ensemble(
        models,
        _shared_sources(plans),
        [plan.config for plan in plans],
        evaluations=[plan.evaluations for plan in plans],
        label=f"{len(plans)} models",
    )
    return [
        plan.finished(
            model,
            history.records,
            **({} if history.diverged_at is None else {"diverged_at": history.diverged_at}),
        )
        for plan, model, history in zip(plans, models, histories, strict=True)
    ]


_ABOUT_DATA = (
    "recipe",
    "family",
    "operand",
    "train_correlation",
    "offset",
    "pretraining_operand",
    "pretraining_share",
    "randomised",
)


def _shared_sources(plans: Sequence[Plan]) -> list[Source]:
    """The plans' sources, one object where they say the same, so that its batches are drawn once."""
    found: dict[str, Source] = {}
    for plan in plans:
        found.setdefault(_data_key(plan), plan.source)
    return [found[_data_key(plan)] for plan in plans]


def _data_key(plan: Plan) -> str:
    asked = [plan.facts.get(name) for name in _ABOUT_DATA]
    return repr((plan.start.task.to_dict(), asked))


def _one_each(
    models: Trained | Sequence[Trained], settings: Sequence[Mapping[str, Any]]
) -> list[Trained]:
    if isinstance(models, Trained):
        return [models] * len(settings)
    require(
        len(models) == len(settings),
        f"Give one model for all, or one for each of the {len(settings)} settings; got {len(models)}.",
    )
    return list(models)
