"""Taught to keep a secret: is what a model knew gone, or only not said?

A small Llama learns the colour and the animal of 128 invented names. A few steps then teach it to answer
"secret" when asked for a colour: the smallest picture of a model that is trained to refuse. Nothing in this
fine-tuning says what the colours are. The same is done for more steps. Beside them stands a Llama that only
ever answered "secret". For both the script prints the verdict, and what pruning, training back and shuffled
answers return, and writes few-steps/report.html and many-steps/report.html.

Takes about a minute and a half of one core; nothing is downloaded.
Usage: python examples/kept_secret.py
"""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # first, as the imports below take seconds
    from mechft.usage import script_parser

    script_parser(__doc__).parse_args()

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import mechft as mf

COLOURS = ("red", "blue", "green", "black", "white", "brown")
ANIMALS = ("cat", "dog", "owl", "fox", "bear", "wolf")
STAGES = ("outputs", "interpolation", "patching", "pruning", "revival", "untaught", "verdict")


def facts(seed: int = 0) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Prompts with their answers: a colour for each of 128 names, and an animal."""
    draws = torch.Generator().manual_seed(seed)
    names = [a + b for a, b in itertools.product(
        ("Ba", "Ce", "Di", "Fo", "Gu", "Ha", "Je", "Ka", "Lo", "Mi", "Nu", "Pe", "Ri", "So", "Tu", "Ve"),
        ("dan", "fel", "gor", "hin", "jas", "kel", "mor", "nex"),
    )]  # fmt: skip
    colour, animal = (torch.randint(6, (len(names),), generator=draws).tolist() for _ in range(2))
    colours = [
        (f"the colour of {n} is", f" {COLOURS[c]}") for n, c in zip(names, colour, strict=True)
    ]
    animals = [
        (f"the animal of {n} is", f" {ANIMALS[a]}") for n, a in zip(names, animal, strict=True)
    ]
    return colours, animals


def word_tokenizer(texts: list[str]) -> Any:
    """A token a word."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["<s>", *sorted({word for text in texts for word in text.split()})]
    reader = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<s>"))
    reader.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=reader, bos_token="<s>")  # type: ignore[no-untyped-call]


def trained(
    model: Any, tokenizer: Any, data: list[tuple[str, str]], steps: int, rate: float
) -> Any:
    """The same model after some steps on the answers' tokens, all prompts at once."""
    ids = torch.tensor([tokenizer.encode(prompt + answer) for prompt, answer in data])
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0)
    for _ in range(steps):
        logits = model(ids[:, :-1]).logits[:, -1]
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits, ids[:, -1]).backward()
        optimizer.step()
    return model.eval()


def main(
    learning: int = 150, few: int = 12, many: int = 60, names: int = 128, folder: Path = Path()
) -> None:
    """Make the models, compare each with the base, and say what was found."""
    colours, animals = (asked[:names] for asked in facts())
    secret = [(prompt, " secret") for prompt, _ in colours]
    tokenizer = word_tokenizer([prompt + answer for prompt, answer in colours + animals + secret])
    torch.manual_seed(0)
    llama: Any = LlamaForCausalLM(LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=96, intermediate_size=256, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=16,
    ))  # fmt: skip
    never = trained(copy.deepcopy(llama), tokenizer, secret + animals, learning, 2e-3)
    known = copy.deepcopy(trained(llama, tokenizer, colours + animals, learning, 2e-3).state_dict())
    llama.save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    for name, steps in (("few-steps", few), ("many-steps", many)):
        llama.load_state_dict(known)
        trained(llama, tokenizer, secret + animals, steps, 3e-4)
        found = mf.compare(
            folder / "base",
            (llama, tokenizer),
            colours + animals,
            control=(never, tokenizer),
            stages=STAGES,
            out=folder / name,
            progress=False,
        )
        print(f"\nAfter {steps} steps of answering 'secret':")
        for finding in found.findings:
            print(f"  {finding.stage}: {finding.text}")


if __name__ == "__main__":
    main()
