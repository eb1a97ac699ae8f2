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

    Plain strings, as in the paper; by default O_PT and O_FT in turn. In plain strings one operand's answer
    says much about the other's; ``balanced`` ones are spread evenly over the pairs of both
    (``mechft.tasks.balanced``), so that a probe cannot read O_PT off O_FT.

    Args:
        models: Trained models.
        operands: What is asked and probed for, one after the other; by default O_PT and O_FT.
        contrast: What is asked; by default what the last model was fine-tuned on.
        train_size, test_size: Strings to fit on, and held-out ones to score on.
        hook_names, l2, optimizer, control_type: As in ``mechft.analysis.probing.probe``.
        controls: Whose probes to have beside: "random_model", "shuffled_labels", "permuted_labels".
        balanced: Spread the strings evenly over the pairs of both answers.
        seed: Seed of the strings, splits and controls.

    Returns:
        One row a model, block, operand and control (``mechft.analysis.probing.ProbeResult`` lists the
        columns).

    Raises:
        ConfigError: If models share a name or answer different tasks; else as
            ``mechft.analysis.probing.probe``.

    Source: Jain et al. (2024), Fig. 8 and App. D; Hewitt & Liang (2019) for control tasks.

    Cost: about 10 s a model at tiny on 2 cores, nearly all of it forwards.

    Example:
        >>> import mechft as mf
        >>> base = mf.load("pcfg-tiny-low")
        >>> found = mf.probe(base, operands=["a"], train_size=300, test_size=100)
        >>> found.frame[["block", "target", "n"]].values.tolist()
        [[0, 'C(a)', 100], [1, 'C(a)', 100], [2, 'C(a)', 100]]
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
        operands, contrast, seed: As in ``mechft.probe``.
        size: Strings whose labels are sent.
        controls: Control tasks beside it.
        options: Others of ``mechft.analysis.description_length.description_length``.

    Returns:
        One row a model, block, operand and control, and ``curve``, what each part of the code cost
        (``mechft.analysis.description_length.DescriptionLength`` lists the columns).

    Raises:
        ConfigError: If models share a name or answer different tasks; else as the plain form.

    Source: Voita & Titov (2020), "Information-Theoretic Probing with Minimum Description Length".

    Cost: about 17 s a model at tiny on 2 cores.

    Example:
        >>> import mechft as mf
        >>> base = mf.load("pcfg-tiny-low")
        >>> found = mf.description_length(base, operands=["a"], size=200)
        >>> found.frame["control"].unique().tolist()
        ['none', 'shuffled_labels']
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
        operands, contrast, train_size, test_size, seed: As in ``mechft.probe``.
        options: Others of ``mechft.analysis.probe_transfer.probe_transfer``.

    Returns:
        One row a site, operand, and pair of fitted on and read from
        (``mechft.analysis.probe_transfer.ProbeTransfer`` lists the columns).

    Raises:
        ConfigError: If models share a name or answer different tasks; else as the plain form.

    Cost: about 10 s a model and operand at tiny on 2 cores.

    Example:
        >>> import mechft as mf
        >>> base, ft = mf.load("pcfg-tiny-low"), mf.load("pcfg-tiny-low-to-b")
        >>> found = mf.probe_transfer(base, ft, operands=["a"], train_size=300, test_size=100)
        >>> sorted(set(found.frame["applied_to"]))
        ['pcfg-tiny-low', 'pcfg-tiny-low-to-b']
        >>> sorted(set(found.frame["readout"]))
        ['as fitted', 'recentred']
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
        contrast, train_size, test_size, seed: As in ``mechft.probe``.
        metric: Of behaviour.
        task_size: Strings of each task.
        options: Others of ``mechft.analysis.erasure.erase``.

    Returns:
        As the plain form (``mechft.analysis.erasure.Erasure`` lists the columns); ``erasers`` are the last
        model's.

    Raises:
        ConfigError: If models share a name or answer different tasks; else as the plain form.

    Source: Belrose et al. (2023), LEACE.

    Cost: about 20 s a model at tiny on 2 cores.

    Example:
        >>> import mechft as mf
        >>> base = mf.load("pcfg-tiny-low")
        >>> block_1 = ["blocks.1.hook_resid_post"]
        >>> found = mf.erase(base, hook_names=block_1, train_size=300, test_size=100, task_size=50)
        >>> sorted(set(found.frame["measure"]))
        ['behaviour', 'probe', 'probe, new rows']
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
