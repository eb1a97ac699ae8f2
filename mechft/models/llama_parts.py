"""What makes a HookedTransformer a Llama: a tied unembedding, no biases, Hugging Face's rotary table.

A HookedTransformer has two parameters where a tied model has one, and a bias at every matrix where a Llama
has none. Both are taken out after it is built, so that ``named_parameters`` is the truth: what is counted,
trained, decayed, clipped, hashed, written to checkpoints and stacked into ensembles are a Llama's
parameters, and nothing has to be told what to leave out. (Copying one matrix to the other after each step
would leave the optimiser two; a frozen zero bias would be in all those places.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer


class TiedUnembed(nn.Module):
    """An unembedding whose matrix is the embedding's, transposed; it has no parameter of its own.

    It reads the matrix from the embedding whenever it is asked. So it stays tied in a deep copy, after
    ``to(device)``, in a pickle, and where ``torch.func.functional_call`` lends the embedding another matrix.

    Args:
        embed: The model's embedding; it is not made a submodule, which would name its parameter twice.
        unembed: The unembedding whose place this takes; its hook points are kept.
    """

    def __init__(self, embed: nn.Module, unembed: Any) -> None:
        super().__init__()
        self.cfg = unembed.cfg
        self.hook_in, self.hook_out = unembed.hook_in, unembed.hook_out
        self._source = (embed,)  # in a tuple, where nn.Module does not look for submodules

    @property
    def W_U(self) -> Float[Tensor, "d_model d_vocab"]:
        """The embedding's matrix, transposed: a view of it."""
        matrix: Tensor = self._source[0].W_E.T  # type: ignore[operator, union-attr, assignment]
        return matrix

    def forward(self, residual: Float[Tensor, "batch pos d"]) -> Float[Tensor, "batch pos d_vocab"]:
        """Logits, through the hook points that every unembedding has."""
        logits: Tensor = self.hook_out(self.hook_in(residual) @ self.W_U)
        return logits


def is_tied(model: HookedTransformer) -> bool:
    """Whether a model's unembedding is its embedding."""
    return isinstance(model.unembed, TiedUnembed)


def has_biases(model: HookedTransformer) -> bool:
    """Whether any matrix of a model has a bias that could be trained."""
    blocks: list[Any] = list(model.blocks)
    parts = [model.unembed, *(part for block in blocks for part in (block.attn, block.mlp))]
    return any(name.startswith("b_") for part in parts for name in part._parameters)


def remove_biases_(model: HookedTransformer) -> None:
    """Put zeros in the place of every bias, which TransformerLens adds and nothing can train or write to.

    Buffers that are not saved, each one zero seen many times, so that torch refuses to write to it.
    """
    for module in model.modules():
        for name in [name for name in module._parameters if name.startswith("b_")]:
            bias = module._parameters.pop(name)
            assert bias is not None
            zeros = torch.zeros((), dtype=bias.dtype, device=bias.device).expand(bias.shape)
            module.register_buffer(name, zeros, persistent=False)


def tie_embeddings_(model: HookedTransformer) -> None:
    """Make the embedding the unembedding, transposed; what the unembedding was is lost."""
    unembed: Any = TiedUnembed(model.embed, model.unembed)
    zeros = torch.zeros((), dtype=model.embed.W_E.dtype).expand(model.cfg.d_vocab)
    unembed.register_buffer("b_U", zeros, persistent=False)
    model.unembed = unembed
    model.setup()  # type: ignore[no-untyped-call]  # the module by this name is another one now


def rotary_tables(
    n_ctx: int, d_head: int, base: float
) -> tuple[Float[Tensor, "n_ctx d_head"], Float[Tensor, "n_ctx d_head"]]:
    """Cosines and sines of the angles by which positions turn, with the roundings of Hugging Face's Llama.

    Its inverse frequencies and angles are float32 whatever the model's type; TransformerLens divides by the
    frequency instead, which puts the angle of a late position off by some 1e-5.
    """
    inverse = 1.0 / (base ** (torch.arange(0, d_head, 2, dtype=torch.float32) / d_head))
    angles = torch.arange(n_ctx, dtype=torch.float32)[:, None] * inverse
    angles = torch.cat([angles, angles], -1)  # number j of a head is paired with j + d_head / 2
    return angles.cos(), angles.sin()


def set_rotary_tables_(model: HookedTransformer, base: float) -> None:
    """Give every block ``rotary_tables`` for the whole context."""
    cosines, sines = rotary_tables(int(model.cfg.n_ctx), int(model.cfg.d_head), base)
    blocks: list[Any] = list(model.blocks)
    for block in blocks:
        block.attn.rotary_cos = cosines.to(block.attn.W_Q)
        block.attn.rotary_sin = sines.to(block.attn.W_Q)
