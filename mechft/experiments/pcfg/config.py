"""Settings of ``mechft reproduce fig5`` … ``pcfg``; free of torch, so that the command line starts fast."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from mechft.errors import require
from mechft.experiments.sweep.config import SweepConfig

Preset = Literal["tiny", "small", "paper"]


@dataclass(frozen=True)
class StudyConfig(SweepConfig):
    """Settings that all reproductions of the PCFG setup share.

    Attributes:
        preset: Size of task and models: tiny for a laptop, small for a night, paper for a GPU.
        ensemble: Most fine-tunings of one shape trained as one batched computation; 0 means 16 on a GPU, and
            1 on CPUs, where more are slower. Without effect with dask.
    """

    preset: Preset = "tiny"
    ensemble: int = 0

    parts: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.ensemble >= 0, f"ensemble is at least 0; got {self.ensemble}.")

    @property
    def results(self) -> Path:
        """Where this reproduction's report and tables go."""
        return self.out / f"{self.name}-{self.preset}-{self.size_words}"

    @property
    def told(self) -> dict[str, Any]:
        """What results say of the settings."""
        return {**super().told, "preset": self.preset}


class Fig5(StudyConfig):
    """Fig. 5: what fine-tuned Counters answer for b, by prior, correlation and learning rate.

    Example: mechft reproduce fig5 --out study
    """

    name = "fig5"
    parts = ("finetuning",)


class Fig6(StudyConfig):
    """Fig. 6: what becomes of counting a, the pretrained capability, while b is taught.

    Example: mechft reproduce fig6 --out study
    """

    name = "fig6"
    parts = ("finetuning",)


class Table5(StudyConfig):
    """Table 5: both operands after a tenth and all of fine-tuning, beside the paper's numbers.

    Example: mechft reproduce table5 --out study
    """

    name = "table5"
    parts = ("finetuning",)


class Fig7(StudyConfig):
    """Fig. 7: neurons removed, and counting a comes back, in models of every prior.

    Example: mechft reproduce fig7 --out study
    """

    name = "fig7"
    parts = ("finetuning", "pruning")


class Fig8(StudyConfig):
    """Fig. 8: the count of a read by linear probes, block by block, before and after.

    Example: mechft reproduce fig8 --out study
    """

    name = "fig8"
    parts = ("finetuning", "probing")


class Fig9(StudyConfig):
    """Fig. 9: reverse fine-tuning, beside Scr. (from nothing) and Scr.+FT (never asked for a).

    Example: mechft reproduce fig9 --out study
    """

    name = "fig9"
    parts = ("finetuning", "reversal")


class Mixing(StudyConfig):
    """Figs. 18-23: the same with pretraining data mixed into fine-tuning: 50%, 10%, 0.1%.

    Example: mechft reproduce mixing --out study --seeds 1
    """

    name = "mixing"
    parts = ("mixing",)


class Jailbreak(StudyConfig):
    """Figs. 24-25: counting asked for by tokens that fine-tuning never touched.

    Example: mechft reproduce jailbreak --out study --seeds 1
    """

    name = "jailbreak"
    parts = ("jailbreak",)


class RandFT(StudyConfig):
    """Figs. 28-30: taught wrong answers for a, then fine-tuned back.

    Example: mechft reproduce randft --out study --seeds 1
    """

    name = "randft"
    parts = ("randft",)


class Table7(StudyConfig):
    """Table 7: the Indexer instead of the Counter.

    Example: mechft reproduce table7 --out study --seeds 1
    """

    name = "table7"
    parts = ("indexer",)


class RatesAndSteps(StudyConfig):
    """Figs. 60-78: more or less pretraining, at every fine-tuning rate.

    Example: mechft reproduce lr-and-steps --out study --seeds 1
    """

    name = "lr-and-steps"
    parts = ("steps",)


class Inhibitor(StudyConfig):
    """Figs. 86-89: high rates and a strongly relevant capability: pruning revives only in part.

    Example: mechft reproduce inhibitor --out study
    """

    name = "inhibitor"
    parts = ("finetuning", "pruning")


class Main(StudyConfig):
    """Figs. 5 to 9 and Table 5: the study's main part.

    Example: mechft reproduce main --out study
    """

    name = "main"
    parts = ("finetuning", "pruning", "probing", "reversal")


class PCFG(StudyConfig):
    """The whole study: figs. 5 to 9, Tables 5 and 7, mixing, jailbreak, randft, lr-and-steps, inhibitor.

    Example: mechft reproduce pcfg --out study
    """

    name = "pcfg"
    parts = (*Main.parts, "mixing", "jailbreak", "randft", "indexer", "steps")


STUDIES: dict[str, type[StudyConfig]] = {
    study.name: study
    for study in (
        PCFG, Main, Fig5, Fig6, Fig7, Fig8, Fig9, Table5, Table7, Mixing, Jailbreak, RandFT,
        RatesAndSteps, Inhibitor,
    )
}  # fmt: skip
"""Every reproduction of the PCFG setup by the name of its command."""


