"""Sweeps against one hooked forward a cell: ``python -m tests.benchmarks.sweeps`` prints JSON.

At the paper's size (6 blocks × 6 heads, width 192, length 265) every head is ablated, and every head's
output patched from another model, by the sweep and by one full forward of the HookedTransformer a cell,
with hooks. The results are equal (asserted), so only time is compared.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mechft.analysis.ablation import ablate, ablation_sweep
from mechft.analysis.interventions.sites import Site, all_sites
from mechft.analysis.patching import patch_across
from mechft.models import build
from mechft.randomness import generator
from mechft.tasks import pcfg_config
from mechft.tasks.batch import TokenBatch
from mechft.tasks.pcfg import PCFGTask
from tests.benchmarks.timing import alternate, median_ratio, milliseconds


def _loss(model: Any, batch: TokenBatch) -> float:
    with torch.no_grad():
        return float(F.cross_entropy(model(batch.prompt)[:, -1], batch.answer))


def _hooked_ablation(model: Any, batch: TokenBatch, sites: list[Site]) -> list[float]:
    found = []
    for site in sites:
        with ablate(model, sites=[site]):
            found.append(_loss(model, batch))
    return found


def _hooked_patching(model: Any, donor: Any, batch: TokenBatch, sites: list[Site]) -> list[float]:
    names = {site.hook for site in sites}
    _, cache = donor.run_with_cache(batch.prompt, names_filter=lambda name: name in names)
    found = []
    for site in sites:

        def put(value: Tensor, hook: Any, site: Site = site) -> Tensor:
            value = value.clone()
            value[:, :, site.index] = cache[site.hook][:, :, site.index]
            return value

        with model.hooks(fwd_hooks=[(site.hook, put)]):
            found.append(_loss(model, batch))
    return found


def measure(preset: str = "paper", rows: int = 32, rounds: int = 3) -> dict[str, Any]:
    """Times of both ways and their ratio, per technique."""
    task = PCFGTask(pcfg_config.preset(preset))
    config = build.preset(preset, len(task.vocabulary), task.sample_length - 1)
    model, donor = build.build_model(config, 0), build.build_model(config, 1)
    batch = task.query("C", "a").sample(rows, generator(0))
    sites = all_sites(model, "head")
    made: dict[str, list[float]] = {}

    def keep(name: str, run: Callable[[], list[float]]) -> Callable[[], None]:
        def action() -> None:
            made[name] = run()

        return action

    def ablated() -> list[float]:
        frame = ablation_sweep(model, {"t": batch}, sites, kinds=["zero"], metric="loss").frame
        return [float(value) for value in frame["value"]]

    def patched() -> list[float]:
        found = patch_across(
            donor, model, batch, sites, directions=["base→finetuned"], metric="loss"
        )
        return [float(value) for value in found.frame["value"]][: len(sites)]

    seconds = alternate(
        {
            "ablation, sweep": keep("ablation, sweep", ablated),
            "ablation, hooked": keep(
                "ablation, hooked", lambda: _hooked_ablation(model, batch, sites)
            ),
            "patching, sweep": keep("patching, sweep", patched),
            "patching, hooked": keep(
                "patching, hooked", lambda: _hooked_patching(model, donor, batch, sites)
            ),
        },
        rounds,
    )
    result: dict[str, Any] = {
        "preset": preset, "rows": rows, "cells": len(sites), "threads": torch.get_num_threads(),
        "rounds": rounds, "median_ms": {name: milliseconds(s) for name, s in seconds.items()},
    }  # fmt: skip
    for name in ("ablation", "patching"):
        fast, slow = made[f"{name}, sweep"], made[f"{name}, hooked"]
        difference = max(abs(a - b) for a, b in zip(fast, slow, strict=True))
        assert difference < 1e-4, difference
        ratio = median_ratio(seconds[f"{name}, hooked"], seconds[f"{name}, sweep"])
        result[f"{name}_speedup"] = round(ratio, 2)
        result[f"{name}_largest_difference_of_loss"] = float(f"{difference:.2g}")
    result["spread"] = {
        name: round(statistics.pstdev(s) / statistics.mean(s), 3) for name, s in seconds.items()
    }
    return result


if __name__ == "__main__":
    print(json.dumps({p: measure(p) for p in ("tiny", "paper")}))
