"""Compiled programs: ``python -m tests.benchmarks.programs`` prints JSON.

A training step through the fused forward against the same step through HookedTransformer (data apart), at the
answer's position, alternately; and the seconds that compiling and converting take, in fresh processes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from mechft.models.fused import fused_logits
from mechft.randomness import generator
from mechft.training.densify import densify
from mechft.training.protocols import protocol_of
from mechft.training.trained import load
from tests.benchmarks.timing import alternate, median_ratio, milliseconds

_COMPILE = """
import time
from mechft.models import rasp_programs, tracr
import transformer_lens
began = time.perf_counter()
tracr.compile_program({program}, "{letters}", {length})
print(time.perf_counter() - began)
"""
PROGRAMS = {
    "counter": {
        "program": "rasp_programs.counter_program('a')",
        "letters": "abcdefghi",
        "length": 46,
    },
    "max": {
        "program": "rasp_programs.max_program(5)",
        "letters": "#abcdefghijklmnopqrstuvwxyz",
        "length": 10,
    },
}


def step(name: str, fused: bool) -> Callable[[], object]:
    """A function that takes one optimiser step of a densified program on the same 96 rows."""
    trained = densify(load(f"tracr-{name}"))
    task, model, contrast = trained.task, trained.model, trained.contrast
    batch = task.query(
        contrast.family, contrast.finetuning_operand, contrast.correlation(1.0)
    ).sample(96, generator(0, "benchmark"))
    asked = torch.tensor([batch.answer_position])
    frozen = protocol_of(task).frozen
    parameters = [p for name, p in model.named_parameters() if name not in frozen]
    optimizer = torch.optim.SGD(parameters, lr=1e-6, momentum=0.9, fused=True)

    def logits() -> Tensor:
        if fused:
            return fused_logits(model, batch.tokens, asked)[:, 0]
        found: Tensor = model(batch.tokens)
        return found[:, -1]

    def take() -> None:
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(logits(), batch.answer).backward(inputs=parameters)
        optimizer.step()

    return take


def measure(name: str, rounds: int) -> dict[str, object]:
    """Median milliseconds of both steps, and their ratio."""
    times = alternate({"fused": step(name, True), "hooked": step(name, False)}, rounds)
    return {
        "median_ms": {way: milliseconds(seconds) for way, seconds in times.items()},
        "speedup_of_fused_over_hooked": round(median_ratio(times["hooked"], times["fused"]), 2),
        "rounds": rounds,
    }


def compile_seconds(name: str) -> float:
    """Wall time of compiling and converting in a fresh process, imports of Tracr and jax included."""
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _COMPILE.format(**PROGRAMS[name])],
        capture_output=True,
        text=True,
        check=True,
    )
    return round(float(found.stdout.split()[-1]), 2)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(
        json.dumps(
            {
                "threads": arguments.threads,
                "step": {name: measure(name, arguments.rounds) for name in PROGRAMS},
                "compile_seconds": {name: compile_seconds(name) for name in PROGRAMS},
            }
        )
    )