@dataclass(frozen=True)
class StudyScale:
    """What is trained, for how long, and on how many rows everything is measured.

    The paper's settings are those of preset "paper". The smaller presets shorten trainings and raise
    fine-tuning's learning rates, which are a decade apart everywhere, by the same factor.

    Attributes:
        preset: Size of task and models.
        priors: Operand priors of the base models.
        correlations: C_Tr.
        rates: Fine-tuning's learning rates by the paper's names.
        pretraining_steps: Steps of base models by prior; "never_a" is Scr.+FT's start.
        other_steps: Shorter pretrainings for lr-and-steps.
        steps: Steps of every fine-tuning.
        reverse_steps: Steps of reFT and its controls.
        reverse_rates: Their learning rates, by the paper's names.
        reverse_starts: The rates of the fine-tuned models that reFT starts from.
        scratch_rate: Learning rate of Scr., which starts from nothing.
        mixing_shares: Shares of pretraining data in fine-tuning batches.
        looked_into: C_Tr of the models that are pruned, probed and trained back.
        probed_rates: The rates of the fine-tuned models that are probed.
        base_rows: Rows of each evaluation while base models are pretrained.
        rows: Rows of final accuracies.
        evaluation_rows: Rows of each evaluation while training.
        prune_counts: Numbers of neurons removed.
        prune_rows: Rows of each accuracy of a pruning curve.
        random_draws: Random orders of neurons in the pruning control.
        probe_rows, probe_test_rows: Rows probes are trained and scored on.
        precision: Of training steps.
    """

    preset: Preset = "paper"
    priors: tuple[str, ...] = ("low", "medium", "high")
    correlations: tuple[float, ...] = (0.0, 0.25, 0.5, 0.8, 1.0)
    rates: tuple[tuple[str, float], ...] = (("L", 1e-4), ("M", 1e-5), ("S", 1e-6))
    pretraining_steps: tuple[tuple[str, int], ...] = (
        ("low", 200_000),
        ("medium", 200_000),
        ("high", 200_000),
        ("never_a", 200_000),
    )
    other_steps: tuple[int, ...] = (10_000, 50_000, 100_000)
    steps: int = 10_000
    reverse_steps: int = 10_000
    reverse_rates: tuple[str, ...] = ("M", "S")
    reverse_starts: tuple[str, ...] = ("L", "M")
    scratch_rate: float = 1e-3
    mixing_shares: tuple[float, ...] = (0.5, 0.1, 0.001)
    looked_into: tuple[float, ...] = (0.0, 1.0)
    probed_rates: tuple[str, ...] = ("L", "M")
    base_rows: int = 500
    rows: int = 1000
    evaluation_rows: int = 250
    prune_counts: tuple[int, ...] = (0, 1, 2, 3, 5, 7, 10, 15, 20, 50, 100)
    prune_rows: int = 400
    random_draws: int = 2
    probe_rows: int = 3000
    probe_test_rows: int = 500
    precision: str = "float32"

    @property
    def rate(self) -> dict[str, float]:
        """Learning rates by name."""
        return dict(self.rates)


SCALES: dict[str, StudyScale] = {
    # Fine-tuning: 33 times fewer steps than the paper's at ten times its rates. Measured with seed 0 before
    # the study was run: L and M have learned O_FT by step 100, and S leaves it half learned with the low
    # prior, as in the paper. Pretraining: 100 times fewer, as many with every prior: another number for one
    # of them would be taken for the prior's effect.
    "tiny": StudyScale(
        preset="tiny",
        correlations=(0.0, 0.5, 0.8, 1.0),
        rates=(("L", 1e-3), ("M", 1e-4), ("S", 1e-5)),
        pretraining_steps=(("low", 2000), ("medium", 2000), ("high", 2000), ("never_a", 2000)),
        other_steps=(500, 1000),
        steps=300,
        reverse_steps=400,
    ),
    "small": StudyScale(
        preset="small",
        correlations=(0.0, 0.5, 0.8, 1.0),
        rates=(("L", 3e-4), ("M", 3e-5), ("S", 3e-6)),
        pretraining_steps=(
            ("low", 10_000),
            ("medium", 10_000),
            ("high", 10_000),
            ("never_a", 10_000),
        ),
        other_steps=(2500, 5000),
        steps=2000,
        reverse_steps=2000,
    ),
    "paper": StudyScale(),
}
"""Sizes by preset. Tiny's were measured, small's lie between and were not."""


def scale_of(config: StudyConfig) -> StudyScale:
    """The sizes a study has."""
    scale = replace(SCALES[config.preset], precision=config.precision)
    if not config.quick:
        return scale
    return replace(
        scale,
        priors=("low", "high"),
        correlations=(0.0, 1.0),
        rates=tuple(rate for rate in scale.rates if rate[0] != "S"),
        pretraining_steps=tuple((prior, 10) for prior, _ in scale.pretraining_steps),
        other_steps=(5,),
        steps=4,
        reverse_steps=4,
        reverse_rates=("M",),
        reverse_starts=("L",),
        mixing_shares=(0.1,),
        looked_into=(1.0,),
        probed_rates=("M",),
        base_rows=30,
        rows=100,
        evaluation_rows=30,
        prune_counts=(0, 1, 5, 15),
        prune_rows=50,
        random_draws=1,
        probe_rows=200,
        probe_test_rows=60,
    )
