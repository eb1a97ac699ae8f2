"""How far a model's answers moved from the base model's, and on which rows most."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from mechft.analysis.activations import chunks
from mechft.analysis.batches import Data, each_batch
from mechft.analysis.metrics import n_answers
from mechft.analysis.result import Result
from mechft.analysis.streaming.means import MeanFitter, finite_float64
from mechft.errors import require
from mechft.models.hook_points import ModelLike, as_model, device_of
from mechft.statistics import proportion
from mechft.tasks.batch import TokenBatch
from mechft.training.evaluation import answer_logits

if TYPE_CHECKING:
    import pandas as pd
    from transformer_lens import HookedTransformer

_BUDGET = 2**23  # log-probabilities of one model held at once
_MEASURES = (
    "agreement",
    "kl_from_base",
    "kl_to_base",
    "total_variation",
    "base_accuracy",
    "accuracy",
)
_KL = _MEASURES.index("kl_from_base")


@dataclass(frozen=True)
class OutputDiff(Result):
    """How far a model's answers moved from the base model's.

    Columns: model, measure, value, ci_low, ci_high, n (rows of the batch). Measures: agreement (the
    likeliest token is the same), kl_from_base (KL(base ‖ model), nats), kl_to_base (KL(model ‖ base)),
    total_variation (half the sum of |differences|, 0..1), base_accuracy, accuracy (the likeliest token is
    the right one). Means over rows; intervals are 95%: Wilson's for shares at the answer position, normal
    over rows otherwise (with all positions a row counts by its mean: its positions are not independent).

    Attributes:
        examples: What moved most, by kl_from_base. Columns: model, row (its place in the data, from 0),
            position (whose next token is answered), kl_from_base, base_answer, answer, right_answer
            (token ids), base_probability, probability (of the right answer).
    """

    examples: pd.DataFrame = field(repr=False)


def diff_outputs(
    base: ModelLike,
    finetuned: ModelLike,
    data: Data,
    *,
    positions: Literal["answer", "all"] = "answer",
    keep: int = 10,
    name: str = "finetuned",
) -> OutputDiff:
    """Compare what two models answer to the same rows, reading the data once, chunk by chunk.

    Args:
        base, finetuned: Models of the same vocabulary.
        data: Rows to ask.
        positions: "answer": each row's answer. "all": every next token of the whole samples, for
            language data.
        keep: How many of the examples that moved most are kept.
        name: What the frames call the fine-tuned model.

    Raises:
        ConfigError: If vocabularies differ, there is no row, a logit is not finite, or next tokens are
            asked for of a model that predicts none.

    Cost: one forward a model. Memory does not grow with the rows.
    """
    base, finetuned = as_model(base), as_model(finetuned)
    _check_vocabularies(base, finetuned, name)
    require(positions in ("answer", "all"), f'positions is "answer" or "all"; got {positions!r}.')
    if positions == "all":
        _check_next_tokens(base)
    one = n_answers(base)
    require(keep >= 0, f"keep is how many examples are kept, at least 0; got {keep}.")
    means, largest, seen = MeanFitter(), _Largest(keep), 0
    for batch in each_batch(data):
        asked = 1 if positions == "answer" else batch.tokens.shape[1] - 1
        require(asked > 0, "With all positions, samples have at least two tokens; got 1.")
        for chunk in chunks(batch, max(1, min(64, _BUDGET // (asked * one)))):
            p, q = (_log_probabilities(m, chunk, positions) for m in (base, finetuned))
            q, right = q.to(p.device), _right(chunk, positions).to(p.device)
            values = _compare(p, q, right)
            means.update(values.mean(1))
            first = chunk.answer_position if positions == "answer" else 0
            largest.offer(values[..., _KL], p, q, right, (seen, first))
            seen += len(chunk)
    found = means.result()
    rows = []
    for i, measure in enumerate(_MEASURES):
        estimate: Any = found.estimate(i)
        if positions == "answer" and measure in ("agreement", "base_accuracy", "accuracy"):
            estimate = proportion(round(estimate.value * estimate.n), estimate.n)
        rows.append(
            {
                "model": name,
                "measure": measure,
                "value": estimate.value,
                "ci_low": estimate.low,
                "ci_high": estimate.high,
                "n": estimate.n,
            }
        )
    import pandas as pd

    return OutputDiff(pd.DataFrame(rows), largest.frame(name))


def _check_vocabularies(base: HookedTransformer, finetuned: HookedTransformer, name: str) -> None:
    for what, one, two in (
        ("tokens", int(base.cfg.d_vocab), int(finetuned.cfg.d_vocab)),
        ("answers", n_answers(base), n_answers(finetuned)),
    ):
        require(
            one == two,
            f"Models compared share a vocabulary; the base has {one} {what}, {name} {two}.",
        )


def _check_next_tokens(model: HookedTransformer) -> None:
    sees_next = getattr(model.cfg, "attention_dir", "causal") != "causal"
    require(
        not sees_next and n_answers(model) == int(model.cfg.d_vocab),
        'positions="all" compares predictions of each next token, which this model does not make: it '
        "sees the next token, or its answers are not tokens of its input (compiled programs are such "
        'models). Use positions="answer".',
    )


@torch.no_grad()
def _log_probabilities(
    model: HookedTransformer, batch: TokenBatch, positions: str
) -> Float[Tensor, "row asked d_vocab"]:
    if positions == "answer":
        logits = answer_logits(model, batch)[:, None]
    else:
        logits = model(batch.tokens[:, :-1].to(device_of(model)))
    return finite_float64(logits, "The logits").log_softmax(-1)


def _right(batch: TokenBatch, positions: str) -> Int[Tensor, "row asked"]:
    return batch.answer[:, None] if positions == "answer" else batch.tokens[:, 1:]


def _compare(
    p: Float[Tensor, "row asked d_vocab"],
    q: Float[Tensor, "row asked d_vocab"],
    right: Int[Tensor, "row asked"],
) -> Float[Tensor, "row asked measure"]:
    """The measures, in their order; p is the base's. Rounding does not take a KL below 0."""
    one, two = p.argmax(-1), q.argmax(-1)
    found = {
        "agreement": one == two,
        "kl_from_base": F.kl_div(q, p, reduction="none", log_target=True).sum(-1).clamp(min=0),
        "kl_to_base": F.kl_div(p, q, reduction="none", log_target=True).sum(-1).clamp(min=0),
        "total_variation": (p.exp() - q.exp()).abs().sum(-1) / 2,
        "base_accuracy": one == right,
        "accuracy": two == right,
    }
    return torch.stack([found[measure].double() for measure in _MEASURES], -1)


