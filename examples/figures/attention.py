"""Where do heads look, and what became of it?

The pattern of a head on one string, in the base and in the fine-tuned model: attending token down,
attended token across.

Takes about 8 CPU seconds, 7 of them imports.

Usage: python examples/figures/attention.py [FILE.png]
"""

from __future__ import annotations

from pathlib import Path

import mechft as mf
from mechft.usage import run_figure


def main(path: str | Path = "attention.png", *, rows: int = 300) -> Path:
    """Draw the pattern of the head that moved most."""
    base = mf.load("pcfg-tiny-low").renamed("base")
    ft = mf.load("pcfg-tiny-low-to-b").renamed("fine-tuned")
    moved = mf.diff_attention(base, ft, size=rows).frame.nlargest(1, "js").iloc[0]
    head = (int(moved["block"]), int(moved["head"]))
    return mf.save_figure(mf.attention_maps(base, ft, heads=[head]), path)


if __name__ == "__main__":
    run_figure(main)
