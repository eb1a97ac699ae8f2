"""What is looked at in the fine-tuned programs: attention, the first MLP, weights removed and put back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mechft.analysis.attention import AttentionDiff
from mechft.analysis.attention_maps import AttentionMaps
from mechft.analysis.neuron_maps import NeuronMaps
from mechft.analysis.predicted_answers import PredictedAnswers, predicted_answers
from mechft.analysis.pruning import PruneCurve
from mechft.experiments.tracr_cells import contrast_of, finetuned_name
from mechft.experiments.tracr_config import TracrConfig, TracrScale
from mechft.shortcuts.attention import attention_maps, diff_attention
from mechft.shortcuts.common import behaviour
from mechft.shortcuts.neurons import neuron_maps
from mechft.shortcuts.pruning import prune_curve
from mechft.training.trained import Trained

UNIT = "weight"
GRAFT_SCORE = "gradient×change"
LOOKED_AT = (("L", 1.0), ("M", 0.0), ("M", 1.0), ("S", 1.0), ("VS", 1.0))
"""Rate and C_Tr of the models whose attention and neurons are drawn: the paper's Figs. 40 to 46, 52, 53."""


def attention_of(
    config: TracrConfig, scale: TracrScale, start: Trained, models: Iterable[Trained]
) -> AttentionDiff:
    """How far every pattern moved, over all positions; for the Counter with the mass on both letters."""
    contrast = contrast_of(config)
    groups = {}
    if config.program == "counter":
        letters = (contrast.pretraining_operand, contrast.finetuning_operand)
        groups = {letter: [start.task.vocabulary.id(letter)] for letter in letters}
    return diff_attention(
        start,
        *models,
        contrast=contrast,
        tokens=groups,
        query="all",
        size=scale.look_rows,
        seed=config.seed,
    )


def single_weights(
    config: TracrConfig, scale: TracrScale, start: Trained, models: Iterable[Trained]
) -> tuple[PruneCurve, PruneCurve]:
    """The K weights that most hurt O_PT set to zero, and the K that most need it put back to the base's."""
    common: dict[str, Any] = {
        "contrast": contrast_of(config),
        "unit": UNIT,
        "counts": scale.prune_counts,
        "random_draws": scale.random_draws,
        "test_size": scale.look_rows,
        "seed": config.seed,
    }
    models = list(models)
    pruned = prune_curve(*models, **common)
    grafted = prune_curve(*models, mode="graft", base=start, scores=GRAFT_SCORE, **common)
    return pruned, grafted


def histogram(
    config: TracrConfig,
    scale: TracrScale,
    models: Iterable[Trained],
    curve: PruneCurve,
    base: Trained | None = None,
) -> PredictedAnswers:
    """Which answers are given before and after one weight, by the model it brings back furthest.

    Args:
        config, scale, models: The reproduction's.
        curve: One of ``single_weights``.
        base: For grafting, where the weight comes from; without it the weight is removed.

    A revived capability gives many answers; a model that repeats the commonest one does not.
    """
    model = next(model for model in models if model.name == best_single(curve))
    (ranked,) = (found for (name, _), found in curve.rankings.items() if name == model.name)
    # Other strings than the model was chosen on: the best of many looks better than it is.
    rows = behaviour(model, contrast_of(config), scale.rows, config.seed + 1)["acc_pt"]
    return predicted_answers(
        model,
        rows,
        {"1 weight removed" if base is None else "1 weight put back": ranked.top(1)},
        mode="zero" if base is None else "graft",
        base=base,
        token_names=model.task.answer_vocabulary.names,
        name=model.name,
    )


def best_single(curve: PruneCurve) -> str:
    """The model that one weight brings back furthest."""
    gains = single_gains(curve)
    return max(gains, key=lambda name: gains[name])


def single_gains(curve: PruneCurve) -> dict[str, float]:
    """Points of O_PT (0..1) that the first weight of a curve brings back, by model."""
    frame = curve.frame
    rows = frame[(frame["score"] != "random") & (frame["task"] == "acc_pt")]
    wide = rows.pivot(index="model", columns="k", values="accuracy")
    return {str(name): float(row[1] - row[0]) for name, row in wide.iterrows()}


def closer_look(
    config: TracrConfig, start: Trained, models: Iterable[Trained]
) -> tuple[AttentionMaps, NeuronMaps]:
    """Attention and the first MLP's neurons of the base and a few models, on one string."""
    names = {finetuned_name(rate, c) for rate, c in LOOKED_AT}
    chosen = [start, *(model for model in models if model.name in names)]
    common: dict[str, Any] = {"contrast": contrast_of(config), "size": 1, "seed": config.seed}
    return attention_maps(*chosen, **common), neuron_maps(*chosen, **common)
