"""A small study in a process of its own, to be killed: python -m tests.experiments.killed_study FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path

from mechft.experiments.pcfg.config import Main
from mechft.experiments.pcfg.study import run_study
from tests.experiments import micro

if __name__ == "__main__":
    steps = tuple((prior, 500) for prior in ("low", "high", "never_a"))
    with micro.small_presets(pretraining_steps=steps, steps=250, reverse_steps=250):
        run_study(Main(out=Path(sys.argv[1]), seeds=1, jobs=2, threads=1))
