"""What callbacks are told: every step and evaluation once, beginnings and ends whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mechft.errors import TrainingDivergedError
from mechft.models.build import fingerprint
from mechft.models.checkpoint import load_checkpoint
from mechft.randomness import generator
from mechft.statistics import Proportion
from mechft.tasks.pcfg import PCFGTask
from mechft.training.callbacks import Callback, SaveModels, model_at
from mechft.training.config import TrainConfig
from mechft.training.loop import train
from mechft.training.recipes import finetune, reverse_finetune
from mechft.training.trained import Trained

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

MakeModel = Callable[..., "HookedTransformer"]
CONFIG = TrainConfig(
    steps=9, learning_rate=1e-3, batch_size=4, evaluate_at=(4, 9), checkpoint_every=3
)


class Diary(Callback):
    def __init__(self, fail_at: int = -1) -> None:
        self.told: list[Any] = []
        self.fail_at = fail_at
        self.weights: dict[int, str] = {}

    def began(self, label: str, config: TrainConfig, step: int) -> None:
        self.told.append(("began", label, config.steps, step))

    def stepped(self, step: int, loss: float) -> None:
        assert loss > 0
        self.told.append(step)
        if step == self.fail_at:
            raise RuntimeError("the diary is full")

    def evaluated(
        self, step: int, model: HookedTransformer, results: Mapping[str, Proportion]
    ) -> None:
        self.told.append(("evaluated", step, list(results)))
        self.weights[step] = fingerprint(model)

    def ended(self, step: int) -> None:
        self.told.append(("ended", step))


def run(model: HookedTransformer, task: PCFGTask, diary: Callback, **options: Any) -> Any:
    test = {"a": task.query("C", "a").sample(5, generator(0))}
    return train(
        model,
        task.query("C", "a"),
        CONFIG,
        evaluations=test,
        label="x",
        callbacks=[diary],
        **options,
    )


def test_everything_is_told_in_order(make_model: MakeModel, task: PCFGTask) -> None:
    diary = Diary()
    run(make_model(), task, diary)
    assert diary.told == [
        ("began", "x", 9, 0), ("evaluated", 0, ["a"]), 1, 2, 3, 4, ("evaluated", 4, ["a"]),
        5, 6, 7, 8, 9, ("evaluated", 9, ["a"]), ("ended", 9),
    ]  # fmt: skip


def test_a_run_that_failed_has_ended_and_goes_on_from_its_checkpoint(
    make_model: MakeModel, task: PCFGTask, tmp_path: Path
) -> None:
    whole, model = make_model(), make_model()
    run(whole, task, Diary())
    first, second = Diary(fail_at=5), Diary()
    with pytest.raises(RuntimeError, match="full"):
        run(model, task, first, directory=tmp_path)
    assert first.told[-2:] == [5, ("ended", 5)]
    again = make_model()
    run(again, task, second, directory=tmp_path)
    assert second.told[:2] == [("began", "x", 9, 3), 4]
    assert fingerprint(again) == fingerprint(whole)


def test_the_end_is_told_of_a_run_that_diverged(make_model: MakeModel, task: PCFGTask) -> None:
    model, diary = make_model(), Diary()
    model.unembed.b_U.data.fill_(float("inf"))
    with pytest.raises(TrainingDivergedError):
        run(model, task, diary)
    assert [told[0] for told in diary.told] == ["began", "ended"]


def test_models_saved_on_the_way_are_the_ones_that_were_measured(
    make_model: MakeModel, task: PCFGTask, tmp_path: Path
) -> None:
    diary = Diary()
    run(make_model(), task, SaveModels(tmp_path, (4, 0, 9), {"who": "me"}))
    run(make_model(), task, diary)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "model-000000.safetensors", "model-000004.safetensors", "model-000009.safetensors",
    ]  # fmt: skip
    for step in (0, 4, 9):
        found = load_checkpoint(model_at(tmp_path, step))
        assert fingerprint(found.model) == diary.weights[step]
        assert found.description == {"who": "me", "step": step}


def test_models_are_saved_at_chosen_moments(
    make_model: MakeModel, task: PCFGTask, tmp_path: Path
) -> None:
    run(make_model(), task, SaveModels(tmp_path, (4,)))
    assert [path.name for path in tmp_path.iterdir()] == ["model-000004.safetensors"]


def test_recipes_tell_them_too(trained: Trained) -> None:
    diary = Diary()
    options: dict[str, Any] = {"steps": 2, "batch_size": 4, "evaluation_size": 5}
    tuned = finetune(trained, **options, callbacks=[diary])
    reverse_finetune(tuned, **options, callbacks=[diary])
    assert [t[1] for t in diary.told if isinstance(t, tuple) and t[0] == "began"] == [
        "small+ft", "small+ft+reft",
    ]  # fmt: skip
