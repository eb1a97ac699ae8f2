"""Retained, wrapped or damaged? Each tool votes by a written rule, or abstains.

Takes about 150 CPU seconds.

Usage: python examples/figures/diagnosis.py [FILE.png]
"""

from __future__ import annotations

from pathlib import Path

import mechft as mf
from mechft.usage import run_figure


def main(path: str | Path = "diagnosis.png", *, steps: int = 300, rows: int = 500) -> Path:
    """Let all tools vote."""
    base = mf.load("pcfg-tiny-low").renamed("base")
    ft = mf.load("pcfg-tiny-low-to-b").renamed("fine-tuned")
    never = mf.load("pcfg-tiny-never-a")
    found = mf.diagnose(base, ft, never, reft_steps=steps, fit_size=4 * rows, test_size=rows)
    return mf.save_figure(found, path)


if __name__ == "__main__":
    run_figure(main)