class _Largest:
    """The examples with the largest values so far, in constant memory; of equals the earliest."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._heap: list[tuple[float, tuple[int, int], dict[str, Any]]] = []

    def offer(
        self,
        values: Float[Tensor, "row asked"],
        p: Float[Tensor, "row asked d_vocab"],
        q: Float[Tensor, "row asked d_vocab"],
        right: Int[Tensor, "row asked"],
        start: tuple[int, int],
    ) -> None:
        """Look at a chunk whose first entry has this row and position."""
        best = values.flatten().sort(descending=True, stable=True).indices[: self._keep]
        for index in best.tolist():
            i, j = divmod(index, values.shape[1])
            value, place = float(values[i, j]), (start[0] + i, start[1] + j)
            answer = int(right[i, j])
            entry = {
                "row": place[0],
                "position": place[1],
                "kl_from_base": value,
                "base_answer": int(p[i, j].argmax()),
                "answer": int(q[i, j].argmax()),
                "right_answer": answer,
                "base_probability": float(p[i, j, answer].exp()),
                "probability": float(q[i, j, answer].exp()),
            }
            item = (value, (-place[0], -place[1]), entry)
            if len(self._heap) < self._keep:
                heapq.heappush(self._heap, item)
            else:
                heapq.heappushpop(self._heap, item)

    def frame(self, model: str) -> pd.DataFrame:
        """The examples, the largest first."""
        import pandas as pd

        ordered = sorted(self._heap, key=lambda item: item[:2], reverse=True)
        columns = (
            "model", "row", "position", "kl_from_base", "base_answer", "answer", "right_answer",
            "base_probability", "probability",
        )  # fmt: skip
        return pd.DataFrame([{"model": model, **entry} for *_, entry in ordered], columns=columns)
