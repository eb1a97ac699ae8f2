"""What pretraining a PCFG model is, before it is done."""

from __future__ import annotations

from mechft.models import build
from mechft.models.build import ModelConfig
from mechft.randomness import derive_seed
from mechft.tasks import pcfg_config
from mechft.tasks.pcfg import PCFGTask
from mechft.tasks.pcfg_config import PCFGConfig
from mechft.training.behaviour import EVALUATION_SIZE, evaluation_batches
from mechft.training.config import TrainConfig, learning_rate_value
from mechft.training.plan import Plan
from mechft.training.precision import Precision
from mechft.training.trained import Trained

PRETRAINING_STEPS = {"tiny": 2000, "small": 10_000, "paper": 200_000}
"""Pretraining steps by preset. Paper: 10K to 200K; its main text has 200K."""


def pretraining_plan(
    preset: str = "tiny",
    prior: str = "low",
    *,
    task: PCFGConfig | None = None,
    model: ModelConfig | None = None,
    steps: int | None = None,
    learning_rate: float = 1e-3,
    batch_size: int = 96,
    seed: int = 0,
    evaluation_size: int = EVALUATION_SIZE,
    precision: Precision = "float32",
    name: str | None = None,
) -> Plan:
    """What ``pretrain`` does with the same arguments, before it does it."""
    config = task or pcfg_config.preset(preset, prior)
    steps = PRETRAINING_STEPS[preset] if steps is None else steps
    train_config = TrainConfig(
        steps=steps,
        learning_rate=learning_rate_value(learning_rate),
        batch_size=batch_size,
        loss="next_token",
        seed=derive_seed(seed, "pretrain"),
        precision=precision,
        evaluate_at=tuple(sorted({0, steps, *range(0, steps, max(1, steps // 10))})),
    )
    made = PCFGTask(config)
    shape = model or build.preset(preset, len(made.vocabulary), made.sample_length - 1)
    weights = build.build_model(shape, seed=derive_seed(seed, "weights"))
    start = Trained(weights, made, name=name or f"pcfg-{preset}-{prior.replace('_', '-')}")
    queries = {
        f"{family}({operand})": made.query(family, operand)
        for family, operand in _pretraining_queries(config)
    }
    evaluations = evaluation_batches(queries, seed, evaluation_size)
    facts = {"recipe": "pretrain", "preset": preset, "prior": prior, "seed": seed}
    return Plan(start, made.pretraining(), train_config, evaluations, facts)


def _pretraining_queries(config: PCFGConfig) -> list[tuple[str, str]]:
    """What to watch while pretraining: counting each letter, others' usual operand, jailbreak families' a."""
    usual = "abc"[max(range(3), key=lambda i: config.operand_prior[i])]
    rest = {"CC": usual * 2, "I": usual, "IC": usual * 2, "T": "NULL"}
    counting = [("C", letter) for letter in "abc"] if "C" in config.families else []
    jailbreak = [(family, "a") for family in config.jailbreak_families]
    return counting + [(f, o) for f, o in rest.items() if f in config.families] + jailbreak
