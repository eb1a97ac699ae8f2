"""What may watch a training run: trackers, savers of models on the way."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mechft.models.checkpoint import save_checkpoint
from mechft.statistics import Proportion
from mechft.training.config import TrainConfig

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer


class Callback:
    """Told what happens in a run; each method does nothing unless overridden.

    A callback looks and does not touch: the model it is shown is the one in training. What it raises ends
    the run, which can be resumed from its last checkpoint; steps since then are then told of again.

    Example:
        >>> import mechft as mf
        >>> class Steps(mf.Callback):
        ...     seen = []
        ...
        ...     def stepped(self, step, loss):
        ...         self.seen.append(step)
        >>> base, steps = mf.load("pcfg-tiny-low"), Steps()
        >>> ft = mf.finetune(base, "b", steps=3, batch_size=8, evaluation_size=20, callbacks=[steps])
        >>> steps.seen
        [1, 2, 3]
    """

    def began(self, label: str, config: TrainConfig, step: int) -> None:
        """The run begins, or goes on after ``step`` steps."""

    def stepped(self, step: int, loss: float) -> None:
        """The ``step``-th step was taken, from this loss."""

    def evaluated(
        self, step: int, model: HookedTransformer, results: Mapping[str, Proportion]
    ) -> None:
        """The model was measured after ``step`` steps, at a moment of ``config.evaluate_at`` or 0."""

    def ended(self, step: int) -> None:
        """The run is over: done, stopped, interrupted or failed; always called once it began."""


class SaveModels(Callback):
    """Saves the model when it is evaluated, as ``model-000030.safetensors`` after 30 steps.

    Args:
        folder: Where to; made if missing.
        moments: After which steps; by default at every evaluation.
        description: JSON values kept in each file, beside the step.
    """

    def __init__(
        self,
        folder: str | Path,
        moments: Collection[int] | None = None,
        description: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.moments = moments
        self.description = dict(description or {})

    def evaluated(
        self, step: int, model: HookedTransformer, results: Mapping[str, Proportion]
    ) -> None:
        """Write the file, whole or not at all; one of the same step is written anew."""
        if self.moments is not None and step not in self.moments:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        save_checkpoint(model_at(self.folder, step), model, {**self.description, "step": step})


def model_at(folder: str | Path, step: int) -> Path:
    """The file that ``SaveModels`` writes after some steps."""
    return Path(folder) / f"model-{step:06d}.safetensors"
