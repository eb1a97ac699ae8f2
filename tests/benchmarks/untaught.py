"""What comes back from shuffled answers: ``python -m tests.benchmarks.untaught`` prints JSON.

The bundled pair over five seeds, beside a model that was never asked; a wrapper planted by hand and a
capability overwritten with noise, whose truth is known. Accuracies with 95% Wilson intervals over 125 rows,
at a step that was chosen on 125 others. Takes about three CPU minutes.
"""

from __future__ import annotations

import json
from typing import Any

from mechft.analysis.untaught import UntaughtReturn, untaught_return
from mechft.randomness import generator
from mechft.training.trained import Trained, load
from tests.planted import destroyed, wrapped

ROWS = 250


def main() -> dict[str, Any]:
    """Train all of them on shuffled answers."""
    base, never = load("pcfg-tiny-low"), load("pcfg-tiny-never-a")
    pair = {"fine-tuned": load("pcfg-tiny-low-to-b"), "never asked": never}
    known: dict[str, Trained] = {"wrapped": wrapped(base), "overwritten": destroyed(base)}
    return {
        "bundled pair": {seed: _told(base, pair, 34, 1e-4, seed) for seed in range(5)},
        "known truth": _told(base, known | {"never asked": never}, 21, 1e-3, 0),
    }


def _told(
    base: Trained, models: dict[str, Trained], steps: int, rate: float, seed: int
) -> dict[str, str]:
    query = base.task.query("C", "a", base.contrast.correlation(0.0))
    train, test = (query.sample(ROWS, generator(seed, name)) for name in ("train", "test"))
    found: UntaughtReturn = untaught_return(
        models, train, test, steps=steps, learning_rate=rate, seed=seed
    )
    best = found.best()
    told = {
        str(row["model"]): f"{row['untouched']:.1%} → {row['accuracy']:.1%} [{row['ci_low']:.1%}, "
        f"{row['ci_high']:.1%}] at step {row['step']}"
        for row in best.to_dict("records")
    }
    return told | {"commonest answer": f"{best['commonest'].iloc[0]:.1%}"}


if __name__ == "__main__":
    print(json.dumps(main(), indent=1, ensure_ascii=False))
