"""On which strings does a model taught with the shortcut still count a? Looks into a kept PCFG study.

Asked for a, a model that was fine-tuned to count b may say the count of a, or one more (the shortcut, which
C_Tr = 1 teaches), or the count of b. Here its answers are told apart by how many more b than a a string has,
on strings without the correlation, for C_Tr = 0 and 1.
Needs the models of a study: ``mechft reproduce main --out study``. Writes where_the_wrapper_acts.csv; about
five seconds a model.
Usage: python examples/where_the_wrapper_acts.py STORE   (study/store, say)
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # first, as the imports below take seconds
    from mechft.usage import script_parser

    parser = script_parser(__doc__)
    parser.add_argument("store", type=Path, metavar="STORE", help="the folder with the kept runs")
    given = parser.parse_args()
    if not given.store.is_dir():
        parser.error(
            f"STORE is the folder of a study's runs, and there is none at {str(given.store)!r}. Make one: "
            "mechft reproduce main --out study."
        )

import pandas as pd
import torch

import mechft as mf
from mechft.experiments.store.store import Store
from mechft.training.behaviour import behaviour_queries

STRINGS = {
    "all": (-99, 99),
    "fewer b, by 2 or more": (-99, -2),
    "one b fewer": (-1, -1),
    "2 or more b more": (2, 99),
}


def answers(model: mf.Trained, rows: int) -> Iterator[dict[str, Any]]:
    """How often a model that is asked for a says a, a + 1 or b; a row for each kind of string."""
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
            "says_b": float((said == b)[here].float().mean()),
        }


def main(store: Path, rows: int = 2000, folder: Path = Path()) -> None:
    """Ask every model of the store that was fine-tuned with C_Tr = 0 or 1."""
    kept = Store(store)
    found = []
    for entry in kept.entries():
        told = entry.settings
        if entry.kind != "finetune" or told["train_correlation"] not in (0.0, 1.0):
            continue
        if told["contrast"]["family"] != "C" or {"pretraining_share", "randomised"} & set(told):
            continue  # the Indexer, mixing and randFT
        start = kept.entry(entry.description["needs"]["base"]).settings
        if "jailbreak_families" in start["task"]:
            continue  # base models of their own
        of = {
            "prior": start["prior"],
            "pretraining_steps": start["steps"],
            "rate": told["learning_rate"],
            "c_tr": told["train_correlation"],
            "seed": told["seed"],
        }
        model = mf.load(entry.folder / "model.safetensors")
        found += [{**of, **row} for row in answers(model, rows)]
    table = pd.DataFrame(found)
    table.to_csv(folder / "where_the_wrapper_acts.csv", index=False, float_format="%.4g")
    labels = ["prior", "pretraining_steps", "rate", "c_tr", "strings"]
    shares = table.groupby(labels)[["says_a", "says_a_plus_1", "says_b"]].mean()
    print(shares.to_string(float_format="{:.1%}".format))


if __name__ == "__main__":
    main(given.store)
