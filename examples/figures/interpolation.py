"""How much of the change must be undone until the count of a is back?

Models on the line from the base (0) to the fine-tuned one (1), and a little beyond.

Takes about 20 CPU seconds, 7 of them imports.

Usage: python examples/figures/interpolation.py [FILE.png]
"""

from __future__ import annotations

from pathlib import Path

import mechft as mf
from mechft.usage import run_figure


def main(path: str | Path = "interpolation.png", *, rows: int = 500) -> Path:
    """Measure models between base and fine-tuned."""
    base = mf.load("pcfg-tiny-low").renamed("base")
    ft = mf.load("pcfg-tiny-low-to-b").renamed("fine-tuned")
    found = mf.interpolate(base, ft, metrics=("accuracy",), size=rows)
    return mf.save_figure(found, path)


if __name__ == "__main__":
    run_figure(main)
