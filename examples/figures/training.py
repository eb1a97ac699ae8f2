"""How accuracies and the loss went while a model was fine-tuned: the history that every model carries.

The bundled model was taught to count b on strings where count(b) = count(a) + 1 always holds. It is right
about b there within 40 steps, wrong elsewhere, and no longer right about a.

Takes about 7 CPU seconds, all of them imports.

Usage: python examples/figures/training.py [FILE.png]
"""

from __future__ import annotations

from pathlib import Path

import mechft as mf
from mechft.usage import run_figure


def main(path: str | Path = "training.png") -> Path:
    """Draw the history of a bundled fine-tuned model."""
    return mf.save_figure(mf.load("pcfg-tiny-low-to-b").renamed("fine-tuned"), path)


if __name__ == "__main__":
    run_figure(main)
