"""A training run in a process of its own, for a test to kill. Arguments: folder, draws before it stalls."""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path

import torch

from mechft.models.build import ModelConfig, build_model, fingerprint
from mechft.randomness import generator
from mechft.tasks.batch import TokenBatch
from mechft.tasks.pcfg import PCFGTask
from mechft.tasks.pcfg_config import PCFGConfig
from mechft.training.config import TrainConfig
from mechft.training.loop import train

TASK = PCFGTask(PCFGConfig(12, counting_window=6, occurrence=2, pair_occurrence=1, lookback=6))
CONFIG = TrainConfig(
    steps=60,
    learning_rate=3e-3,
    batch_size=8,
    loss="next_token",
    seed=4,
    evaluate_at=(0, 25, 60),
    checkpoint_every=7,
)


class Stalling:
    """The pretraining source, which after some draws gives nothing for long, so that the test can kill."""

    def __init__(self, draws: float) -> None:
        self.left, self.source = draws, TASK.pretraining()

    def sample(self, size: int, draws: torch.Generator) -> TokenBatch:
        self.left -= 1
        if self.left < 0:
            time.sleep(600)
        return self.source.sample(size, draws)


def run(folder: Path, draws: float = math.inf) -> tuple[str, list[dict[str, object]]]:
    """Train, or go on training; returns the weights' fingerprint and the history."""
    torch.set_num_threads(1)
    model = build_model(ModelConfig(1, 2, 16, len(TASK.vocabulary), TASK.sample_length - 1))
    evaluations = {"C(a)": TASK.query("C", "a").sample(50, generator(0, "e"))}
    history = train(model, Stalling(draws), CONFIG, evaluations=evaluations, directory=folder)
    return fingerprint(model), history


if __name__ == "__main__":
    print(*run(Path(sys.argv[1]), int(sys.argv[2])))
