"""A whole study in a figure: training back on the count of a, from the tables kept in examples/results.

Lines are means over 3 seeds, bands 95% t intervals. Beside fine-tuned models (reFT), by the data they were
pretrained on, stand one that never counted a (Scr.+FT) and one that was never trained (Scr.).

Takes about 8 CPU seconds, 7 of them imports; trains nothing.

Usage: python examples/figures/study.py [FILE.png]
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

import mechft as mf
from mechft.plots.study import reversal_curves

TABLES = Path(__file__).parents[1] / "results" / "pcfg-main"


def main(path: str | Path = "study.png") -> Path:
    """Draw the study's reverse fine-tuning."""
    return mf.save_figure(reversal_curves(pd.read_csv(TABLES / "reversal.csv")), path)


if __name__ == "__main__":
    main(*sys.argv[1:])
