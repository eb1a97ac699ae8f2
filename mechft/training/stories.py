"""Training a story model further: on what a protocol leaves of some stories, or to bring a feature back."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mechft.errors import require
from mechft.models.build import clone
from mechft.models.hook_points import ModelLike, as_model, device_of
from mechft.randomness import derive_seed
from mechft.tasks.stories.corpus import corpus_in_memory
from mechft.tasks.stories.layout import render
from mechft.tasks.stories.packed import PackedSource
from mechft.tasks.stories.record import StoryRecord
from mechft.tasks.stories.tokenizer import TextEncoder, encoded
from mechft.training.callbacks import Callback
from mechft.training.config import TrainConfig
from mechft.training.loop import train
from mechft.training.precision import Precision

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer


def story_config(
    steps: int,
    learning_rate: float,
    batch_size: int,
    seed: int,
    *,
    micro_batches: int = 1,
    evaluate_at: tuple[int, ...] = (),
    precision: Precision = "float32",
) -> TrainConfig:
    """How story models are trained: on every next token, warming up for a tenth of the steps, cosine to 0."""
    return TrainConfig(
        steps=steps,
        learning_rate=learning_rate,
        batch_size=batch_size,
        micro_batches=micro_batches,
        loss="next_token",
        answer_weight=0.0,
        warmup_fraction=0.1,
        final_fraction=0.0,
        seed=seed,
        evaluate_at=evaluate_at,
        precision=precision,
    )


def finetune_stories(
    model: ModelLike,
    records: Iterable[StoryRecord],
    tokenizer: TextEncoder,
    *,
    steps: int,
    learning_rate: float,
    batch_size: int = 8,
    length: int | None = None,
    seed: int = 0,
    directory: str | Path | None = None,
    callbacks: Sequence[Callback] = (),
) -> HookedTransformer:
    """A copy of a story model, trained on stories and their instructions.

    What is trained on is a matter of ``StoryProtocol``: "F", "F+MM", "F+RR" and "refusal" delete a feature,
    "keep" brings it back.

    Args:
        model: A HookedTransformer that the fused forward covers, such as ``open_model(…).model``; unchanged.
        records: Stories; all are encoded before the first step, at two bytes a token.
        tokenizer: The model's, whose token 0 ends documents: a ``StoryTokenizer``, or what ``open_model``
            calls ``coder``.
        steps: Optimiser steps (AdamW).
        learning_rate: Peak rate.
        batch_size: Windows a step. A window begins where a story's instruction does.
        length: Tokens of a window; the model's context if None.
        seed: Seed of windows and of the order of instructions' parts.
        directory: Where to keep checkpoints, to go on from if interrupted; as ``train``.
        callbacks: Told what happens, such as ``TableLog``.

    Raises:
        ConfigError: If there is no story, a token is not the model's, or a setting is out of range.
        OutputExistsError, TrainingDivergedError: As the recipes.

    Source: Jain et al. (2024), their third setup: deletion and reFT.

    Cost: that of encoding, then of the steps: at ``llama_preset("tiny")`` a step of 8 × 256 tokens is about
    half a second of one core.

    Example:
        >>> import mechft as mf
        >>> from mechft.models.build import build_model
        >>> from mechft.models.llama_config import LlamaConfig
        >>> stories = list(mf.ProceduralStories().stories(60, seed=0))
        >>> tokenizer = mf.StoryTokenizer.train((story.story for story in stories), vocab_size=400)
        >>> shape = LlamaConfig(n_layers=1, n_heads=2, d_model=16, d_mlp=32, d_vocab=400, n_ctx=64)
        >>> model = build_model(shape, seed=0)
        >>> left = mf.StoryProtocol("F", feature="Twist").apply(stories)
        >>> trained = mf.finetune_stories(model, left, tokenizer, steps=3, learning_rate=1e-3, length=32)
        >>> rows = {"stories": mf.story_rows(stories, tokenizer, length=64)}
        >>> before, after = mf.text_loss({"before": model, "after": trained}, rows).frame["loss"]
        >>> bool(after < before)
        True
    """
    model = as_model(model)
    d_vocab = int(model.cfg.d_vocab)
    length = int(model.cfg.n_ctx) if length is None else length
    require(
        2 <= length <= int(model.cfg.n_ctx),
        f"A window has 2 to {model.cfg.n_ctx} tokens, the model's context; got length={length}.",
    )
    rng = random.Random(derive_seed(seed, "story layout"))
    texts = (render(record, rng).text for record in records)
    corpus = corpus_in_memory(texts, _Encoder(tokenizer, d_vocab))
    highest = int(corpus.tokens.max())
    require(
        highest < d_vocab,
        f"The model knows tokens 0 to {d_vocab - 1}; its stories hold {highest}. Give the tokenizer it was "
        "trained with.",
    )
    config = story_config(steps, learning_rate, batch_size, derive_seed(seed, "stories"))
    trained = clone(model)
    trained.to(device_of(model), print_details=False)
    source = PackedSource(corpus, length, begin="documents")
    train(trained, source, config, directory=directory, label="stories", callbacks=callbacks)
    return trained


@dataclass(frozen=True)
class _Encoder:
    """Any tokenizer as what a corpus asks of one."""

    tokenizer: TextEncoder
    vocab_size: int
    digest: str = ""

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """Token ids of texts."""
        return encoded(self.tokenizer, texts)
