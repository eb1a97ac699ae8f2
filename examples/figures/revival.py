"""How fast does the count of a come back, against a model that never had it?

Both are trained on counting a at the same rate (reFT; Scr.+FT starts from a model never asked for a).

Takes about 83 CPU seconds, 7 of them imports.

Usage: python examples/figures/revival.py [FILE.png]
"""

from __future__ import annotations

from pathlib import Path

import mechft as mf
from mechft.usage import run_figure


def main(path: str | Path = "revival.png", *, steps: int = 300, rows: int = 250) -> Path:
    """Train the fine-tuned model and the control back."""
    ft, never = mf.load("pcfg-tiny-low-to-b"), mf.load("pcfg-tiny-never-a")
    back = mf.reverse_finetune(ft, steps=steps, stop_at=0.97, evaluation_size=rows)
    control = mf.scratch_finetune(never, steps=steps, stop_at=0.97, evaluation_size=rows)
    return mf.save_figure(mf.revival({"reFT": back, "Scr.+FT": control}), path)


if __name__ == "__main__":
    run_figure(main)
