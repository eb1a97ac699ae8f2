"""From a config to a HookedTransformer."""

from __future__ import annotations

import copy
import hashlib
import warnings
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch

from mechft.errors import require, unknown_name
from mechft.models.llama_config import LlamaConfig
from mechft.models.llama_parts import is_tied, remove_biases_, set_rotary_tables_, tie_embeddings_
from mechft.models.weights import is_hooked_transformer
from mechft.randomness import preserved_random_state

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer


Activation = Literal["gelu", "relu"]
Normalization = Literal["LN", "none"]
Attention = Literal["causal", "bidirectional"]


@dataclass(frozen=True)
class ModelConfig:
    """Shape of a transformer with learned positions.

    By default GPT-style, as minGPT: pre-LayerNorm, GELU, causal. Programs compiled by Tracr have no
    normalisation, ReLU, attention to both sides, and heads and outputs of sizes of their own.

    Attributes:
        n_layers: Transformer blocks. Paper: 6.
        n_heads: Attention heads a block; divides ``d_model`` unless ``d_head`` is given. Paper: 6.
        d_model: Width of the residual stream. Paper: 192.
        d_vocab: Tokens in the vocabulary.
        n_ctx: Longest input, in tokens.
        d_mlp: Hidden units of an MLP; 0 means 4 × ``d_model``.
        initializer_range: Standard deviation of the initial weights; minGPT's 0.02 by default.
        d_head: Width of a head's queries, keys and values; 0 means ``d_model`` / ``n_heads``.
        d_vocab_out: Outputs of the unembedding; 0 means ``d_vocab``.
        activation: The MLPs' non-linearity.
        normalization: LayerNorm before attention, MLP and unembedding, or none.
        attention: Whether a position sees only what is before it, or everything.

    Raises:
        ConfigError: If a size is below 1, ``n_heads`` does not divide ``d_model`` where that sets
            ``d_head``, or a choice is not one of those listed.

    Example:
        >>> import mechft as mf
        >>> config = mf.ModelConfig(n_layers=2, n_heads=4, d_model=64, d_vocab=30, n_ctx=41)
        >>> config.d_mlp, config.d_head
        (256, 16)
    """

    n_layers: int
    n_heads: int
    d_model: int
    d_vocab: int
    n_ctx: int
    d_mlp: int = 0
    initializer_range: float = 0.02
    d_head: int = 0
    d_vocab_out: int = 0
    activation: Activation = "gelu"
    normalization: Normalization = "LN"
    attention: Attention = "causal"

    def __post_init__(self) -> None:
        if self.d_mlp == 0:
            object.__setattr__(self, "d_mlp", 4 * self.d_model)
        if self.d_vocab_out == 0:
            object.__setattr__(self, "d_vocab_out", self.d_vocab)
        for name, value in asdict(self).items():
            if isinstance(value, int) and name != "d_head":
                require(value >= 1, f"{name} must be at least 1; got {value}.")
        require(self.initializer_range > 0, "initializer_range must be positive.")
        if self.d_head == 0:
            require(
                self.d_model % self.n_heads == 0,
                f"n_heads must divide d_model; got {self.n_heads} heads for width {self.d_model}.",
            )
            object.__setattr__(self, "d_head", self.d_model // self.n_heads)
        require(self.d_head >= 1, f"d_head must be at least 1; got {self.d_head}.")
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            require(value in choices, f"{name} is one of {', '.join(choices)}; got {value!r}.")


_CHOICES: dict[str, tuple[str, ...]] = {
    "activation": get_args(Activation),
    "normalization": get_args(Normalization),
    "attention": get_args(Attention),
}

PRESETS: dict[str, dict[str, int]] = {
    "tiny": {"n_layers": 3, "n_heads": 4, "d_model": 128},
    "small": {"n_layers": 4, "n_heads": 4, "d_model": 160},
    "paper": {"n_layers": 6, "n_heads": 6, "d_model": 192},
}
"""Model shapes by name: 0.6M, 1.3M and 2.8M parameters. ``paper`` is the paper's minGPT."""


def preset(name: str, d_vocab: int, n_ctx: int) -> ModelConfig:
    """The shape of a preset for a vocabulary and an input length.

    Raises:
        UnknownNameError: If the preset is not known.
    """
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS)
    shape = PRESETS[name]
    return ModelConfig(shape["n_layers"], shape["n_heads"], shape["d_model"], d_vocab, n_ctx)


def build_model(
    config: ModelConfig | LlamaConfig, seed: int = 0, dtype: torch.dtype = torch.float32
) -> HookedTransformer:
    """A freshly initialised HookedTransformer on the CPU; the global random state is left as found.

    Weights are drawn as minGPT draws them: normal with ``initializer_range``, matrices that write to
    the residual stream divided by sqrt(2 × n_layers); biases are zero. A Llama-style model has none, and
    where it is tied no ``unembed.W_U`` among its parameters (``mechft.models.llama_parts``).

    Args:
        config: Its shape and style.
        seed: Seed of the weights; the same seed gives the same bits on the same machine.
        dtype: Type of the parameters.
    """
    model = _empty_model(config, dtype)
    generator = torch.Generator().manual_seed(seed)
    residual_scale = (2 * config.n_layers) ** -0.5
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            kind = name.split(".")[-1]
            if kind.startswith("W_"):
                draw = torch.randn(parameter.shape, generator=generator, dtype=torch.float32)
                scale = residual_scale if kind in ("W_O", "W_out") else 1.0
                parameter.copy_(draw * (config.initializer_range * scale))
    return model


