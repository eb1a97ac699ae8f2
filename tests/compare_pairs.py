"""Pairs of models for tests of comparisons: copies with a known edit, and small Hugging Face fine-tunes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mechft.models.build import clone
from mechft.models.weights import block_matrices
from mechft.randomness import preserved_random_state
from mechft.tasks.batch import TokenBatch
from mechft.training.evaluation import predictions

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

WORDS = ("<s>", *"abcdefghijklmnopqrstuvwxyz", "=")
_SHAPE = {
    "vocab_size": len(WORDS), "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 24,
}  # fmt: skip
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", _SHAPE),
    "qwen2": ("Qwen2ForCausalLM", _SHAPE),
}


def own_answers(
    model: HookedTransformer, rows: int = 64, length: int = 10, seed: int = 0
) -> TokenBatch:
    """Random prompts, with what the model says to them as the right answers."""
    draws = torch.Generator().manual_seed(seed)
    tokens = torch.randint(int(model.cfg.d_vocab), (rows, length), generator=draws)
    batch = TokenBatch(tokens, length - 2, tokens[:, -1])
    return replace(batch, answer=predictions(model, batch))


def edited(model: HookedTransformer, weight: str, head: int | None = None) -> HookedTransformer:
    """A copy with one weight, or one head of it, turned round and made larger."""
    twin = clone(model)
    tensor = block_matrices(twin)[weight].tensor
    with torch.no_grad():
        (tensor if head is None else tensor[head]).mul_(-3)
    return twin


def sums(shift: int) -> list[tuple[str, str]]:
    """Prompts of two letters, and the letter that stands ``shift`` behind the first."""
    letters = WORDS[1:-1]
    return [
        (f"{a} {b} =", f" {letters[(i + shift) % 26]}")
        for i, a in enumerate(letters)
        for b in letters[:3]
    ]


def hugging_face_pair(kind: str, folder: Path, steps: int = 25) -> tuple[Path, Path]:
    """Folders of a small model made from a config, and of the same after some steps on ``sums(2)``.

    The base has had as many on ``sums(1)``. Both have a tokenizer whose tokens are words.
    """
    import transformers
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers.models import WordLevel

    words = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<s>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>")  # type: ignore[no-untyped-call]
    name, shape = SHAPES[kind]
    made = getattr(transformers, name)
    with preserved_random_state(0):
        model = made(made.config_class(**shape, bos_token_id=0, eos_token_id=0, pad_token_id=0))
        for place, shift in (("base", 1), ("finetuned", 2)):
            _train(model, sums(shift), steps)
            model.save_pretrained(folder / place)
            tokenizer.save_pretrained(folder / place)
    return folder / "base", folder / "finetuned"


def _train(model: Any, data: list[tuple[str, str]], steps: int) -> None:
    ids = torch.tensor(
        [[WORDS.index(w) for w in (prompt + answer).split()] for prompt, answer in data]
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-2, weight_decay=0.0)
    for _ in range(steps):
        logits = model(ids[:, :-1]).logits[:, -1]
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits, ids[:, -1]).backward()
        optimizer.step()
    model.eval()
