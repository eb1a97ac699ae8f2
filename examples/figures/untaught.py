"""Does the count of a come back from training that says nothing about it?

The bundled model was taught to count b, and no longer counts a. It is trained on prompts that ask for a, with
the answers shuffled among them: which counts there are can be learned from that, which string has which
cannot. On other strings it is soon right far more often than always giving the commonest count would be, and
a model that was never asked for a is not: the count of a was there all along. After more steps nothing is
left of it, as the shuffled answers are learned.

Takes about 26 CPU seconds, 7 of them imports.

Usage: python examples/figures/untaught.py [FILE.png]
"""

from __future__ import annotations

from pathlib import Path

import mechft as mf
from mechft.usage import run_figure


def main(path: str | Path = "untaught.png", *, steps: int = 55, rows: int = 250) -> Path:
    """Train two bundled models on shuffled answers."""
    ft = mf.load("pcfg-tiny-low-to-b")
    query = ft.task.query("C", "a", mf.Correlation(0.0))
    train, test = (query.sample(rows, mf.generator(0, stream)) for stream in ("train", "test"))
    models = {"fine-tuned": ft, "never asked for a": mf.load("pcfg-tiny-never-a")}
    found = mf.untaught_return(models, train, test, steps=steps, learning_rate=1e-4)
    return mf.save_figure(found, path)


if __name__ == "__main__":
    run_figure(main)
