"""The state of a training run: one optimiser step, one evaluation, one checkpoint at a time."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mechft.errors import (
    CheckpointError,
    OutputExistsError,
    TrainingDivergedError,
    require,
    unknown_name,
)
from mechft.models.checkpoint import load_checkpoint, save_checkpoint
from mechft.statistics import Proportion
from mechft.tasks.batch import TokenBatch
from mechft.training.config import TrainConfig
from mechft.training.evaluation import NoAnswerError, accuracy

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

HISTORY_COLUMNS = (
    "step",
    "learning_rate",
    "train_loss",
    "evaluation",
    "accuracy",
    "ci_low",
    "ci_high",
    "n",
)
CHECKPOINT_FILE = "checkpoint.safetensors"


class Run:
    """A run in progress: model, optimiser, history, and the checkpoint that holds them all.

    Attributes:
        step: Steps taken.
        stopped: Whether ``stop_at`` was reached.
        history: Records of the evaluations so far.
    """

    def __init__(
        self,
        model: HookedTransformer,
        config: TrainConfig,
        evaluations: Mapping[str, TokenBatch],
        directory: str | Path | None,
        identity: dict[str, Any],
    ) -> None:
        self.model, self.config, self.evaluations = model, config, evaluations
        self.path = None if directory is None else Path(directory) / CHECKPOINT_FILE
        digests = {name: batch.digest() for name, batch in evaluations.items()}
        self.identity = _as_json({"config": _settings(config), "evaluations": digests, **identity})
        self.saved_step: int | None = None
        self.step = 0
        self.stopped = False
        self.history: list[dict[str, Any]] = []
        trained = trained_parameters(model, config)
        self.names, self.parameters = list(trained), list(trained.values())
        self.optimizer = _optimizer(self.parameters, config)

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do."""
        return self.stopped or self.step >= self.config.steps

    def advance(self, losses: Iterable[Tensor]) -> float:
        """Take one step down the sum of ``losses``, the parts of a batch's; returns its value.

        A part's graph is let go before the next is asked for, so that memory is one part's.

        Raises:
            TrainingDivergedError: If loss or gradient is not finite; the weights are those before this step.
        """
        rate = self.config.rate(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        # Only with frozen parameters are the inputs named: their gradients are then not computed at all.
        inputs = self.parameters if self.config.frozen else None
        value = 0.0
        for loss in losses:
            part = float(loss.detach())
            self._check_finite("loss", part, rate)
            value += part
            loss.backward(inputs=inputs)  # type: ignore[no-untyped-call]
        clip = math.inf if self.config.gradient_clip is None else self.config.gradient_clip
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, clip)
        self._check_finite("gradient's norm", float(norm), rate)
        self.optimizer.step()
        self.step += 1
        return value

    def _check_finite(self, what: str, value: float, rate: float) -> None:
        if math.isfinite(value):
            return
        raise TrainingDivergedError(
            f"The {what} became {value} at step {self.step + 1} of {self.config.steps} (learning rate "
            f"{rate:.2g}). Checkpoint: {self._kept()}. Lower the learning rate.",
            self.step + 1,
        )

    def _kept(self) -> str:
        if self.saved_step is None:
            return "none was written yet"
        return f"the last, of step {self.saved_step}, is {self.path}"

    def evaluate(self, loss: float) -> dict[str, Proportion]:
        """Measure every evaluation and add it to the history.

        Raises:
            TrainingDivergedError: If the model no longer answers (``NoAnswerError``); the history stays as
                it was. Its ``step`` is the one that would come next, as these weights give it no loss.
        """
        try:
            results = {n: accuracy(self.model, batch) for n, batch in self.evaluations.items()}
        except NoAnswerError as error:
            raise TrainingDivergedError(
                f"After {self.step} of {self.config.steps} steps the model cannot be evaluated: {error} "
                f"Checkpoint: {self._kept()}. "
                + ("Lower the learning rate." if self.step else "Start from a sound model."),
                self.step + 1,
            ) from error
        self.history += evaluation_records(self.step, loss, results, self.config)
        if self.config.stop_at is not None:
            name, threshold = self.config.stop_at
            self.stopped = results[name].value >= threshold
        return results

    def save(self) -> None:
        """Write the checkpoint, if there is a folder for it."""
        if self.path is None:
            return
        extra = {
            f"{name}.{key}": value
            for name, parameter in zip(self.names, self.parameters, strict=True)
            for key, value in self.optimizer.state[parameter].items()
            if isinstance(value, Tensor)
        }
        description = {
            "identity": self.identity,
            "environment": _environment(),
            "step": self.step,
            "stopped": self.stopped,
            "history": self.history,
        }
        save_checkpoint(self.path, self.model, description, extra)
        self.saved_step = self.step

    def resume(self) -> None:
        """Continue from the checkpoint in the folder, if there is one of this very run."""
        if self.path is None or not self.path.exists():
            return
        found = load_checkpoint(self.path)
        if "identity" not in found.description:
            raise CheckpointError(f"{self.path} is a finished model, not a run that can go on.")
        theirs = found.description["identity"]
        if theirs != self.identity:
            different = sorted(_differences(theirs, self.identity))
            raise OutputExistsError(
                f"{self.path.parent} holds another run: {'; '.join(different[:4])}. It was left as "
                "it is. Choose another folder, or remove this one."
            )
        if found.description.get("environment") != _environment():
            warnings.warn(
                f"This run began with {found.description.get('environment')} and goes on with "
                f"{_environment()}: its bits may differ from an undisturbed run's.",
                stacklevel=4,
            )
        self.step = self.saved_step = found.description["step"]
        self.stopped = found.description["stopped"]
        self.history = found.description["history"]
        with torch.no_grad():
            for name, parameter in found.model.named_parameters():
                self.model.get_parameter(name).copy_(parameter)
        for name, parameter in zip(self.names, self.parameters, strict=True):
            prefix = f"{name}."
            state = {
                key.removeprefix(prefix): value.to(parameter.device)
                for key, value in found.extra.items()
                if key.startswith(prefix) and "." not in key.removeprefix(prefix)
            }
            if state:
                self.optimizer.state[parameter] = state


