"""What an intervention is measured by: a number for each row, from the logits that answer it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mechft.errors import ConfigError, require, unknown_name
from mechft.statistics import Estimate, Proportion, mean_estimate, proportion
from mechft.tasks.batch import TokenBatch
from mechft.training.evaluation import among_candidates

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

Logits = Float[Tensor, "row d_vocab"]
MetricFunction = Callable[[Logits, TokenBatch, Logits], Float[Tensor, " row"]]
"""(logits, rows, the untouched model's logits) → a number for each row."""
MetricName = Literal["accuracy", "loss", "logit_diff", "probability", "kl"]
Metric = MetricName | MetricFunction


def _accuracy(logits: Logits, batch: TokenBatch, _: Logits) -> Tensor:
    logits, right = among_candidates(logits, batch)
    return (logits.argmax(-1) == right).float()


def _loss(logits: Logits, batch: TokenBatch, _: Logits) -> Tensor:
    return F.cross_entropy(*among_candidates(logits, batch), reduction="none")


def _logit_diff(logits: Logits, batch: TokenBatch, _: Logits) -> Tensor:
    logits, right = among_candidates(logits, batch)
    others = logits.scatter(1, right[:, None], float("-inf"))
    return logits.gather(1, right[:, None])[:, 0] - others.amax(1)


def _probability(logits: Logits, batch: TokenBatch, _: Logits) -> Tensor:
    logits, right = among_candidates(logits, batch)
    return logits.softmax(-1).gather(1, right[:, None])[:, 0]


def _kl(logits: Logits, _: TokenBatch, untouched: Logits) -> Tensor:
    return F.kl_div(
        logits.log_softmax(-1), untouched.log_softmax(-1), reduction="none", log_target=True
    ).sum(-1)


METRICS: Mapping[str, MetricFunction] = {
    "accuracy": _accuracy,
    "loss": _loss,
    "logit_diff": _logit_diff,
    "probability": _probability,
    "kl": _kl,
}
"""accuracy: 1 where the likeliest token is the answer. loss: cross-entropy of the answer, nats. logit_diff:
the answer's logit minus the largest other. probability: of the answer. kl: KL(untouched ‖ touched), nats.
All but kl look at a batch's candidates alone, where it has any."""


def n_answers(model: HookedTransformer) -> int:
    """How many answers a model chooses between; a compiled program's are not its input tokens."""
    outputs = int(getattr(model.cfg, "d_vocab_out", -1) or -1)
    return outputs if outputs > 0 else int(model.cfg.d_vocab)


def metric_function(metric: Metric) -> tuple[str, MetricFunction]:
    """A metric's name and function, given either.

    Raises:
        UnknownNameError: If the name is not known.
    """
    if callable(metric):
        name = getattr(metric, "__name__", "custom")
        # Intervals go by the name, so a function of the caller's never passes for one of ours.
        return f"{name} (custom)" if name in METRICS else name, metric
    if metric not in METRICS:
        raise unknown_name("metric", metric, METRICS)
    return metric, METRICS[metric]


@torch.no_grad()
def evaluate(
    metric: MetricFunction, logits: Logits, batch: TokenBatch, untouched: Logits
) -> Float[Tensor, " row"]:
    """A metric's values, in float32 at least, on the CPU.

    Raises:
        ConfigError: If the metric gives anything but one number a row.
    """
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits, untouched = logits.float(), untouched.float()
    require(
        not bool(logits.isnan().any()),
        "The model's logits hold NaN; it has diverged, or what was put in is not finite.",
    )
    values = metric(logits, batch, untouched)
    if not isinstance(values, Tensor) or values.shape != (len(batch),):
        shape = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise ConfigError(
            f"A metric gives one number a row, Float['row'] with {len(batch)} rows; got {shape}."
        )
    return values.float().cpu() if values.dtype != torch.float64 else values.cpu()


def summary(values: Float[Tensor, " row"], name: str) -> Estimate | Proportion:
    """The mean over rows with its 95% interval: Wilson's for accuracy, the normal one otherwise."""
    require(len(values) > 0, "A metric needs at least one row; got none.")
    if name == "accuracy":
        return proportion(round(float(values.sum())), len(values))
    return mean_estimate(values)
