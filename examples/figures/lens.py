"""From which block on is the right count read out, and how far is it from what the base reads?

The logit lens: the unembedding applied to the residual stream after each block.

Takes about 9 CPU seconds, 7 of them imports.

Usage: python examples/figures/lens.py [FILE.png]
"""

from __future__ import annotations

from pathlib import Path

import mechft as mf
from mechft.usage import run_figure


def main(path: str | Path = "lens.png", *, rows: int = 500) -> Path:
    """Read both models block by block."""
    base = mf.load("pcfg-tiny-low").renamed("base")
    ft = mf.load("pcfg-tiny-low-to-b").renamed("fine-tuned")
    return mf.save_figure(mf.logit_lens(base, ft, size=rows), path)


if __name__ == "__main__":
    run_figure(main)
