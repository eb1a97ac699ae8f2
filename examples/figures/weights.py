"""Which weights moved, and how far?

The norm of the change of every matrix as a share of the norm that it had.

Takes about 7 CPU seconds, all of them imports.

Usage: python examples/figures/weights.py [FILE.png]
"""

from __future__ import annotations

from pathlib import Path

import mechft as mf
from mechft.usage import run_figure


def main(path: str | Path = "weights.png") -> Path:
    """Compare the weights of base and fine-tuned model."""
    base = mf.load("pcfg-tiny-low").renamed("base")
    ft = mf.load("pcfg-tiny-low-to-b").renamed("fine-tuned")
    return mf.save_figure(mf.diff_weights(base, ft), path)


if __name__ == "__main__":
    run_figure(main)
