"""The one-liner of the diagnosis: reverse fine-tuning included."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mechft.analysis import diagnosis
from mechft.analysis.revival import Revival, revival
from mechft.errors import require
from mechft.randomness import generator
from mechft.shortcuts.common import together
from mechft.tasks.contrast import Contrast
from mechft.training.controls import scratch_finetune
from mechft.training.recipes import reverse_finetune
from mechft.training.trained import Trained


def diagnose(
    base: Trained,
    finetuned: Trained,
    control: Trained | None = None,
    *,
    contrast: Contrast | None = None,
    revivals: Revival | None = None,
    reft_steps: int = 400,
    seeds: Sequence[int] = (0,),
    threshold: float = 0.9,
    tools: Sequence[diagnosis.Tool] = diagnosis.TOOLS,
    fit_size: int = 4000,
    test_size: int = 1000,
    seed: int = 0,
) -> diagnosis.Diagnosis:
    """Was r(x, O_PT) retained, wrapped or damaged? Every tool votes; see ``mechft.analysis.diagnosis``.

    Of a compiled program the probe has no vote or leans to "damaged": attention in both directions lets even
    the untrained twin, which is the probe's floor, show which letters the string has.

    Args:
        base, finetuned: The model that had the capability, and what became of it.
        control: A model that never had it, such as "pcfg-tiny-never-a": the floor of the probe, and what
            reverse fine-tuning is compared with. Without one revival does not vote.
        contrast: Which capability; by default the pretraining operand of the fine-tuning.
        revivals: Reverse fine-tuning done already, "reFT" and "Scr.+FT"; it is run here otherwise.
        reft_steps: Length of its schedule; a run stops 3 points above ``threshold``.
        seeds: Seeds of it; three or more give the ratio an interval.
        threshold: Accuracy that counts as back.
        tools: Which tools to ask.
        fit_size, test_size, seed: How many strings, and which; without the planted correlation. The probe
            abstains where ``fit_size`` is below 10 strings for each dimension of the residual stream (1,280
            at tiny), or its floor still rises with the strings: models that never had the capability are then
            read badly for want of strings alone.

    Cost: about a minute at tiny, and for revival two training runs a seed.

    Raises:
        ConfigError: If models share a name or answer different tasks, or the threshold is no accuracy.
        UnknownNameError: If a tool is not known.

    Example:
        >>> import mechft as mf
        >>> base, ft = mf.load("pcfg-tiny-low"), mf.load("pcfg-tiny-low-to-b")
        >>> found = mf.diagnose(base, ft, tools=["pruning"], fit_size=200, test_size=100)
        >>> found.frame[["tool", "finding"]].values.tolist()
        [['pruning', 'wrapped']]
        >>> mf.diagnose(base, base.renamed("the same"), test_size=100).verdict
        'retained'
    """
    diagnosis.check_request(tools, threshold)
    models = [base, finetuned] if control is None else [base, finetuned, control]
    _, contrast = together(models, contrast or finetuned.contrast)
    query = base.task.query(
        contrast.family, contrast.pretraining_operand, contrast.correlation(0.0)
    )
    rows = diagnosis.Capability(
        query.sample(fit_size, generator(seed, "diagnose", "fit")),
        query.sample(test_size, generator(seed, "diagnose", "test")),
        f"{contrast.family}({contrast.pretraining_operand})",
    )
    early = diagnosis.by_behaviour(base, finetuned, rows)
    if early is not None:
        return early
    if revivals is None and control is not None and "revival" in tools:
        require(bool(seeds), "Revival needs at least one seed; got none.")
        same: dict[str, Any] = {
            "contrast": contrast,
            "steps": reft_steps,
            "stop_at": min(1.0, threshold + 0.03),
        }
        revivals = revival(
            {
                "reFT": [reverse_finetune(finetuned, seed=s, **same) for s in seeds],
                "Scr.+FT": [scratch_finetune(control, seed=s, **same) for s in seeds],
            }
        )
    return diagnosis.diagnose(
        base,
        finetuned,
        rows,
        control=control,
        revival=revivals,
        threshold=threshold,
        tools=tools,
        seed=seed,
    )
