"""RASP programs compiled by Tracr, as HookedTransformers with the same weights.

Tracr (Lindner et al., 2023) compiles a program into a transformer without LayerNorm, with ReLU, whose
residual stream has one named channel for each value of each variable. Its weights are taken over one to
one: every activation is Tracr's own, under TransformerLens's names.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch

from mechft.errors import ConfigError, require
from mechft.models.build import ModelConfig, _empty_model
from mechft.models.channels import attach_labels_
from mechft.models.compiled import BOS, PAD, CompiledProgram, Value, check_values

if TYPE_CHECKING:
    from types import ModuleType

    from tracr.compiler.assemble import AssembledTransformerModel
    from tracr.rasp import rasp
    from transformer_lens import HookedTransformer

_RESERVED = ("tokens", "indices", "one")  # the names of channels that belong to no step


def rasp_module() -> ModuleType:
    """Tracr's RASP language, ``tracr.rasp.rasp``.

    Raises:
        ConfigError: If Tracr is not installed; names the command.
    """
    try:
        from tracr.rasp import rasp
    except ImportError as error:
        raise ConfigError(
            f"Compiling RASP programs needs Tracr and jax, which are not installed ({error}): pip install "
            '"mechft[tracr]". Programs compiled before load without them: CompiledProgram.load(path).'
        ) from error
    module: ModuleType = rasp
    return module


def compile_program(
    program: rasp.SOp,
    vocabulary: Iterable[Value],
    length: int,
    *,
    name: str = "program",
    causal: bool = False,
    exactness: int = 100,
) -> CompiledProgram:
    """A RASP program as a HookedTransformer that computes what the program says.

    Args:
        program: Any program Tracr can compile: ``mechft.models.rasp_programs`` or the user's own.
        vocabulary: The values a string may be made of; a string gives its letters.
        length: Letters of the longest string; the model takes one position more, for ``BOS``.
        name: What tables and figures call it.
        exactness: How steep the steps are by which MLPs tell numbers apart (Tracr's ``mlp_exactness`` and
            its default). A selector width of c comes out right where c (c + 1) is below it: with 100 up
            to 9, and ``length * (length + 1) + 1`` makes all right, at the price of weights as large.
        causal: Compile for attention to the past only. The program then means what Tracr's causal
            evaluation of it gives.

    The same program gives the same bits, whatever was compiled before. Where a program's own evaluation
    gives None (nothing selected, without a default) the model's output is undefined.

    Raises:
        ConfigError: If Tracr is not installed or cannot compile the program (its reason is given), the
            program is its input alone, the vocabulary is no collection, is empty or holds ``BOS`` or ``PAD``,
            ``length`` is below 1, or a value cannot be decoded.

    Cost: about 4 s on one core for the Counter of 46 letters as the first program of a process, and 2 s
    for the Max-identifier after it.

    Example:
        >>> import mechft as mf
        >>> from mechft.models.rasp_programs import counter_program
        >>> counter = mf.compile_program(counter_program("a"), "abc", length=4, name="counter")
        >>> counter.run("abca")
        ['$', 2, 2, 2, 2]
    """
    rasp = rasp_module()
    require(
        isinstance(vocabulary, Iterable),
        f"The vocabulary is a collection of values, or a string of letters; got {vocabulary!r}.",
    )
    values = list(vocabulary)
    check_values(values, "input")
    values = list(dict.fromkeys(values))
    require(
        isinstance(program, rasp.SOp),
        f"A RASP program is a tracr.rasp.rasp.SOp; got {type(program).__name__}.",
    )
    # Tracr fails at these with "min() arg is an empty sequence": a model of no block at all.
    require(
        not isinstance(program, (type(rasp.tokens), type(rasp.indices))),
        f"A program has at least one step; rasp.{program} alone is an input. The program that gives its "
        "input out as it is: rasp.Map(lambda token: token, rasp.tokens).",
    )
    require(
        isinstance(length, int) and length >= 1,
        f"length, in letters, must be at least 1; got {length!r}.",
    )
    require(len(values) >= 1, "The vocabulary holds at least one value; got none.")
    taken = [value for value in (BOS, PAD) if value in values]
    require(
        not taken,
        f"The compiler keeps {BOS!r} and {PAD!r} for itself; the vocabulary holds {taken}. Give those "
        "letters another name.",
    )
    require(
        isinstance(exactness, int) and exactness >= 1,
        f"exactness is a whole number, at least 1; got {exactness!r}.",
    )
    program, names = _numbered(program)
    assembled = _compile(program, set(values), length, causal, exactness, name)
    encodings = assembled.input_encoder, assembled.output_encoder
    inputs, outputs = (tuple(getattr(e, "encoding_map", ())) for e in encodings)
    check_values(outputs, "output")
    model = _converted(assembled, len(inputs), length, causal)
    attach_labels_(model, _clean(assembled.residual_labels, names))
    return CompiledProgram(model, inputs, outputs, name)


def _numbered(program: rasp.SOp) -> tuple[rasp.SOp, dict[str, str]]:
    """A copy of a program whose steps are numbered from 1, and its steps' names by Tracr's labels.

    Tracr numbers steps as they are looked at in a process, and orders channels by these labels: without
    this, channels would be ordered by what was compiled before.
    """
    program = copy.deepcopy(program)
    names: dict[str, str] = {}
    seen: set[int] = set()
    waiting: list[Any] = [program]
    while waiting:
        step = waiting.pop()
        if id(step) not in seen:
            seen.add(id(step))
            step.unique_id = len(seen)
            names[step.label] = step.name
            waiting.extend(reversed(step.children))
    return program, names


def _compile(
    program: rasp.SOp,
    vocabulary: set[Value],
    length: int,
    causal: bool,
    exactness: int,
    name: str,
) -> AssembledTransformerModel:
    import jax
    from tracr.compiler import compiling

    try:
        with jax.default_device(jax.devices("cpu")[0]):
            return compiling.compile_rasp_to_model(
                program,
                vocabulary,
                length,
                causal=causal,
                compiler_bos=BOS,
                compiler_pad=PAD,
                mlp_exactness=exactness,
            )
    # Tracr calls the program's own functions, so that anything may come out of it.
    except Exception as error:
        raise ConfigError(
            f"Tracr cannot compile {name}: {type(error).__name__}: {error} Rewrite that step; "
            "tracr.compiler.validating.validate(program) lists steps it does not support."
        ) from error


def _converted(
    assembled: AssembledTransformerModel, d_vocab: int, length: int, causal: bool
) -> HookedTransformer:
    """A HookedTransformer with the weights of Tracr's model."""
    weights = {
        f"{module}/{kind}": torch.tensor(_array(value))
        for module, values in assembled.params.items()
        for kind, value in values.items()
    }
    unembedding = _unembedding(assembled)
    shape = assembled.model_config
    config = ModelConfig(
        n_layers=shape.num_layers,
        n_heads=shape.num_heads,
        d_model=len(assembled.residual_labels),
        d_vocab=d_vocab,
        n_ctx=length + 1,
        d_mlp=shape.mlp_hidden_size,
        d_head=shape.key_size,
        d_vocab_out=unembedding.shape[1],
        activation="relu",
        normalization="none",
        attention="causal" if causal else "bidirectional",
    )
    model = _empty_model(config, torch.float32)
    heads = (config.n_heads, config.d_head)
    parameters = {
        "embed.W_E": weights["token_embed/embeddings"],
        "pos_embed.W_pos": weights["pos_embed/embeddings"],
        "unembed.W_U": unembedding,
    }
    for i in range(config.n_layers):
        ours, theirs = f"blocks.{i}", f"transformer/layer_{i}"
        for kind, module in (("Q", "query"), ("K", "key"), ("V", "value")):
            weight = weights[f"{theirs}/attn/{module}/w"]  # [d_model, head * d_head]
            parameters[f"{ours}.attn.W_{kind}"] = weight.unflatten(1, heads).transpose(0, 1)
            parameters[f"{ours}.attn.b_{kind}"] = weights[f"{theirs}/attn/{module}/b"].view(heads)
        parameters |= {
            f"{ours}.attn.W_O": weights[f"{theirs}/attn/linear/w"].unflatten(0, heads),
            f"{ours}.attn.b_O": weights[f"{theirs}/attn/linear/b"],
            f"{ours}.mlp.W_in": weights[f"{theirs}/mlp/linear_1/w"],
            f"{ours}.mlp.b_in": weights[f"{theirs}/mlp/linear_1/b"],
            f"{ours}.mlp.W_out": weights[f"{theirs}/mlp/linear_2/w"],
            f"{ours}.mlp.b_out": weights[f"{theirs}/mlp/linear_2/b"],
        }
    # Strict: a name or a shape that does not fit is an error. The rest are masks.
    model.load_state_dict({**model.state_dict(), **parameters})
    return model


