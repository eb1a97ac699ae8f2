"""Story models, fused against hooked: ``python -m tests.benchmarks.stories`` prints JSON.

A training step is forward, loss on every next token, backward, clipping and AdamW. Generation samples a
fixed number of tokens (no stop token) for many prompts at once with the cache of keys and values; against it,
HookedTransformer.generate, which has such a cache too, one prompt at a time. Seconds are CPU seconds of the
process, so that other work on the machine does not count; with one thread they are what a free core takes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mechft.models.build import build_model
from mechft.models.fused import fused_logits
from mechft.models.generation import generate
from mechft.models.llama_config import LlamaConfig, llama_preset
from mechft.randomness import preserved_random_state
from tests.benchmarks.timing import median_ratio, milliseconds
from tests.benchmarks.training import step

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer


def alternate_cpu(
    actions: Mapping[str, Callable[[], object]], rounds: int
) -> dict[str, list[float]]:
    """CPU seconds of each action in each round, one after the other; one round that does not count first."""
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for i in range(rounds + 1):
        for name, action in actions.items():
            begin = time.process_time()
            action()
            if i:
                seconds[name].append(time.process_time() - begin)
    return seconds


def random_tokens(rows: int, length: int, d_vocab: int) -> Tensor:
    """Tokens drawn uniformly: what they are does not change the work."""
    return torch.randint(d_vocab, (rows, length), generator=torch.Generator().manual_seed(0))


def flops(config: LlamaConfig, rows: int, length: int) -> float:
    """Floating-point operations of a step's matrix products: forward, and twice as many backward."""
    attention = (
        config.n_layers * length * config.d_model
    )  # scores and mixing; causal: half of the pairs
    return 3 * 2 * rows * length * (config.parameter_count + attention)


def matmul_gflops(rounds: int) -> float:
    """What a large float32 matrix product reaches here."""
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    seconds = alternate_cpu({"matmul": lambda: a @ b}, rounds)["matmul"]
    return 2 * 2048**3 / statistics.median(seconds) / 1e9


def training_step(preset: str, rows: int, length: int, rounds: int) -> dict[str, Any]:
    """Milliseconds of a fused and a hooked step, their ratio, and the largest there could be.

    That is with nothing but the step's own matrix products, at the rate of a large one.
    """
    config = llama_preset(preset)
    model = build_model(config)
    tokens = random_tokens(rows, length + 1, config.d_vocab)

    def loss(forward: Callable[[Tensor], Any]) -> Tensor:
        return F.cross_entropy(forward(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
    seconds = alternate_cpu(
        {
            "fused": step(model, lambda: loss(lambda t: fused_logits(model, t)), optimizer),
            "hooked": step(model, lambda: loss(model), optimizer),
        },
        rounds,
    )
    work, peak = flops(config, rows, length) / 1e9, matmul_gflops(rounds)
    return {
        "rows": rows,
        "length": length,
        "gflops_of_large_matmul": round(peak, 1),
        "gflops_of_fused_step": round(work / statistics.median(seconds["fused"]), 1),
        "speedup_of_bare_matmuls_over_hooked": round(
            statistics.median(seconds["hooked"]) * peak / work, 2
        ),
        "cpu_ms": {name: milliseconds(values) for name, values in seconds.items()},
        "speedup_of_fused_over_hooked": round(median_ratio(seconds["hooked"], seconds["fused"]), 2),
        "tokens_per_cpu_second": round(rows * length / statistics.median(seconds["fused"])),
    }


def hooked_stories(model: HookedTransformer, prompts: Tensor, new: int) -> None:
    """Prompts continued by the HookedTransformer itself, one after the other."""
    with preserved_random_state(0), torch.no_grad():
        for prompt in prompts.split(1):
            model.generate(
                prompt, max_new_tokens=new, stop_at_eos=False, return_type="tokens", verbose=False
            )


def generation(preset: str, rows: int, new: int, prompt: int, rounds: int) -> dict[str, Any]:
    """CPU seconds a story, batched and one at a time."""
    config = llama_preset(preset)
    model = build_model(config)
    prompts = random_tokens(rows, prompt, config.d_vocab)
    alone = max(1, rows // 16)  # stories that are continued one at a time; they take the same each
    seconds = alternate_cpu(
        {
            "batched": lambda: generate(model, prompts, new),
            "one_at_a_time": lambda: hooked_stories(model, prompts[:alone], new),
        },
        rounds,
    )
    batched = [s / rows for s in seconds["batched"]]
    single = [s / alone for s in seconds["one_at_a_time"]]
    return {
        "rows": rows,
        "prompt": prompt,
        "new_tokens": new,
        "cpu_ms_a_story": {"batched": milliseconds(batched), "one_at_a_time": milliseconds(single)},
        "speedup": round(median_ratio(single, batched), 1),
        "cpu_seconds_of_all": round(statistics.median(seconds["batched"]), 2),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--presets", nargs="+", default=["tiny", "small"])
    parser.add_argument("--rows", type=int, default=8, help="texts of a training step")
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--stories", type=int, default=32)
    parser.add_argument("--new", type=int, default=60, help="tokens a story")
    parser.add_argument("--prompt", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    result: dict[str, Any] = {
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "step": {
            preset: training_step(preset, arguments.rows, arguments.length, arguments.rounds)
            for preset in arguments.presets
        },
        "generation": {
            preset: generation(
                preset, arguments.stories, arguments.new, arguments.prompt, arguments.rounds
            )
            for preset in arguments.presets[:1]
        },
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
