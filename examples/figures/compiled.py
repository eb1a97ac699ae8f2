"""Where a transformer looks whose mechanism is known: a program, compiled.

The Max-identifier answers with the fifth largest letter of a string: block 0 looks from each letter at those
before it in the alphabet, block 2 at the letter of the right rank. Beside it the program for the sixth.

Takes about 8 CPU seconds, 7 of them imports.

Usage: python examples/figures/compiled.py [FILE.png]
"""

from __future__ import annotations

from pathlib import Path

import mechft as mf
from mechft.usage import run_figure


def main(path: str | Path = "compiled.png") -> Path:
    """Draw the attention of two compiled programs on one string."""
    fifth = mf.load("tracr-max").renamed("fifth largest")
    sixth = mf.load("tracr-max-6").renamed("sixth largest")
    maps = mf.attention_maps(fifth, sixth, heads=[(0, 0), (2, 0)])  # block 1 only computes
    return mf.save_figure(maps, path)


if __name__ == "__main__":
    run_figure(main)
