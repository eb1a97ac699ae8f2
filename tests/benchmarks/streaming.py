"""Memory and speed of streaming statistics: ``python -m tests.benchmarks.streaming`` prints JSON.

Moments of two models' activations of width 192, from 100,000 rows and from 1,000,000, each in a process of
its own, whose peak resident memory the kernel keeps (VmHWM). Where memory is constant the peaks are equal.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from mechft.analysis.streaming.moments import PairMomentsFitter

WIDTH, CHUNK, WARM_UP = 192, 4096, 10


def peak_mib() -> float:
    """Largest resident memory of this process so far (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("/proc/self/status has no VmHWM; this benchmark runs on Linux.")


def stream(rows: int) -> dict[str, Any]:
    """Feed random activations to the fitter in this process; warmed up first, so that only growth counts."""
    draws = torch.Generator().manual_seed(0)
    fitter = PairMomentsFitter()

    def chunk(size: int) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.randn(size, WIDTH, generator=draws) + 3
        return x, x + 0.1 * torch.randn(size, WIDTH, generator=draws)

    for _ in range(WARM_UP):
        fitter.update(*chunk(CHUNK))
    before, seconds, left = peak_mib(), 0.0, rows - WARM_UP * CHUNK
    while left > 0:
        x, y = chunk(min(CHUNK, left))
        begin = time.perf_counter()
        fitter.update(x, y)
        seconds += time.perf_counter() - begin
        left -= len(x)
    found = fitter.result()
    return {
        "rows": found.n,
        "peak_mib": round(peak_mib(), 1),
        "growth_mib": round(peak_mib() - before, 1),
        "rows_per_second": round((rows - WARM_UP * CHUNK) / seconds),
        "cka": round(found.linear_cka(), 6),
        "kept_as_float32_mib": round(2 * rows * WIDTH * 4 / 2**20, 1),
    }


def measure(sizes: tuple[int, ...] = (100_000, 1_000_000)) -> dict[str, Any]:
    """``stream`` of each size in a process of its own."""
    found: dict[str, Any] = {"width": WIDTH, "threads": torch.get_num_threads()}
    for rows in sizes:
        command = [sys.executable, "-m", "tests.benchmarks.streaming", "--rows", str(rows)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[f"{rows}_rows"] = json.loads(done.stdout)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=0, help="stream that many in this process")
    arguments = parser.parse_args()
    print(json.dumps(stream(arguments.rows) if arguments.rows else measure(), indent=1))


if __name__ == "__main__":
    main()