def _array(value: Any) -> Any:
    import numpy as np

    return np.array(value)  # a copy torch may write to


def _unembedding(assembled: AssembledTransformerModel) -> torch.Tensor:
    """What Tracr's unembedding does to each channel. Float["d_model d_vocab_out"]"""
    import haiku as hk
    import jax
    import numpy as np

    def unembed(resid: Any) -> Any:
        return assembled.get_compiled_model().unembed(resid, use_unembed_argmax=False)

    d_model = len(assembled.residual_labels)
    with jax.default_device(jax.devices("cpu")[0]):
        forward = hk.without_apply_rng(hk.transform(unembed)).apply
        rows = forward(assembled.params, np.eye(d_model, dtype=np.float32))
    return torch.tensor(_array(rows)).view(d_model, -1)


def _clean(labels: list[str], names: dict[str, str]) -> tuple[str, ...]:
    """Tracr's labels with the steps' numbers left out where their names do without.

    Args:
        labels: As Tracr gives them: "count_3:2" is value 2 of the step "count", third of the program.
        names: Each step's name by its label ("count_3" → "count").
    """
    uses = Counter([*_RESERVED, *(name for label, name in names.items() if label != name)])
    cleaned = []
    for label in labels:
        owners = [o for o in names if label == o or label.startswith((f"{o}:", f"{o}_"))]
        owner = max(owners, key=len, default="")
        kept = names[owner] if owner and uses[names[owner]] == 1 else owner
        cleaned.append(kept + label[len(owner) :])
    twice = sorted(label for label, n in Counter(cleaned).items() if n > 1)
    require(
        not twice,
        f"Values of one step that print alike cannot be told apart: {twice[:3]}. Use values of one type.",
    )
    return tuple(cleaned)