def trained_parameters(
    model: HookedTransformer, config: TrainConfig
) -> dict[str, torch.nn.Parameter]:
    """The parameters a run trains, by name: all but ``config.frozen``.

    Raises:
        UnknownNameError: If a frozen name is not one of the model's parameters.
        ConfigError: If nothing is left to train.
    """
    named = dict(model.named_parameters())
    for name in config.frozen:
        if name not in named:
            raise unknown_name("parameter to freeze", name, named)
    left = {name: p for name, p in named.items() if name not in config.frozen}
    require(bool(left), "Every parameter is frozen; leave at least one to train.")
    return left


def _optimizer(parameters: list[torch.nn.Parameter], config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW or SGD; weight decay for parameters of two or more axes only."""
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": config.decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    rate = config.learning_rate
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=config.momentum, fused=True)
    return torch.optim.AdamW(groups, lr=rate, betas=config.betas, fused=True)


def evaluation_records(
    step: int, loss: float, results: Mapping[str, Proportion], config: TrainConfig
) -> list[dict[str, Any]]:
    """One record an evaluation: the row of a history, with ``HISTORY_COLUMNS``.

    Args:
        step: Steps taken.
        loss: Of the step before; NaN if there is none.
        results: Accuracies by evaluation.
        config: The run's; gives the learning rate of the step before.
    """
    return [
        {
            "step": step,
            "learning_rate": config.rate(max(0, step - 1)),
            "train_loss": None if math.isnan(loss) else loss,
            "evaluation": name,
            "accuracy": result.value,
            "ci_low": result.low,
            "ci_high": result.high,
            "n": result.n,
        }
        for name, result in results.items()
    ]


_LATER_SETTINGS = ("optimizer", "momentum", "frozen", "precision", "micro_batches")


def _settings(config: TrainConfig) -> dict[str, Any]:
    """A run's settings as its identity.

    Settings that the first checkpoints did not know are named only where they are not the default, so
    that a run begun before them goes on.
    """
    values = asdict(config) | {"weight_decay": config.decay}
    defaults = {f.name: f.default for f in fields(config)}
    return {k: v for k, v in values.items() if k not in _LATER_SETTINGS or v != defaults[k]}


def _as_json(value: Any) -> Any:
    """The value as it reads back from JSON (tuples become lists), so that runs can be compared."""
    return json.loads(json.dumps(value))


def _differences(theirs: Any, ours: Any, path: str = "") -> Iterator[str]:
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in theirs.keys() | ours.keys():
            yield from _differences(theirs.get(key), ours.get(key), f"{path}.{key}".lstrip("."))
    elif theirs != ours:
        yield f"{path} is {theirs!r} there and {ours!r} here"


def _environment() -> dict[str, Any]:
    """What the bits of a run depend on besides its settings."""
    return {"torch": torch.__version__, "threads": torch.get_num_threads()}
