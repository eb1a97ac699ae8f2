"""The loop: batches are functions of the step, stopping loses nothing, bad ends are clear."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from mechft.errors import OutputExistsError, TrainingDivergedError, UnknownNameError
from mechft.models.build import clone, fingerprint
from mechft.models.checkpoint import read_header
from mechft.randomness import generator
from mechft.tasks.batch import TokenBatch
from mechft.tasks.pcfg import PCFGTask
from mechft.training import loop, run
from mechft.training.config import TrainConfig
from mechft.training.loop import _batches, batch_loss, train
from tests.training import killed_run

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

MakeModel = Callable[..., "HookedTransformer"]
CONFIG = TrainConfig(steps=20, learning_rate=1e-3, batch_size=8, checkpoint_every=6, seed=1)


def test_batches_are_a_function_of_the_step(task: PCFGTask) -> None:
    whole = list(_batches(task.pretraining(), CONFIG, 0))
    assert len(whole) >= CONFIG.steps
    for first in (1, 7, 8, 19):
        rest = list(_batches(task.pretraining(), CONFIG, first))
        for one, other in zip(whole[first:], rest, strict=True):
            assert torch.equal(one.tokens, other.tokens) and torch.equal(one.answer, other.answer)
    assert len({fingerprint_of(batch) for batch in whole}) == len(whole)  # fresh at every step


def fingerprint_of(batch: TokenBatch) -> tuple[int, ...]:
    return tuple(batch.tokens.flatten().tolist())


@pytest.mark.parametrize("kind", ["answer", "next_token"])
def test_loss_by_hand(make_model: MakeModel, task: PCFGTask, kind: Any) -> None:
    model, batch = make_model(dtype=torch.float64), task.pretraining().sample(6, generator(0))
    logp = model(batch.tokens[:, :-1]).log_softmax(-1)
    picked = logp.gather(2, batch.tokens[:, 1:, None])[..., 0]
    answer = -picked[:, task.answer_position].mean()
    expected = answer if kind == "answer" else -picked.mean() + 0.5 * answer
    config = replace(CONFIG, loss=kind, answer_weight=0.5)
    torch.testing.assert_close(batch_loss(model, batch, config), expected)


@pytest.mark.parametrize("place", ["step", "evaluate", "save"])
@pytest.mark.parametrize("call", [1, 2, 3])
def test_ctrl_c_loses_nothing_and_changes_no_bit(
    make_model: MakeModel,
    task: PCFGTask,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    call: int,
) -> None:
    """A real SIGINT inside a step, an evaluation or a save: finished, saved, resumed to the same end."""
    config = replace(CONFIG, evaluate_at=(0, 10, 20))
    evaluations = {"C(a)": task.query("C", "a").sample(40, generator(0))}
    whole, start = make_model(), make_model()
    history = train(whole, task.pretraining(), config, evaluations=evaluations)
    targets: dict[str, tuple[Any, str]] = {
        "step": (torch.optim.AdamW, "step"),
        "evaluate": (run, "accuracy"),
        "save": (run, "save_checkpoint"),
    }
    owner, name = targets[place]
    real, calls = getattr(owner, name), []

    def pressed(*arguments: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == call:
            signal.raise_signal(signal.SIGINT)
        return real(*arguments, **named)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(owner, name, pressed)
        train(clone(start), task.pretraining(), config, evaluations=evaluations, directory=tmp_path)
    saved = read_header(tmp_path / run.CHECKPOINT_FILE)["description"]["step"]
    assert saved > 0
    resumed = clone(start)
    again = train(resumed, task.pretraining(), config, evaluations=evaluations, directory=tmp_path)
    assert again == history
    assert fingerprint(resumed) == fingerprint(whole) != fingerprint(start)


def test_a_finished_run_is_not_repeated(
    make_model: MakeModel, task: PCFGTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = make_model(), make_model()
    train(first, task.pretraining(), CONFIG, directory=tmp_path)
    monkeypatch.setattr(run.Run, "advance", None)
    train(second, task.pretraining(), CONFIG, directory=tmp_path)
    assert fingerprint(first) == fingerprint(second)


def test_killed_and_resumed_gives_the_same_bits(tmp_path: Path) -> None:
    """SIGKILL, twice, then a run to the end: weights and history as if nothing had happened."""
    expected = killed_run.run(tmp_path / "undisturbed")
    folder = tmp_path / "killed"
    seen = -1
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.training.killed_run", str(folder), "3"],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.DEVNULL,
        )
        seen = _wait_for_progress(folder, seen, process)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    step = read_header(folder / run.CHECKPOINT_FILE)["description"]["step"]
    assert 0 < step < killed_run.CONFIG.steps
    assert killed_run.run(folder) == expected


def _wait_for_progress(folder: Path, seen: int, process: subprocess.Popen[bytes]) -> int:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        assert process.poll() is None, "the run ended before it could be killed"
        for path in folder.glob(run.CHECKPOINT_FILE):
            step = int(read_header(path)["description"]["step"])
            if step > seen:
                return step
        time.sleep(0.05)
    raise AssertionError("no checkpoint appeared")


def test_another_run_is_refused(make_model: MakeModel, task: PCFGTask, tmp_path: Path) -> None:
    train(make_model(), task.pretraining(), CONFIG, directory=tmp_path)
    before = (tmp_path / run.CHECKPOINT_FILE).read_bytes()
    other = replace(CONFIG, learning_rate=2e-3)
    with pytest.raises(
        OutputExistsError, match=r"config\.learning_rate is 0\.001 there and 0\.002"
    ):
        train(make_model(), task.pretraining(), other, directory=tmp_path)
    with pytest.raises(OutputExistsError, match="start is"):
        train(make_model(seed=7), task.pretraining(), CONFIG, directory=tmp_path)
    with pytest.raises(OutputExistsError, match="data is"):
        train(make_model(), task.query("C", "a"), CONFIG, directory=tmp_path)
    evaluations = {"C(a)": task.query("C", "a").sample(4, generator(0))}
    with pytest.raises(OutputExistsError, match=r"evaluations\.C\(a\) is None there"):
        train(make_model(), task.pretraining(), CONFIG, evaluations=evaluations, directory=tmp_path)
    assert (tmp_path / run.CHECKPOINT_FILE).read_bytes() == before


def test_non_finite_loss_names_step_and_checkpoint(
    make_model: MakeModel, task: PCFGTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = loop.batch_loss, []

    def exploding(*arguments: Any) -> torch.Tensor:
        calls.append(1)
        return real(*arguments) * (float("inf") if len(calls) == 9 else 1.0)

    monkeypatch.setattr(loop, "batch_loss", exploding)
    with pytest.raises(
        TrainingDivergedError, match=r"inf at step 9 of 20.*of step 6, is .*checkpoint\.safetensors"
    ):
        train(make_model(), task.pretraining(), CONFIG, directory=tmp_path)
    assert read_header(tmp_path / run.CHECKPOINT_FILE)["description"]["step"] == 6


def test_non_finite_gradient_before_any_checkpoint(
    make_model: MakeModel, task: PCFGTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finite loss with an infinite gradient stops too, before the weights are touched."""
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_: torch.tensor(float("nan")))
    model = make_model()
    before = fingerprint(model)
    with pytest.raises(
        TrainingDivergedError, match=r"gradient's norm became nan.*none was written"
    ):
        train(model, task.pretraining(), CONFIG, directory=tmp_path)
    assert fingerprint(model) == before


def test_early_stop(make_model: MakeModel, task: PCFGTask) -> None:
    evaluations = {"C(a)": task.query("C", "a").sample(40, generator(0))}
    config = replace(CONFIG, evaluate_at=(0, 5, 10), stop_at=("C(a)", 0.0))
    history = train(make_model(), task.pretraining(), config, evaluations=evaluations)
    assert [record["step"] for record in history] == [0]
    with pytest.raises(UnknownNameError, match=r"stop at 'C\(b\)'"):
        train(
            make_model(),
            task.pretraining(),
            replace(config, stop_at=("C(b)", 0.5)),
            evaluations=evaluations,
        )


def test_it_learns(task: PCFGTask) -> None:
    """A short run learns to copy the letter six places back, from nothing."""
    from mechft.models.build import ModelConfig, build_model
    from mechft.training.evaluation import accuracy

    model = build_model(ModelConfig(1, 2, 32, len(task.vocabulary), task.sample_length - 1), 0)
    source = task.query("T", "NULL")
    train(model, source, TrainConfig(steps=250, learning_rate=5e-3, batch_size=64))
    assert accuracy(model, source.sample(500, generator(9))).low > 0.95
