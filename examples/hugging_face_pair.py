"""The same analyses on a pair of Hugging Face models: any two of one architecture.

Here two small Llamas are made from a config, so that nothing is downloaded, and the second is given a
known edit; put ``TransformerBridge.boot_transformers(folder)`` of your own base and fine-tuned model in
their place, and token ids of your own prompts and answers. Takes some seconds.
Usage: python examples/hugging_face_pair.py
"""

from __future__ import annotations

import tempfile
from typing import Any

if __name__ == "__main__":  # first, as the imports below take seconds
    from mechft.usage import script_parser

    script_parser(__doc__).parse_args()

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from mechft.analysis.ablation_comparison import compare_ablations
from mechft.analysis.output_diff import diff_outputs
from mechft.analysis.patching import patch_across
from mechft.analysis.weight_diff import diff_weights
from mechft.models.build import clone
from mechft.models.weights import block_matrices
from mechft.tasks.batch import TokenBatch


def small_llama() -> Any:
    """A bridge around a random Llama of four heads that share two key heads."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformer_lens.model_bridge import TransformerBridge

    torch.manual_seed(0)
    model: Any = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=100, hidden_size=32, intermediate_size=64, num_hidden_layers=3,
            num_attention_heads=4, num_key_value_heads=2, initializer_range=0.3,
        )
    )  # fmt: skip
    words = {str(i): i for i in range(100)}
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=Tokenizer(WordLevel(words, unk_token="0")), bos_token="1", eos_token="2"
    )
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return TransformerBridge.boot_transformers(folder, hf_model=model.eval(), device="cpu")


def main(rows: int = 200) -> None:
    """Edit one MLP of a copy, and let the analyses find it."""
    base = small_llama()
    finetuned = clone(base)
    with torch.no_grad():
        block_matrices(finetuned)["blocks.1.mlp.W_out"].tensor.mul_(-3)

    tokens = torch.randint(3, 100, (rows, 12), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():  # the base's own answers pass for the right ones
        tokens[:, -1] = base(tokens[:, :-1])[:, -1].argmax(-1)
    batch = TokenBatch(tokens, answer_position=10, answer=tokens[:, -1])

    print("How often do they answer alike?")
    print(
        diff_outputs(base, finetuned, batch)
        .frame[["measure", "value", "ci_low", "ci_high"]]
        .to_string(index=False)
    )
    print("\nWhich weights moved?")
    print(
        diff_weights(base, finetuned)
        .by_component()
        .nlargest(3, "relative_change")
        .to_string(index=False)
    )
    print("\nWhose activation brings the answers back?")
    patched = patch_across(base, finetuned, batch, ("attn_out", "mlp_out"))
    print(
        patched.frame[
            ["direction", "site", "recovered", "recovered_low", "recovered_high"]
        ].to_string(index=False)
    )
    print("\nWhich MLPs matter more or less than before?")
    print(
        compare_ablations(base, finetuned, batch, "mlp_out")
        .frame[["sites", "verdict", "n"]]
        .to_string(index=False)
    )


if __name__ == "__main__":
    main()
