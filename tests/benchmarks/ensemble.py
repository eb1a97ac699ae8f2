"""An ensemble against its members one after the other: ``python -m tests.benchmarks.ensemble``.

Prints JSON: milliseconds a step of all members, as the training loop takes it (data, loss, gradient,
optimiser), both ways alternately in one run, and their ratio.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial

import torch

from mechft.models import build
from mechft.models.build import ModelConfig, build_model
from mechft.tasks import pcfg_config
from mechft.tasks.batch import Source
from mechft.tasks.pcfg import PCFGTask
from mechft.tasks.program_config import ProgramConfig
from mechft.tasks.programs import ProgramTask
from mechft.training.config import TrainConfig
from mechft.training.ensemble import train_ensemble
from mechft.training.loop import train
from mechft.training.protocols import PROTOCOLS
from tests.benchmarks.timing import alternate, median_ratio, milliseconds

_WIDTHS = {"counter": (156, 48, 94), "max": (82, 29, 23)}  # d_model, d_head, d_mlp: Tracr's
STEPS = 8


def program(name: str) -> tuple[ModelConfig, Source, TrainConfig]:
    """The form of a compiled program, its fine-tuning data and its protocol."""
    task = ProgramTask(ProgramConfig("counter") if name == "counter" else ProgramConfig("max"))
    width, d_head, d_mlp = _WIDTHS[name]
    form = ModelConfig(
        3, 1, width, len(task.vocabulary), task.n_ctx, d_mlp=d_mlp, d_head=d_head,
        d_vocab_out=len(task.answer_vocabulary), activation="relu", normalization="none",
        attention="bidirectional",
    )  # fmt: skip
    contrast = task.contrast
    source = task.query(contrast.family, contrast.finetuning_operand, contrast.correlation(1.0))
    return form, source, PROTOCOLS["program"].config(1e-4, STEPS, None)


def tiny() -> tuple[ModelConfig, Source, TrainConfig]:
    """The PCFG preset and its fine-tuning."""
    task = PCFGTask(pcfg_config.preset("tiny"))
    form = build.preset("tiny", len(task.vocabulary), task.n_ctx)
    source = task.query("C", "b", task.contrast.correlation(1.0))
    return form, source, PROTOCOLS["pcfg"].config(1e-6, STEPS, None)


SETUPS: dict[str, Callable[[], tuple[ModelConfig, Source, TrainConfig]]] = {
    "counter": partial(program, "counter"),
    "max": partial(program, "max"),
    "pcfg-tiny": tiny,
}


def measure(name: str, members: int, rounds: int, device: str) -> dict[str, float]:
    """Both ways for one setup; every member has the same data, as at one C_Tr of the grid."""
    form, source, config = SETUPS[name]()
    models = [build_model(form, i) for i in range(members)]
    for model in models:
        model.to(device, print_details=False)

    def apart() -> None:
        for model in models:
            train(model, source, config)

    def together() -> None:
        train_ensemble(models, [source] * members, [config] * members)

    seconds = alternate({"apart": apart, "together": together}, rounds)
    return {
        "members": members,
        "one_after_the_other_ms_a_step": milliseconds([s / STEPS for s in seconds["apart"]]),
        "ensemble_ms_a_step": milliseconds([s / STEPS for s in seconds["together"]]),
        "ensemble_over_one_after_the_other": round(
            median_ratio(seconds["together"], seconds["apart"]), 2
        ),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--setups", nargs="+", default=list(SETUPS), choices=list(SETUPS))
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    result: dict[str, object] = {
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "device": arguments.device,
    }
    for name in arguments.setups:
        result[name] = measure(name, arguments.members, arguments.rounds, arguments.device)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
