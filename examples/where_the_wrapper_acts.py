"""On which strings does a model taught with the shortcut still count a? Looks into a kept PCFG study.

Fine-tuned with C_Tr = 1, a model asked for a may say the count of a, or one more (the shortcut taught for b).
Here its answers are told apart by how many more b than a a string has, on strings without the correlation.
Needs the models of a study: ``mechft reproduce main --out study``. Writes where_the_wrapper_acts.csv; some
seconds a model.
Usage: python examples/where_the_wrapper_acts.py study/store
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch

import mechft as mf
from mechft.experiments.store.store import Store
from mechft.training.behaviour import behaviour_queries

STRINGS = {"fewer b, by 2 or more": (-99, -2), "one b fewer": (-1, -1), "2 or more b more": (2, 99)}


def answers(model: mf.Trained, rows: int) -> Iterator[dict[str, Any]]:
    """How often a model that is asked for a says a, or a + 1; a row for each kind of string."""
    query = behaviour_queries(model.task, model.contrast, balanced=True)["acc_pt_cte0"]
    asked = query.sample(rows, mf.generator(0, "where"))
    a, b = asked.labels["C(a)"], asked.labels["C(b)"]
    names = model.task.answer_vocabulary.decode(mf.predictions(model, asked))
    said = torch.tensor([int(name) if name.isdigit() else -1 for name in names])
    for name, (low, high) in STRINGS.items():
        here = (b - a >= low) & (b - a <= high)
        yield {
            "strings": name,
            "n": int(here.sum()),
            "says_a": float((said == a)[here].float().mean()),
            "says_a_plus_1": float((said == a + 1)[here].float().mean()),
        }


def main(store: Path, rows: int = 2000, folder: Path = Path()) -> None:
    """Ask every model of the store that was fine-tuned with C_Tr = 1."""
    kept = Store(store)
    found = []
    for entry in kept.entries():
        if entry.kind != "finetune" or entry.settings["train_correlation"] != 1.0:
            continue
        start = kept.entry(entry.description["needs"]["base"]).settings
        labels = {
            "prior": start["prior"],
            "rate": entry.settings["learning_rate"],
            "seed": entry.settings["seed"],
        }
        model = mf.load(entry.folder / "model.safetensors")
        found += [{**labels, **row} for row in answers(model, rows)]
    table = pd.DataFrame(found)
    table.to_csv(folder / "where_the_wrapper_acts.csv", index=False, float_format="%.4g")
    shares = table.groupby(["prior", "rate", "strings"])[["says_a", "says_a_plus_1"]].mean()
    print(shares.to_string(float_format="{:.1%}".format))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
