"""Which heads came to matter in fine-tuning, and which ceased to?

A dot is a head: how much accuracy changes without it in the base (across) and in the fine-tuned model (up).
Off the diagonal the two differ.

Takes about 21 CPU seconds, 7 of them imports.

Usage: python examples/figures/ablation.py [FILE.png]
"""

from __future__ import annotations

from pathlib import Path

import mechft as mf
from mechft.usage import run_figure


def main(path: str | Path = "ablation.png", *, rows: int = 500) -> Path:
    """Ablate every head in both models and compare."""
    base = mf.load("pcfg-tiny-low").renamed("base")
    ft = mf.load("pcfg-tiny-low-to-b").renamed("fine-tuned")
    return mf.save_figure(mf.compare_ablations(base, ft, size=rows), path)


if __name__ == "__main__":
    run_figure(main)
