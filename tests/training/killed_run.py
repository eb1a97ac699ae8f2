"""A training run in a process of its own, for a test to kill. Arguments: folder, pause in seconds."""

from __future__ import annotations

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


class Slow:
    """The pretraining source, with a pause at each draw, so that the test can kill in between."""

    def __init__(self, pause: float) -> None:
        self.pause, self.source = pause, TASK.pretraining()

    def sample(self, size: int, draws: torch.Generator) -> TokenBatch:
        time.sleep(self.pause)
        return self.source.sample(size, draws)


def run(folder: Path, pause: float = 0.0) -> tuple[str, list[dict[str, object]]]:
    """Train, or go on training; returns the weights' fingerprint and the history."""
    torch.set_num_threads(1)
    model = build_model(ModelConfig(1, 2, 16, len(TASK.vocabulary), TASK.sample_length - 1))
    evaluations = {"C(a)": TASK.query("C", "a").sample(50, generator(0, "e"))}
    history = train(model, Slow(pause), CONFIG, evaluations=evaluations, directory=folder)
    return fingerprint(model), history


if __name__ == "__main__":
    print(*run(Path(sys.argv[1]), float(sys.argv[2])))
