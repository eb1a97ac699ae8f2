"""The same rows asked again and again while a model's weights change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mechft.analysis.activations import chunks
from mechft.analysis.batches import Data
from mechft.analysis.metrics import Metric, evaluate, metric_function
from mechft.errors import require
from mechft.models.hook_points import device_of
from mechft.training.evaluation import answer_logits

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

_CHUNK = 128
_ALONE = ("accuracy", "loss", "logit_diff", "probability")  # metrics that need no second model


class TaskMeter:
    """Measures several metrics on several tasks, row by row, for one model after the other.

    Args:
        tasks: Rows to ask, by name.
        metrics: Names or functions, as in ``mechft.analysis.metrics``.

    Raises:
        ConfigError: If there is no task, no metric, no row, or two metrics share a name.
        UnknownNameError: If a metric is not known.
    """

    def __init__(self, tasks: Mapping[str, Data], metrics: Sequence[Metric]) -> None:
        require(
            isinstance(tasks, Mapping) and bool(tasks),
            'Tasks are batches by name, at least one, such as {"count a": batch}; got '
            f"{type(tasks).__name__ if tasks else 'none'}.",
        )
        require(
            len(metrics) > 0 and not isinstance(metrics, str),
            f'Give a list of at least one metric, such as ["loss"]; got {metrics!r}.',
        )
        named = [metric_function(metric) for metric in metrics]
        self.metrics = dict(named)
        require(
            len(self.metrics) == len(named),
            f"Metrics are told apart by name; got {[name for name, _ in named]}.",
        )
        self.tasks = {task: list(chunks(data, _CHUNK)) for task, data in tasks.items()}
        self._reference: dict[str, list[Tensor]] = {}

    @torch.no_grad()
    def refer_to(self, model: HookedTransformer) -> None:
        """Take this model as the untouched one; its logits are kept if a metric asks for them."""
        if any(name not in _ALONE for name in self.metrics):
            self._reference = {
                task: [answer_logits(model, batch) for batch in batches]
                for task, batches in self.tasks.items()
            }

    @torch.no_grad()
    def measure(self, model: HookedTransformer, at: str) -> dict[tuple[str, str], Tensor]:
        """A number for each row, by (task, metric).

        Args:
            model: The model as it is now.
            at: Where the sweep is, for the error.

        Raises:
            ConfigError: If a logit is not finite.
        """
        found: dict[tuple[str, str], Tensor] = {}
        for task, batches in self.tasks.items():
            values: dict[str, list[Tensor]] = {name: [] for name in self.metrics}
            for i, batch in enumerate(batches):
                logits = answer_logits(model, batch)
                require(
                    bool(logits.isfinite().all()),
                    f"Logits are not finite at {at} on {task!r}. Stay closer to the two models, or "
                    "convert both to float32.",
                )
                untouched = self._reference[task][i] if self._reference else logits
                here = batch.to(device_of(model))
                for name, metric in self.metrics.items():
                    values[name].append(evaluate(metric, logits, here, untouched))
            found |= {(task, name): torch.cat(parts) for name, parts in values.items()}
        return found
