"""What a pruning curve costs beyond its forwards: ``python -m tests.benchmarks.pruning`` prints JSON.

A curve K = 0 … 100 with one random order, against what it cannot do without: one gradient pass over the
rows to revive, and one evaluation a point, both written out without any mask.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import torch
import torch.nn.functional as F

from mechft.analysis.pruning import DEFAULT_COUNTS, prune_curve
from mechft.analysis.units.editing import pruned
from mechft.analysis.units.scores import gradient_times_weight
from mechft.models import build
from mechft.models.fused import fused_logits
from mechft.randomness import generator
from mechft.tasks import pcfg_config
from mechft.tasks.pcfg import PCFGTask
from mechft.training.evaluation import predictions
from tests.benchmarks.timing import alternate, median_ratio, milliseconds

REVIVE_ROWS, TEST_ROWS, CHUNK = 512, 256, 128


def measure(rounds: int = 5, preset: str = "tiny") -> dict[str, Any]:
    """Medians and the curve's overhead at one preset."""
    task = PCFGTask(pcfg_config.preset(preset))
    model = build.build_model(build.preset(preset, len(task.vocabulary), task.sample_length - 1))
    query = task.query("C", "a")
    revive = query.sample(REVIVE_ROWS, generator(0))
    tasks = {"a": query.sample(TEST_ROWS, generator(1))}
    asked = torch.tensor([revive.answer_position])
    matrices = [p for name, p in model.named_parameters() if ".W_" in name and "blocks" in name]

    def gradient_pass() -> None:
        rows = zip(revive.prompt.split(CHUNK), revive.answer.split(CHUNK), strict=True)
        for prompt, answer in rows:
            loss = F.cross_entropy(fused_logits(model, prompt, asked)[:, 0], answer)
            torch.autograd.grad(loss, matrices)

    def forwards_alone() -> None:
        gradient_pass()
        for _ in range(2 * len(DEFAULT_COUNTS)):  # scored and random
            predictions(model, tasks["a"])

    mask = gradient_times_weight(model, revive).top(100)

    def remove_and_restore() -> None:
        with pruned(model, mask):
            pass

    seconds = alternate(
        {
            "curve": lambda: prune_curve(model, revive, tasks, random_draws=1),
            "forwards_alone": forwards_alone,
            "gradient_pass": gradient_pass,
            "gradient_times_weight": lambda: gradient_times_weight(model, revive),
            "evaluation": lambda: predictions(model, tasks["a"]),
            "remove_and_restore_100_neurons": remove_and_restore,
        },
        rounds,
    )
    return {
        "preset": preset,
        "threads": torch.get_num_threads(),
        "points": 2 * len(DEFAULT_COUNTS),
        "median_ms": {name: milliseconds(values) for name, values in seconds.items()},
        "curve_over_forwards_alone": round(
            median_ratio(seconds["curve"], seconds["forwards_alone"]), 3
        ),
        "rounds": rounds,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--preset", default="tiny")
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.rounds, arguments.preset), indent=1))


if __name__ == "__main__":
    main()
