"""Is the count of a still linearly readable, block by block, and more than in an untrained model?

The dashed lines are what to hold the solid ones against: the same probe on random weights reads the count
nearly as well, so that readability alone says little here.

Takes about 26 CPU seconds, 7 of them imports.

Usage: python examples/figures/probing.py [FILE.png]
"""

from __future__ import annotations

from pathlib import Path

import mechft as mf
from mechft.usage import run_figure


def main(path: str | Path = "probing.png", *, rows: int = 2000) -> Path:
    """Probe base and fine-tuned model, with random weights beside them."""
    base = mf.load("pcfg-tiny-low").renamed("base")
    ft = mf.load("pcfg-tiny-low-to-b").renamed("fine-tuned")
    found = mf.probe(base, ft, operands=["a"], controls=("random_model",), train_size=rows)
    return mf.save_figure(found, path)


if __name__ == "__main__":
    run_figure(main)