def _empty_model(config: ModelConfig | LlamaConfig, dtype: torch.dtype) -> HookedTransformer:
    """A HookedTransformer of the right shape; its weights are not meant to be used."""
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    style = _llama_style(config) if isinstance(config, LlamaConfig) else _gpt_style(config)
    with preserved_random_state(), warnings.catch_warnings():
        # HookedTransformer goes away in TransformerLens 4; pyproject.toml keeps us below it.
        warnings.filterwarnings("ignore", "HookedTransformer is deprecated", DeprecationWarning)
        cfg = HookedTransformerConfig(
            n_layers=config.n_layers,
            n_heads=config.n_heads,
            d_model=config.d_model,
            d_head=config.d_head,
            d_mlp=config.d_mlp,
            d_vocab=config.d_vocab,
            d_vocab_out=config.d_vocab_out,
            n_ctx=config.n_ctx,
            initializer_range=config.initializer_range,
            init_weights=False,
            device="cpu",
            dtype=dtype,
            **style,
        )
        model = HookedTransformer(cfg)
    if isinstance(config, LlamaConfig):
        remove_biases_(model)
        set_rotary_tables_(model, config.rotary_base)
        if config.tied:
            tie_embeddings_(model)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.zero_()  # uninitialised memory until the caller fills it
    return model


def _gpt_style(config: ModelConfig) -> dict[str, Any]:
    """A ``ModelConfig``'s style in TransformerLens's words."""
    return {
        "act_fn": config.activation,
        "normalization_type": None if config.normalization == "none" else config.normalization,
        "attention_dir": config.attention,
    }


def _llama_style(config: LlamaConfig) -> dict[str, Any]:
    """A ``LlamaConfig``'s style in TransformerLens's words."""
    return {
        "act_fn": "silu",
        "gated_mlp": True,
        "normalization_type": "RMS",
        "final_rms": True,
        "eps": config.eps,
        "positional_embedding_type": "rotary",
        "rotary_dim": config.d_head,
        "rotary_base": config.rotary_base,
        "rotary_adjacent_pairs": False,
        "tie_word_embeddings": config.tied,
    }


def model_config(model: HookedTransformer) -> ModelConfig | LlamaConfig:
    """The config a model was built from; ``build_model`` undoes it, weights aside.

    Raises:
        ConfigError: If its activation or normalisation is one that ``ModelConfig`` does not have.
    """
    cfg: Any = model.cfg
    if cfg.gated_mlp:
        return LlamaConfig(
            n_layers=cfg.n_layers,
            n_heads=cfg.n_heads,
            d_model=cfg.d_model,
            d_vocab=cfg.d_vocab,
            n_ctx=cfg.n_ctx,
            d_mlp=cfg.d_mlp,
            initializer_range=cfg.initializer_range,
            rotary_base=float(cfg.rotary_base),
            eps=cfg.eps,
            tied=is_tied(model),
        )
    return ModelConfig(
        n_layers=cfg.n_layers,
        n_heads=cfg.n_heads,
        d_model=cfg.d_model,
        d_vocab=cfg.d_vocab,
        n_ctx=cfg.n_ctx,
        d_mlp=cfg.d_mlp,
        initializer_range=cfg.initializer_range,
        d_head=cfg.d_head,
        d_vocab_out=cfg.d_vocab_out,
        activation=cfg.act_fn,
        normalization="none" if cfg.normalization_type is None else cfg.normalization_type,
        attention=cfg.attention_dir,
    )


def clone(model: HookedTransformer) -> HookedTransformer:
    """An independent copy: same weights in their own memory, no gradients, no hooks of the caller.

    A TransformerBridge keeps its last activations; with a graph on them it cannot be copied, so then it
    sees one token without gradients first (hooks attached to it run on that).
    """
    try:
        twin = copy.deepcopy(model)
    except RuntimeError:
        if is_hooked_transformer(model):
            raise
        device = next(model.parameters()).device
        with torch.no_grad(), preserved_random_state():
            model(torch.zeros(1, 1, dtype=torch.long, device=device))
        twin = copy.deepcopy(model)
    twin.reset_hooks(including_permanent=True)
    for parameter in twin.parameters():
        parameter.grad = None
    return twin


def fingerprint(model: HookedTransformer) -> str:
    """A short hash of a model's weights: the same weights, the same name."""
    digest = hashlib.blake2b(digest_size=8)
    for name, parameter in model.named_parameters():
        digest.update(name.encode())
        digest.update(parameter.detach().contiguous().cpu().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
