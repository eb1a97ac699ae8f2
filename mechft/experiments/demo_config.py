"""Settings of ``mechft demo``; free of torch, so that the command line can start fast."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mechft.errors import require


@dataclass(frozen=True)
class DemoConfig:
    """See a capability vanish under fine-tuning and come back, on a tiny model that counts letters.

    Example: mechft demo --out demo --seed 1

    Attributes:
        out: Folder for report.html, results.json, CSV files and checkpoints. A run found there with
            the same settings goes on where it stopped; any other content is refused.
        pretrain: Pretrain the low-prior model first (5 to 10 minutes) instead of loading the bundled
            one.
        seed: Seed of everything drawn: batches, evaluations, random controls, and with --pretrain
            the model's weights.
        quick: A tenth of the steps and few rows: shows in a minute that everything runs, not what is
            true.
    """

    out: Path = Path("demo")
    pretrain: bool = False
    seed: int = 0
    quick: bool = False

    def __post_init__(self) -> None:
        require(self.seed >= 0, f"A seed is at least 0; got {self.seed}.")


@dataclass(frozen=True)
class DemoScale:
    """Sizes of the demo's parts.

    Attributes:
        pretraining_steps: Steps of --pretrain.
        finetuning_steps: Steps of each fine-tuning.
        reverse_steps: Steps of reFT and of Scr.+FT, which share one schedule.
        rows: Rows for the final accuracies.
        evaluation_rows: Rows of each evaluation while training.
        probe_rows: Rows probes are trained on.
        probe_test_rows: Rows they are scored on.
        prune_rows: Rows of each accuracy of the pruning curve.
        ablation_rows: Rows of each accuracy of the ablation sweep.
        look_rows: Rows of patching, interpolation, attention and outputs.
        random_draws: Random orders of neurons in the pruning control.
        prune_counts: Numbers of neurons removed.
        score_rows: Rows that neurons are scored on.
        activation_rows: Rows on which activations are compared.
    """

    pretraining_steps: int = 2000
    finetuning_steps: int = 200
    reverse_steps: int = 400
    rows: int = 1000
    evaluation_rows: int = 250
    probe_rows: int = 1500
    probe_test_rows: int = 500
    prune_rows: int = 250
    ablation_rows: int = 200
    look_rows: int = 250
    random_draws: int = 3
    prune_counts: tuple[int, ...] = (0, 1, 2, 3, 5, 7, 10, 15, 20, 30)
    score_rows: int = 1000
    activation_rows: int = 500


QUICK = DemoScale(200, 20, 20, 200, 50, 200, 100, 60, 40, 40, 1, (0, 5, 15), 200, 60)
