"""Training steps against each other: ``python -m tests.benchmarks.training`` prints JSON.

A step is forward, loss on every next token, backward, clipping and AdamW, on 96 samples. Compared in
one run, alternately: the fused forward, the same HookedTransformer's own, and two minGPT-style models.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mechft.models import build
from mechft.models.fused import fused_logits
from mechft.randomness import generator
from mechft.tasks import pcfg_config
from mechft.tasks.batch import TokenBatch
from mechft.tasks.correlation import Correlation
from mechft.tasks.pcfg import PCFGTask
from tests.benchmarks.mingpt import MinGPT
from tests.benchmarks.timing import alternate, median_ratio, milliseconds

BATCH, DRAW = 96, 8  # samples a step; steps drawn at once, as the training loop does


def step(
    model: nn.Module, loss_of: Callable[[], Tensor], optimizer: torch.optim.Optimizer
) -> Callable[[], None]:
    """One optimiser step as the training loop takes it."""
    parameters = list(model.parameters())

    def take() -> None:
        loss = loss_of()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    return take


def next_token_loss(logits: Tensor, batch: TokenBatch) -> Tensor:
    """Mean cross-entropy over every next token."""
    return F.cross_entropy(logits.flatten(0, 1), batch.tokens[:, 1:].flatten())


def steps(preset: str) -> tuple[dict[str, Callable[[], object]], build.ModelConfig, PCFGTask]:
    """The actions to time at one preset."""
    task = PCFGTask(pcfg_config.preset(preset))
    config = build.preset(preset, len(task.vocabulary), task.sample_length - 1)
    pretraining, finetuning = task.pretraining(), task.query("C", "b", Correlation(1.0))
    batch = pretraining.sample(BATCH, generator(0))
    asked = torch.tensor([task.answer_position])
    answers = finetuning.sample(BATCH, generator(1))
    inputs = batch.tokens[:, :-1]
    hooked = build.build_model(config)
    models = {"explicit": MinGPT(config, explicit=True), "sdpa": MinGPT(config, explicit=False)}

    def adamw(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)

    optimizer = adamw(hooked)
    losses: dict[str, tuple[nn.Module, Callable[[], Tensor], torch.optim.Optimizer]] = {
        "fused": (hooked, lambda: next_token_loss(fused_logits(hooked, inputs), batch), optimizer),
        "hooked": (hooked, lambda: next_token_loss(hooked(inputs), batch), optimizer),
        "answer_only": (
            hooked,
            lambda: F.cross_entropy(
                fused_logits(hooked, answers.tokens, asked)[:, 0], answers.answer
            ),
            optimizer,
        ),
    }
    for name, model in models.items():
        losses[f"mingpt_{name}"] = (
            model,
            lambda model=model: next_token_loss(model(inputs), batch),  # type: ignore[misc]
            adamw(model),
        )
    actions: dict[str, Callable[[], object]] = {n: step(*parts) for n, parts in losses.items()}
    actions["data_pretraining_8_steps"] = lambda: pretraining.sample(BATCH * DRAW, generator(2))
    actions["data_finetuning_8_steps"] = lambda: finetuning.sample(BATCH * DRAW, generator(3))
    return actions, config, task


def flops_per_step(config: build.ModelConfig, length: int) -> float:
    """Floating-point operations of a full step: forward, and twice as many backward."""
    d, rows = config.d_model, BATCH * length
    products = config.n_layers * (4 * d * d + 2 * d * config.d_mlp) + d * config.d_vocab
    attention = config.n_layers * 2 * length * d  # scores and mixing, without the causal saving
    return 3 * 2 * rows * (products + attention)


def matmul_gflops(rounds: int = 9) -> float:
    """What a large float32 matrix product reaches here."""
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    seconds = alternate({"matmul": lambda: a @ b}, rounds)["matmul"]
    return 2 * 2048**3 / statistics.median(seconds) / 1e9


def measure(preset: str, rounds: int) -> dict[str, Any]:
    """Medians, ratios and rates at one preset."""
    actions, config, task = steps(preset)
    seconds = alternate(actions, rounds)
    fused = seconds["fused"]
    data = [s / DRAW for s in seconds["data_pretraining_8_steps"]]
    tuning_data = [s / DRAW for s in seconds["data_finetuning_8_steps"]]
    work = flops_per_step(config, task.sample_length - 1)
    return {
        "median_ms": {name: milliseconds(values) for name, values in seconds.items()},
        "speedup_of_fused_over": {
            name: round(median_ratio(seconds[name], fused), 3)
            for name in ("hooked", "mingpt_explicit", "mingpt_sdpa")
        },
        "speedup_of_answer_only_over_full_step": round(
            median_ratio(fused, seconds["answer_only"]), 3
        ),
        "data_share_of_pretraining_step": round(median_ratio(data, fused), 4),
        "data_share_of_finetuning_step": round(
            median_ratio(tuning_data, seconds["answer_only"]), 4
        ),
        "gflops_of_fused_step": round(work / statistics.median(fused) / 1e9, 1),
        "rounds": rounds,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--presets", nargs="+", default=["tiny", "paper"])
    parser.add_argument("--rounds", type=int, default=0, help="0: 15 at tiny, 5 at paper")
    arguments = parser.parse_args()
    result: dict[str, Any] = {
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "large_matmul_gflops": round(matmul_gflops(), 1),
    }
    for preset in arguments.presets:
        default = 5 if preset == "paper" else 15
        result[preset] = measure(preset, arguments.rounds or default)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
