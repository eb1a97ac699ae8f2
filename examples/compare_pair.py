"""Your own pair of models on your own data: one call, and a report.

Here the pair is a small GPT-2 made from a config and a copy of it, trained for some steps to answer sums with
a number too large by one; nothing is downloaded. Put the folders of your own base and fine-tuned model (or
LoRA adapter), and your own prompts, in their place. Takes about a minute and writes comparison/report.html.
Usage: python examples/compare_pair.py
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # first, as the imports below take seconds
    from mechft.usage import script_parser

    script_parser(__doc__).parse_args()

import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

import mechft as mf

WORDS = ["<s>", *map(str, range(20)), "+", "="]


def sums(numbers: int, larger_by: int) -> list[tuple[str, str]]:
    """Prompts with the answer they should get."""
    return [
        (f"{a} + {b} =", f" {a + b + larger_by}")
        for a, b in itertools.product(range(numbers), repeat=2)
    ]


def trained(model: Any, data: list[tuple[str, str]], steps: int) -> Any:
    """The same model after some steps on the last word of each sum."""
    ids = torch.tensor(
        [[WORDS.index(w) for w in (prompt + answer).split()] for prompt, answer in data]
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    for _ in range(steps):
        logits = model(ids[:, :-1]).logits[:, -1]
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits, ids[:, -1]).backward()
        optimizer.step()
    return model.eval()


def main(steps: int = 150, numbers: int = 9, folder: Path = Path()) -> None:
    """Make the pair, compare it, and say what was found."""
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers.models import WordLevel

    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(WORDS), n_positions=16, n_embd=64, n_layer=2, n_head=4,
        bos_token_id=0, eos_token_id=0, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    words = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<s>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>")  # type: ignore[no-untyped-call]
    model: Any = GPT2LMHeadModel(config)
    for name, larger_by in (("base", 0), ("finetuned", 1)):
        trained(model, sums(numbers, larger_by), steps).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)

    found = mf.compare(
        folder / "base", folder / "finetuned", sums(numbers, larger_by=0), out=folder / "comparison"
    )
    print(found)
    print(found.moved_most.head(3).to_string(index=False))
    mf.plot(found.results["patching"]).write_html(folder / "patching.html", include_plotlyjs=True)


if __name__ == "__main__":
    main()
