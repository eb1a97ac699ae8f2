"""What a model answers, and how often it is right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechft.errors import ConfigError, require
from mechft.models.fused import fused_logits, unsupported_features
from mechft.models.hook_points import ModelLike, as_model, device_of, has_hooks
from mechft.statistics import Proportion, proportion
from mechft.tasks.batch import TokenBatch

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

_CHUNK = 128  # rows a forward: bounds memory, and stays in the cache (512 took a third longer)


class NoAnswerError(ConfigError):
    """A model gives no answer: the largest of some row's logits is not a finite number."""


@torch.no_grad()
def answer_logits(model: ModelLike, batch: TokenBatch) -> Float[Tensor, "batch d_vocab"]:
    """Logits at each row's answer position; the answer itself is never shown to the model.

    Takes a HookedTransformer, or a ``Trained`` that holds one. Uses the fused forward, or the model
    itself where hooks are attached or it has other features: an ablation in force is therefore
    always part of what is measured.

    Raises:
        ConfigError: If the batch is empty.
    """
    model = as_model(model)
    require(len(batch) > 0, "A batch needs at least one row; got none.")
    batch = batch.to(device_of(model))
    return torch.cat([last_logits(model, prompt) for prompt in batch.prompt.split(_CHUNK)])


def last_logits(
    model: HookedTransformer, prompt: Int[Tensor, "batch prompt"]
) -> Float[Tensor, "batch d_vocab"]:
    """Logits after a prompt's last token, with a graph where gradients are on.

    By the fused forward, or by the model itself where hooks are attached or it has other features.
    """
    if has_hooks(model) or unsupported_features(model):
        logits: Tensor = model(prompt)
        return logits[:, -1]
    return fused_logits(model, prompt, torch.tensor([prompt.shape[1] - 1]))[:, 0]


def among_candidates(
    logits: Float[Tensor, "batch d_vocab"], batch: TokenBatch
) -> tuple[Float[Tensor, "batch choice"], Int[Tensor, " batch"]]:
    """The logits that rows are answered by, and which of them is the right one's.

    Those of the batch's candidates in their order, or, where it has none, all of them.

    Raises:
        ConfigError: If the right answer is not among a row's candidates, or there twice.
    """
    answer = batch.answer.to(logits.device)
    if batch.candidates is None:
        return logits, answer
    candidates = batch.candidates.to(logits.device)
    right = candidates == answer[:, None]
    wrong = (right.sum(1) != 1).nonzero()
    if len(wrong):
        row = int(wrong[0])
        raise ConfigError(
            "A row's right answer stands once among its candidates; in row "
            f"{row} the answer is {int(answer[row])} and the candidates are {candidates[row].tolist()}."
        )
    return logits.gather(1, candidates), right.int().argmax(1)


def predictions(model: ModelLike, batch: TokenBatch) -> Int[Tensor, " batch"]:
    """The token each row is answered with: the most likely of its candidates, or of the whole vocabulary.

    A row has an answer if its largest logit is finite. Minus infinity beside it rules a token out and is
    fine; NaN anywhere, infinity as the largest (an overflow), or minus infinity everywhere is not.

    Args:
        model: A HookedTransformer, TransformerBridge or ``Trained``.
        batch: Rows; their answers are not looked at, but for standing among the candidates, if there are any.

    Returns:
        Ids in the task's ``answer_vocabulary``, on the CPU.

    Raises:
        NoAnswerError: If a row has no answer. It is a ConfigError.
        ConfigError: If the batch is empty.

    Cost: as ``accuracy``.

    Example:
        >>> import mechft as mf
        >>> base = mf.load("tracr-max")
        >>> rows = base.task.query("max", "5").sample(100, mf.generator(0))
        >>> given = mf.predictions(base, rows)
        >>> given.shape, (given == rows.answer).all().item()
        (torch.Size([100]), True)
    """
    logits, _ = among_candidates(answer_logits(model, batch), batch)
    answers = logits.argmax(-1)
    # argmax takes NaN for the largest of all, so one look a row finds every case.
    failed = ~logits.gather(-1, answers[:, None])[:, 0].isfinite()
    if bool(failed.any()):
        worst = float(logits[failed][0].max())
        raise NoAnswerError(
            f"A row is answered if the largest of its logits is a finite number; in {int(failed.sum())} of "
            f"{len(batch)} rows it is not (the first has {worst}). The model has diverged or overflowed, or "
            "an intervention put in values that are not finite. Use weights from before that."
        )
    if batch.candidates is None:
        return answers
    return batch.candidates.to(answers.device).gather(1, answers[:, None])[:, 0]


def answered_right(model: ModelLike, batch: TokenBatch) -> Bool[Tensor, " batch"]:
    """Which rows are answered right, on the CPU.

    Raises:
        NoAnswerError: As ``predictions``.
    """
    return predictions(model, batch).cpu() == batch.answer.cpu()


def accuracy(model: ModelLike, batch: TokenBatch) -> Proportion:
    """Share of right answers with its 95% Wilson interval over rows.

    Args:
        model: A HookedTransformer, TransformerBridge or ``Trained``.
        batch: Rows with their right answers.

    Raises:
        NoAnswerError: As ``predictions``; logits that are not finite are no wrong answers.

    Cost: one forward to the answer position; at tiny, 1,000 rows take about half a second on 2 cores.

    Example:
        >>> import mechft as mf
        >>> base = mf.load("tracr-max")
        >>> rows = base.task.query("max", "5").sample(100, mf.generator(0))
        >>> found = mf.accuracy(base, rows)
        >>> print(found)
        100.0% [96.3%, 100.0%] (n=100)
        >>> found.value, found.n
        (1.0, 100)
    """
    return proportion(int(answered_right(model, batch).sum()), len(batch))


def commonest_answer(*batches: TokenBatch) -> float:
    """Accuracy of always giving the commonest right answer."""
    answers = torch.cat([batch.answer for batch in batches])
    return float(answers.unique(return_counts=True)[1].max()) / len(answers)
