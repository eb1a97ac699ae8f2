"""One-liners of probing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mechft.analysis import description_length as lengths
from mechft.analysis import erasure, probing
from mechft.analysis import probe_transfer as transfers
from mechft.analysis.metrics import Metric
from mechft.analysis.probes.controls import Control, TypeOf
from mechft.analysis.probes.fitting import DEFAULT_L2, L2, Optimizer
from mechft.randomness import generator
from mechft.shortcuts.common import behaviour, joined, together
from mechft.tasks.balanced import Balanced
from mechft.tasks.batch import Source, TokenBatch
from mechft.tasks.contrast import Contrast
from mechft.training.trained import Trained


def _rows(
    trained: Trained,
    contrast: Contrast,
    operand: str,
    seed: int,
    *path: str,
    balanced: bool = False,
    **sizes: int,
) -> list[TokenBatch]:
    """Plain strings asked for an operand: a batch of each size, each from a stream of its own."""
    query: Source = trained.task.query(contrast.family, operand)
    if balanced:
        both = (contrast.pretraining_operand, contrast.finetuning_operand)
        query = Balanced(query, [f"{contrast.family}({name})" for name in both])
    return [
        query.sample(size, generator(seed, *path, operand, part)) for part, size in sizes.items()
    ]


def probe(
    *models: Trained,
    operands: Sequence[str] | None = None,
    contrast: Contrast | None = None,
    train_size: int = 4000,
    test_size: int = 1000,
    hook_names: Sequence[str] | None = None,
    l2: L2 = DEFAULT_L2,
    optimizer: Optimizer = "lbfgs",
    controls: Sequence[Control] = (),
    control_type: TypeOf | None = None,
    balanced: bool = False,
    seed: int = 0,
) -> probing.ProbeResult:
    """Is r(x, O) linearly readable, block by block, when the model is asked for O?

    Plain strings, as in the paper (App. D); by default O_PT and O_FT in turn. Name controls
    ("random_model", "shuffled_labels", "permuted_labels") to have their probes beside. In plain strings one
    operand's answer says much about the other's; ``balanced`` ones are spread evenly over the pairs of
    both (``mechft.tasks.balanced``), so that a probe cannot read O_PT off O_FT.

    Cost: about 10 s a model at tiny on 2 cores, nearly all of it forwards.
    """
    named, contrast = together(models, contrast)
    chosen = operands or (contrast.pretraining_operand, contrast.finetuning_operand)
    results = []
    for operand in chosen:
        train, test = _rows(
            models[0], contrast, operand, seed, "probe",
            balanced=balanced, train=train_size, test=test_size,
        )  # fmt: skip
        results.append(
            probing.probe(
                named, train, test, f"{contrast.family}({operand})",
                hook_names=hook_names, l2=l2, optimizer=optimizer, controls=controls,
                control_type=control_type, seed=seed,
            )
        )  # fmt: skip
    probes = {key: found for result in results for key, found in result.probes.items()}
    return replace(joined(results), probes=probes)


def description_length(
    *models: Trained,
    operands: Sequence[str] | None = None,
    contrast: Contrast | None = None,
    size: int = 4000,
    controls: Sequence[Control] = ("shuffled_labels",),
    seed: int = 0,
    **options: Any,
) -> lengths.DescriptionLength:
    """How many bits does r(x, O) take given each block's activations, when the model is asked for O?

    Args:
        models: Trained models.
        operands, contrast, seed: As in ``probe``.
        size: Strings whose labels are sent.
        controls: Control tasks beside it.
        options: Others of ``mechft.analysis.description_length.description_length``.

    Cost: about 17 s a model at tiny on 2 cores.
    """
    import pandas as pd

    named, contrast = together(models, contrast)
    results = []
    for operand in operands or (contrast.pretraining_operand, contrast.finetuning_operand):
        (batch,) = _rows(models[0], contrast, operand, seed, "description length", all=size)
        results.append(
            lengths.description_length(
                named, batch, f"{contrast.family}({operand})",
                controls=controls, seed=seed, **options,
            )
        )  # fmt: skip
    curve = pd.concat([result.curve for result in results], ignore_index=True)
    return replace(joined(results), curve=curve)


def probe_transfer(
    base: Trained,
    *finetuned: Trained,
    operands: Sequence[str] | None = None,
    contrast: Contrast | None = None,
    train_size: int = 4000,
    test_size: int = 1000,
    seed: int = 0,
    **options: Any,
) -> transfers.ProbeTransfer:
    """Does the base's readout of r(x, O) still read each fine-tuned model, and back?

    Args:
        base, finetuned: Trained models.
        operands, contrast, train_size, test_size, seed: As in ``probe``.
        options: Others of ``mechft.analysis.probe_transfer.probe_transfer``.

    Cost: about 10 s a model and operand at tiny on 2 cores.
    """
    _, contrast = together((base, *finetuned), contrast)
    results = []
    for operand in operands or (contrast.pretraining_operand, contrast.finetuning_operand):
        train, test = _rows(
            base, contrast, operand, seed, "probe", train=train_size, test=test_size
        )
        results += [
            transfers.probe_transfer(
                base, other, train, test, f"{contrast.family}({operand})",
                names=(base.name, other.name), seed=seed, **options,
            )
            for other in finetuned
        ]  # fmt: skip
    return joined(results)


def erase(
    *models: Trained,
    operand: str | None = None,
    contrast: Contrast | None = None,
    metric: Metric = "accuracy",
    train_size: int = 4000,
    test_size: int = 1000,
    task_size: int = 500,
    seed: int = 0,
    **options: Any,
) -> erasure.Erasure:
    """Erase r(x, O) with LEACE after each block in turn: what of O_PT and O_FT is lost?

    Args:
        models: Trained models.
        operand: What is erased; by default O_PT.
        contrast, train_size, test_size, seed: As in ``probe``.
        metric: Of behaviour.
        task_size: Strings of each task.
        options: Others of ``mechft.analysis.erasure.erase``.

    Returns:
        As the plain form; ``erasers`` are the last model's.

    Cost: about 20 s a model at tiny on 2 cores.
    """
    named, contrast = together(models, contrast)
    operand = operand or contrast.pretraining_operand
    train, new, test = _rows(
        models[0], contrast, operand, seed, "erase", train=train_size, new=train_size, test=test_size
    )  # fmt: skip
    results = [
        erasure.erase(
            trained, train, test, behaviour(trained, contrast, task_size, seed),
            f"{contrast.family}({operand})",
            metric=metric, new_rows=new, name=name, seed=seed, **options,
        )
        for name, trained in named.items()
    ]  # fmt: skip
    return replace(joined(results), erasers=results[-1].erasers)
