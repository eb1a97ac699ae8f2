"""A whole study in a figure: training back on the count of a, from the tables kept in examples/results.

Lines are means over 3 seeds, bands 95% t intervals. Beside fine-tuned models (reFT), by the data they were
pretrained on, stand one that never counted a (Scr.+FT) and one that was never trained (Scr.).

Takes about 8 CPU seconds, 7 of them imports; trains nothing.

Usage: python examples/figures/study.py [FILE.png]
"""

from __future__ import annotations

from pathlib import Path

import mechft as mf
from mechft.usage import run_figure

TABLES = Path(__file__).parents[1] / "results" / "pcfg-main"


def main(path: str | Path = "study.png") -> Path:
    """Draw the study's reverse fine-tuning."""
    import pandas as pd

    from mechft.plots.study import reversal_curves

    return mf.save_figure(reversal_curves(pd.read_csv(TABLES / "reversal.csv")), path)


if __name__ == "__main__":
    run_figure(main)
