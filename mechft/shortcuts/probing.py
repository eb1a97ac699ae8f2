"""One-liners of probing."""

from __future__ import annotations

from collections.abc import Sequence

from mechft.analysis import probing
from mechft.randomness import generator
from mechft.shortcuts.common import joined, together
from mechft.tasks.contrast import Contrast
from mechft.training.trained import Trained


def probe(
    *models: Trained,
    operands: Sequence[str] | None = None,
    contrast: Contrast | None = None,
    train_size: int = 4000,
    test_size: int = 1000,
    seed: int = 0,
) -> probing.ProbeResult:
    """Is r(x, O) linearly readable, block by block, when the model is asked for O?

    Plain grammar strings, as in the paper (App. D); by default O_PT and O_FT in turn.

    Cost: about 10 s a model at tiny on 2 cores.
    """
    named, contrast = together(models, contrast)
    chosen = operands or (contrast.pretraining_operand, contrast.finetuning_operand)
    results = []
    for operand in chosen:
        query = models[0].task.query(contrast.family, operand)
        train, test = (
            query.sample(size, generator(seed, "probe", operand, part))
            for part, size in (("train", train_size), ("test", test_size))
        )
        plain = {name: trained.model for name, trained in named.items()}
        results.append(probing.probe(plain, train, test, f"{contrast.family}({operand})"))
    return joined(results)
