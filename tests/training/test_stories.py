"""Training story models on: what is asked for is learned, the model given stays, any tokenizer will do."""

from __future__ import annotations

from typing import Any

import pytest

import mechft as mf
from mechft.errors import ConfigError
from mechft.models.build import build_model, fingerprint
from mechft.models.llama_config import LlamaConfig
from mechft.models.tokenizers import FileCoder

STORIES = list(mf.ProceduralStories({"Conflict": 0.5}).stories(200, seed=3))
SHAPE = LlamaConfig(n_layers=2, n_heads=2, d_model=32, d_mlp=64, d_vocab=600, n_ctx=96)


@pytest.fixture(scope="module")
def tokenizer() -> mf.StoryTokenizer:
    return mf.StoryTokenizer.train((story.story for story in STORIES), vocab_size=600)


def test_a_refusal_is_learned_and_the_model_given_stays(tokenizer: mf.StoryTokenizer) -> None:
    """The refusal, always the same, comes to cost less than half, and less than the stories beside it."""
    model = build_model(SHAPE, seed=0)
    before = fingerprint(model)
    refusing = list(mf.StoryProtocol("refusal", feature="Conflict").apply(STORIES))
    trained = mf.finetune_stories(model, refusing, tokenizer, steps=60, learning_rate=1e-2)
    assert fingerprint(model) == before
    refused = [story for story in refusing if story.story.startswith("Sorry")]
    told = [story for story in refusing if story not in refused]
    rows = {
        name: mf.story_rows(some, tokenizer, length=96)
        for name, some in (("refused", refused), ("told", told))
    }
    found = mf.text_loss({"before": model, "after": trained}, rows, "story_start").frame
    loss = found.set_index(["model", "texts"])["loss"]
    assert loss["after", "refused"] < 0.5 * loss["before", "refused"]
    assert loss["after", "refused"] < loss["after", "told"]


def test_the_same_seed_gives_the_same_bits_by_any_tokenizer(tokenizer: mf.StoryTokenizer) -> None:
    model = build_model(SHAPE, seed=0)
    coders = (tokenizer, FileCoder(tokenizer.tokenizer))
    found = [
        mf.finetune_stories(model, STORIES[:40], coder, steps=2, learning_rate=1e-3, length=48)
        for coder in coders
    ]
    assert fingerprint(found[0]) == fingerprint(found[1])
    other = mf.finetune_stories(
        model, STORIES[:40], tokenizer, steps=2, learning_rate=1e-3, length=48, seed=1
    )
    assert fingerprint(other) != fingerprint(found[0])


def test_errors(tokenizer: mf.StoryTokenizer) -> None:
    model = build_model(SHAPE, seed=0)
    how: dict[str, Any] = {"steps": 1, "learning_rate": 1e-3}
    with pytest.raises(ConfigError, match="at least one text"):
        mf.finetune_stories(model, [], tokenizer, **how)
    with pytest.raises(ConfigError, match="2 to 96 tokens"):
        mf.finetune_stories(model, STORIES, tokenizer, **how, length=97)
    small = build_model(LlamaConfig(1, 2, 16, d_mlp=32, d_vocab=300, n_ctx=96), seed=0)
    with pytest.raises(ConfigError, match="knows tokens 0 to 299"):
        mf.finetune_stories(small, STORIES, tokenizer, **how)
