"""A pair of GPT-2's size compared: ``python -m tests.benchmarks.compare`` prints JSON.

The pair is made from GPT-2's config: random weights, and the same with a normal change of a twentieth of each
weight's spread, so that the two answer differently. Both are shown random prompts. Seconds are CPU seconds of
the process, so that other work on the machine does not count; with one thread (OMP_NUM_THREADS=1) they are
what a free core takes. Imports are done before; memory is the process's largest so far, imports included.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

from mechft.experiments.compare.config import CompareSettings
from mechft.experiments.compare.looking import Look, first_look
from mechft.experiments.compare.pair import Pair
from mechft.experiments.compare.rows import rows_of
from mechft.models.hook_points import as_model
from mechft.models.opening import open_model
from mechft.randomness import generator
from mechft.report.comparison import compare
from mechft.tasks.batch import TokenBatch
from mechft.tasks.prompts import read_prompts

T = TypeVar("T")
FOLDERS = ("base", "finetuned")
_VOCABULARY = 50_257


def make_pair(folder: Path) -> None:
    """Write the two models as Hugging Face folders: 0.5 GB each."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=_VOCABULARY))
    model.save_pretrained(folder / FOLDERS[0])
    with torch.no_grad():
        for weight in model.parameters():
            spread = float(weight.std()) or 0.02
            weight.add_(0.05 * spread * torch.randn_like(weight))
    model.save_pretrained(folder / FOLDERS[1])


def measured(action: Callable[[], T]) -> tuple[T, dict[str, float]]:
    """What an action gives, its CPU seconds, and the largest memory of the process after it."""
    begin = time.process_time()
    found = action()
    seconds = time.process_time() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return found, {"cpu_seconds": round(seconds, 1), "peak_gb": round(peak / 1e9, 2)}


def measure(folder: Path, prompts: int, length: int, whole: bool) -> dict[str, Any]:
    """Seconds and memory of opening the pair, of the first answer, and of the whole comparison."""
    tokens = torch.randint(_VOCABULARY, (prompts, length + 1), generator=generator(0, "benchmark"))
    batch = TokenBatch(tokens, length - 1, tokens[:, -1])
    settings = CompareSettings()

    def opened() -> tuple[Any, Any]:
        base = open_model(folder / FOLDERS[0])
        return base.model, open_model(folder / FOLDERS[1], base=base).model

    def first() -> Look:
        data = read_prompts(batch, None, n_ctx=1024, first_token=None, d_vocab=_VOCABULARY)
        models = (as_model(base), as_model(finetuned))
        return first_look(Pair(*models, rows_of(data, _VOCABULARY), data.kind, settings))

    (base, finetuned), result = measured(opened)
    found: dict[str, Any] = {"open": result}
    look, found["first_answer"] = measured(first)
    found["first_answer"]["rows"] = look.records[-1].rows
    if whole:
        comparison, found["everything"] = measured(lambda: compare(base, finetuned, batch))
        found["everything"]["stages"] = {
            stage.name: {"state": stage.state, "rows": stage.rows, "seconds": round(stage.seconds)}
            for stage in comparison.stages
        }
    return found


def main() -> None:
    """Make the pair, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true", help="every stage, too: 17 minutes")
    parser.add_argument("--prompts", type=int, default=256)
    parser.add_argument("--length", type=int, default=16, help="tokens of a prompt")
    parser.add_argument("--make", type=Path, help="only write the pair to this folder")
    arguments = parser.parse_args()
    if arguments.make is not None:
        make_pair(arguments.make)
        return
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-m", "tests.benchmarks.compare", "--make", place]
        subprocess.run(command, check=True)  # its memory is not to be counted
        found = measure(Path(place), arguments.prompts, arguments.length, arguments.all)
    told = {"threads": torch.get_num_threads(), "torch": torch.__version__}
    told |= {"prompts": arguments.prompts, "length": arguments.length}
    print(json.dumps({**told, **found}, indent=1))


if __name__ == "__main__":
    main()
