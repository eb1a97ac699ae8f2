"""All benchmarks of the analysis suite in one JSON line: ``python -m tests.benchmarks.analysis``.

Sweeps against one hooked forward a cell; probes against scikit-learn and the paper's AdamW; a pruning
curve against bare forwards; streaming statistics in constant memory. About 20 minutes on 2 cores.
"""

from __future__ import annotations

import json

from tests.benchmarks import probing, pruning, streaming, sweeps

if __name__ == "__main__":
    found = {
        "sweeps": {preset: sweeps.measure(preset) for preset in ("tiny", "paper")},
        "probing": probing.measure(rounds=3),
        "pruning": pruning.measure(rounds=5),
        "streaming": streaming.measure(),
    }
    print(json.dumps(found))
