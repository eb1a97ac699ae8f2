"""The shape of a Llama-style model, and its presets."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from mechft.errors import require, unknown_name


@dataclass(frozen=True)
class LlamaConfig:
    """Shape of a Llama-style transformer: RMSNorm, rotary positions, SwiGLU, no biases.

    A class of its own beside ``ModelConfig``: what says which run or bundled model is which holds all fields
    of a ``ModelConfig``, so that one more field there would make every earlier run another one.

    Attributes:
        n_layers: Transformer blocks. Paper: 12.
        n_heads: Attention heads a block; divides ``d_model`` into parts of even width. Paper: 12.
        d_model: Width of the residual stream. Paper: 768.
        d_vocab: Tokens in the vocabulary. Paper: 8,192.
        n_ctx: Longest input, in tokens. Paper: 1,024.
        d_mlp: Hidden units of an MLP; 0 means 8/3 × ``d_model`` rounded up to a multiple of 32, which gives a
            gated MLP's three matrices the size of two with 4 × ``d_model``. Paper: 2,048.
        initializer_range: Standard deviation of the initial weights.
        rotary_base: The rotary embedding's slowest pair turns about once in 2π × this many tokens.
        eps: What RMSNorm adds to the mean square.
        tied: Whether the unembedding is the embedding, transposed: one matrix, trained by both.

    Raises:
        ConfigError: If a size is below 1, or the heads do not divide the width into even parts.
    """

    n_layers: int
    n_heads: int
    d_model: int
    d_vocab: int
    n_ctx: int
    d_mlp: int = 0
    initializer_range: float = 0.02
    rotary_base: float = 10_000.0
    eps: float = 1e-5
    tied: bool = True

    def __post_init__(self) -> None:
        if self.d_mlp == 0:
            object.__setattr__(self, "d_mlp", -(-8 * self.d_model // (3 * 32)) * 32)
        for name, value in asdict(self).items():
            if isinstance(value, int) and name != "tied":
                require(value >= 1, f"{name} must be at least 1; got {value}.")
        for name in ("initializer_range", "rotary_base", "eps"):
            value = getattr(self, name)
            require(value > 0, f"{name} must be positive; got {value}.")
        require(
            self.d_model % (2 * self.n_heads) == 0,
            "Rotary positions turn pairs of a head's numbers, so d_model is a multiple of 2 × n_heads; got "
            f"{self.n_heads} heads for width {self.d_model}.",
        )

    @property
    def d_head(self) -> int:
        """Width of a head's queries, keys and values."""
        return self.d_model // self.n_heads

    @property
    def d_vocab_out(self) -> int:
        """Outputs of the unembedding: the vocabulary."""
        return self.d_vocab

    @property
    def parameter_count(self) -> int:
        """How many numbers are trained; a tied matrix counts once."""
        block = 4 * self.d_model**2 + 3 * self.d_model * self.d_mlp + 2 * self.d_model
        embeddings = (1 if self.tied else 2) * self.d_vocab * self.d_model
        return self.n_layers * block + embeddings + self.d_model


LLAMA_PRESETS: dict[str, LlamaConfig] = {
    "tiny": LlamaConfig(4, 4, 128, d_vocab=2048, n_ctx=256, initializer_range=0.06),
    "small": LlamaConfig(6, 6, 288, d_vocab=8192, n_ctx=512),
    "medium": LlamaConfig(8, 8, 512, d_vocab=8192, n_ctx=1024),
    "paper": LlamaConfig(12, 12, 768, d_vocab=8192, n_ctx=1024),
}
"""Models for stories by name: 1.1M, 8.3M, 29.5M and 91.2M parameters. ``paper`` is the paper's model, and
``small`` and ``medium`` have the shapes of its smaller ones. Tiny's initial weights are larger than usual,
with which its loss falls sooner."""


def llama_preset(name: str, d_vocab: int | None = None, n_ctx: int | None = None) -> LlamaConfig:
    """A preset's shape, with another vocabulary or input length if given.

    Raises:
        UnknownNameError: If the preset is not known.
    """
    if name not in LLAMA_PRESETS:
        raise unknown_name("preset", name, LLAMA_PRESETS)
    shape = LLAMA_PRESETS[name]
    return replace(
        shape,
        d_vocab=shape.d_vocab if d_vocab is None else d_vocab,
        n_ctx=shape.n_ctx if n_ctx is None else n_ctx,
    )
