"""Noise of the stated size, on everything but what is never trained."""

from __future__ import annotations

import math
from typing import Literal

import pytest
import torch

from mechft.errors import ConfigError
from mechft.models.build import ModelConfig, build_model, fingerprint
from mechft.randomness import generator
from mechft.tasks.program_config import ProgramConfig
from mechft.tasks.programs import ProgramTask
from mechft.training.densify import densify
from mechft.training.evaluation import accuracy
from mechft.training.protocols import PROTOCOLS
from mechft.training.trained import Trained


@pytest.fixture
def program() -> Trained:
    task = ProgramTask()
    config = ModelConfig(
        2, 1, 60, len(task.vocabulary), task.n_ctx, d_head=20, d_mlp=80,
        d_vocab_out=len(task.answer_vocabulary), activation="relu", normalization="none",
        attention="bidirectional",
    )  # fmt: skip
    return Trained(build_model(config), task, name="counter")


def test_noise_has_the_stated_deviation(program: Trained) -> None:
    before = fingerprint(program.model)
    made = densify(program, 2e-3, seed=4)
    assert fingerprint(program.model) == before
    frozen = PROTOCOLS["program"].frozen
    named = dict(program.model.named_parameters())
    noise = {n: (p - named[n]).detach().flatten() for n, p in made.model.named_parameters()}
    assert all(not noise[name].any() for name in frozen)
    whole = torch.cat([noise[name] for name in noise if name not in frozen])
    size = len(whole)
    # Mean within five standard errors of 0, deviation within five of 0.002 (its error: σ / √2n).
    assert abs(float(whole.mean())) < 5 * 2e-3 / math.sqrt(size)
    assert abs(float(whole.std()) - 2e-3) < 5 * 2e-3 / math.sqrt(2 * size)
    assert all(noise[name].any() for name in noise if name not in frozen)
    assert made.lineage[-1] == {"recipe": "densify", "deviation": 2e-3, "seed": 4}
    assert made.name == "counter" and densify(program, name="dense").name == "dense"


@pytest.mark.parametrize("name", ["counter", "max"])
def test_a_compiled_program_answers_as_before(name: Literal["counter", "max"]) -> None:
    """At the default deviation, over seeds: accuracy within three points of the compiled program's."""
    pytest.importorskip("tracr")
    from mechft.models.rasp_programs import counter_program, max_program
    from mechft.models.tracr import compile_program

    task = ProgramTask(ProgramConfig(name))
    program = counter_program("a") if name == "counter" else max_program(5)
    letters = [v for v in task.vocabulary.names if v not in ("$", "PAD")]
    model = compile_program(program, letters, task.config.length).model
    base = Trained(model, task)
    rows = task.query(name, task.contrast.pretraining_operand).sample(400, generator(0))
    before = accuracy(model, rows).value
    assert before > 0.95
    for seed in range(3):
        assert accuracy(densify(base, seed=seed), rows).value > before - 0.03


def test_the_seed_decides(program: Trained) -> None:
    one, same, other = (densify(program, seed=seed) for seed in (0, 0, 1))
    assert fingerprint(one.model) == fingerprint(same.model) != fingerprint(other.model)
    assert fingerprint(densify(program, 0.0).model) == fingerprint(program.model)


def test_a_pcfg_model_gets_it_everywhere(trained: Trained) -> None:
    made = densify(trained)
    for (name, p), q in zip(made.model.named_parameters(), trained.model.parameters(), strict=True):
        assert not torch.equal(p, q), name


@pytest.mark.parametrize("deviation", [-1e-3, math.nan, math.inf])
def test_bad_deviation(program: Trained, deviation: float) -> None:
    with pytest.raises(ConfigError, match="finite and at least 0; got"):
        densify(program, deviation)
