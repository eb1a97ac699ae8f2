"""Llama-style models: what they consist of, that they stay so, and Hugging Face's own answers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mechft.errors import CheckpointError, ConfigError, OutputExistsError, UnknownNameError
from mechft.models.build import ModelConfig, build_model, clone, fingerprint, model_config
from mechft.models.checkpoint import load_checkpoint, read_header, save_checkpoint
from mechft.models.fused import fused_logits
from mechft.models.llama import export_llama, import_llama, to_hugging_face
from mechft.models.llama_config import LLAMA_PRESETS, LlamaConfig, llama_preset
from mechft.models.weights import all_weights
from mechft.randomness import preserved_random_state
from tests.models.llamas import SHAPE, make_llama

TEXT = torch.randint(9, (3, 20), generator=torch.Generator().manual_seed(0))


def weights_of(model: Any) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def test_presets() -> None:
    """The paper's shape and size, and every count by hand."""
    paper = llama_preset("paper")
    assert (paper.n_layers, paper.n_heads, paper.d_model, paper.d_mlp) == (12, 12, 768, 2048)
    assert (paper.d_vocab, paper.n_ctx, paper.tied) == (8192, 1024, True)
    attention, mlp = 4 * 768 * 768, 3 * 768 * 2048
    assert paper.parameter_count == 12 * (attention + mlp + 2 * 768) + 8192 * 768 + 768
    assert round(paper.parameter_count / 1e6) == 91
    assert llama_preset("small").d_mlp == 768 and llama_preset("medium").d_mlp == 1376
    millions = {name: shape.parameter_count / 1e6 for name, shape in LLAMA_PRESETS.items()}
    assert 1 < millions["tiny"] < 2 and 8 < millions["small"] < 9
    assert llama_preset("tiny", d_vocab=100, n_ctx=64).d_vocab == 100
    with pytest.raises(UnknownNameError, match="Did you mean 'tiny'"):
        llama_preset("tinny")


@pytest.mark.parametrize("tied", [True, False])
def test_parameters_are_a_llamas(tied: bool) -> None:
    config = replace(SHAPE, tied=tied)
    model = build_model(config, seed=3)
    names = [name for name, _ in model.named_parameters()]
    assert sum(p.numel() for p in model.parameters()) == config.parameter_count
    assert not [name for name in names if ".b_" in name or "pos" in name]
    assert ("unembed.W_U" in names) != tied
    assert list(all_weights(model)) == names
    assert model_config(model) == config
    assert torch.equal(model.W_U, model.W_E.T) == tied
    assert fingerprint(model) == fingerprint(build_model(config, seed=3))
    assert fingerprint(model) != fingerprint(build_model(config, seed=4))


def test_initial_weights() -> None:
    shape = llama_preset("tiny")
    model = build_model(shape, seed=3)
    for name, p in model.named_parameters():
        kind = name.split(".")[-1]
        if kind.startswith("W_"):
            wanted = shape.initializer_range
            wanted /= 8**0.5 if kind in ("W_O", "W_out") else 1
            assert float(p.detach().std()) == pytest.approx(wanted, rel=0.03)
        else:
            assert kind == "w" and torch.equal(p, torch.ones_like(p))


def test_training_keeps_it_tied_and_without_biases() -> None:
    """Steps through the fused forward; the embedding's gradient is the sum of both uses'."""
    model, untied = make_llama(), make_llama(shape=replace(SHAPE, tied=False))
    with torch.no_grad():
        for name, p in untied.named_parameters():
            p.copy_(model.W_U if name == "unembed.W_U" else model.get_parameter(name))
    for each in (model, untied):
        fused_logits(each, TEXT).square().sum().backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(model.W_E.grad, untied.W_E.grad + untied.W_U.grad.T)  # type: ignore[operator, union-attr]
    before = model.W_E.detach().clone()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        fused_logits(model, TEXT).square().sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert not torch.equal(model.W_E, before) and torch.equal(model.W_U, model.W_E.T)
    blocks: Any = model.blocks
    for block in blocks:
        for bias in (block.attn.b_Q, block.attn.b_O, block.mlp.b_in, block.mlp.b_out):
            assert not bias.any() and not bias.requires_grad
    torch.testing.assert_close(fused_logits(model, TEXT), model(TEXT))


def test_biases_cannot_be_written_to() -> None:
    model: Any = make_llama()
    for bias in (model.blocks[0].attn.b_K, model.unembed.b_U):
        with pytest.raises(RuntimeError, match="single memory location"):
            bias.add_(1)


def test_copies_are_tied_to_themselves() -> None:
    model = make_llama()
    twin = clone(model)
    with torch.no_grad():
        twin.W_E.add_(1)
    assert torch.equal(twin.W_U, twin.W_E.T) and not torch.equal(twin.W_U, model.W_U)
    single = clone(model)
    single.to(torch.float32)
    assert single.W_U.dtype == torch.float32 and torch.equal(single.W_U, single.W_E.T)


def test_hooks_and_cache() -> None:
    """Every hook point of an untied model is there, and the unembedding's work."""
    model, untied = make_llama(), make_llama(shape=replace(SHAPE, tied=False))
    assert model.hook_dict.keys() == untied.hook_dict.keys()
    output, cache = model.run_with_cache(TEXT)
    logits: Any = output
    assert torch.equal(cache["unembed.hook_out"], logits)
    doubled = model.run_with_hooks(TEXT, fwd_hooks=[("unembed.hook_in", lambda x, hook: 2 * x)])
    torch.testing.assert_close(doubled, 2 * logits)


@pytest.mark.parametrize("tied", [True, False])
def test_checkpoints(tied: bool, tmp_path: Path) -> None:
    model = make_llama(shape=replace(SHAPE, tied=tied, eps=1e-6, rotary_base=500.0))
    path = save_checkpoint(tmp_path / "c", model, {"note": 1}, {"x": torch.ones(2)})
    assert read_header(path)["model"]["style"] == "llama"
    found = load_checkpoint(path)
    assert model_config(found.model) == model_config(model)
    assert fingerprint(found.model) == fingerprint(model)
    assert torch.equal(found.model(TEXT), model(TEXT)) and found.extra.keys() == {"x"}


def test_a_checkpoint_of_another_style(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = save_checkpoint(tmp_path / "c", make_llama(), {})
    header = read_header(path)
    header["model"]["style"] = "mamba"
    save_file(load_file(path), tmp_path / "d", {"mechft": json.dumps(header)})
    with pytest.raises(CheckpointError, match="its style is 'mamba'"):
        load_checkpoint(tmp_path / "d")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_heads": 4, "d_model": 12}, "multiple of 2 × n_heads; got 4 heads for width 12"),
        ({"n_layers": 0}, "n_layers must be at least 1"),
        ({"rotary_base": 0.0}, "rotary_base must be positive"),
    ],
)
def test_bad_shapes(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(SHAPE, **change)


def exact_norms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Transformers computes norms in float32 whatever the model's type; here in the model's."""
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    def forward(self: Any, x: Tensor) -> Tensor:
        normed: Tensor = x * torch.rsqrt(x.square().mean(-1, True) + self.variance_epsilon)
        weighted: Tensor = normed * self.weight
        return weighted

    monkeypatch.setattr(LlamaRMSNorm, "forward", forward)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_round_trip(
    tied: bool, dtype: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their logits are ours in both directions, and the weights come back bit for bit."""
    from transformers import LlamaForCausalLM

    shape = replace(SHAPE, tied=tied, n_ctx=200, rotary_base=300.0, eps=1e-3)
    model = make_llama(dtype, shape)
    text = torch.randint(9, (2, 200), generator=torch.Generator().manual_seed(1))
    exact_norms(monkeypatch)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-9
    with torch.no_grad():
        ours = model(text)
        folder = export_llama(model, tmp_path / "hf")
        loaded: Any = LlamaForCausalLM.from_pretrained(folder, dtype=dtype)
        loaded.eval()
        for theirs in (to_hugging_face(model), loaded):
            torch.testing.assert_close(theirs(text).logits, ours, rtol=tolerance, atol=tolerance)
    for source in (folder, str(folder), loaded):
        back = import_llama(source)
        assert model_config(back) == model_config(model)
        assert fingerprint(back) == fingerprint(model)
        assert torch.equal(back(text), ours)


def test_their_own_model_comes_in() -> None:
    """A model that transformers made gives its own logits here, in the hooked and the fused forward."""
    theirs = their_model(intermediate_size=20, rope_theta=777.0, rms_norm_eps=1e-4)
    ours = import_llama(theirs)
    with torch.no_grad():
        wanted = theirs(TEXT).logits
        torch.testing.assert_close(ours(TEXT), wanted, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(fused_logits(ours, TEXT), wanted, rtol=1e-4, atol=1e-4)
    half = import_llama(theirs.to(torch.bfloat16))
    assert half.W_E.dtype == torch.float32
    assert import_llama(theirs, torch.float64).W_E.dtype == torch.float64


def their_model(**settings: Any) -> Any:
    from transformers import LlamaConfig as TheirConfig
    from transformers import LlamaForCausalLM

    shape = {
        "vocab_size": 9, "hidden_size": 16, "intermediate_size": 12, "num_hidden_layers": 2,
        "num_attention_heads": 4, "max_position_embeddings": 32, "initializer_range": 0.3,
    }  # fmt: skip
    with preserved_random_state(0):
        made: Any = LlamaForCausalLM(TheirConfig(**{**shape, **settings}))
    return made.eval()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_key_value_heads": 2}, "num_key_value_heads=2 for 4 heads"),
        ({"attention_bias": True}, "attention_bias=True"),
        ({"mlp_bias": True}, "mlp_bias=True"),
        ({"hidden_act": "gelu"}, "hidden_act='gelu'"),
        ({"head_dim": 8}, "head_dim=8"),
        (
            {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}},
            "rotary positions of type 'linear'",
        ),
    ],
)
def test_other_llamas_are_refused(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    theirs = their_model(**settings)
    theirs.save_pretrained(tmp_path / "hf")
    for source in (theirs, tmp_path / "hf"):
        with pytest.raises(ConfigError, match=f"is not a plain Llama: .*{message}"):
            import_llama(source)


def test_gpt_style_models_have_no_llama_format() -> None:
    with pytest.raises(ConfigError, match="learned positions and LayerNorm"):
        to_hugging_face(build_model(ModelConfig(1, 2, 8, 9, 20)))


def test_folders(tmp_path: Path) -> None:
    """Nothing is overwritten; missing, broken and foreign files are named."""
    from safetensors.torch import load_file, save_file

    model = make_llama(torch.float32)
    folder = export_llama(model, tmp_path / "hf", end_token=0)
    assert json.loads((folder / "config.json").read_text())["eos_token_id"] == 0
    with pytest.raises(OutputExistsError, match="not overwritten"):
        export_llama(model, folder)
    with pytest.raises(CheckpointError, match="no tokenizer at"):
        export_llama(model, tmp_path / "other", tokenizer=tmp_path)
    with pytest.raises(ConfigError, match=r"end_token is a token of the model, 0\.\.8; got 9"):
        export_llama(model, tmp_path / "other", end_token=9)
    assert {path.name for path in tmp_path.iterdir()} == {"hf"}
    with pytest.raises(CheckpointError, match=r"There is no config\.json"):
        import_llama(tmp_path)
    weights = load_file(folder / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    changes: list[tuple[dict[str, Tensor], str]] = [
        ({k: v for k, v in weights.items() if k != name}, f"has no {name}"),
        ({**weights, name: torch.zeros(3, 4)}, rf"{name} has shape \(3, 4\), .* says \(14, 12\)"),
        (
            {**weights, "model.extra": torch.zeros(1)},
            r"1 weights that .* lacks, such as model\.extra",
        ),
        ({**weights, "lm_head.weight": torch.zeros(9, 12)}, "differs from the embedding"),
    ]
    for changed, message in changes:
        save_file(changed, folder / "model.safetensors")
        with pytest.raises((CheckpointError, ConfigError), match=message):
            import_llama(folder)
    (folder / "model.safetensors").write_bytes(b"half")
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        import_llama(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="safetensors only"):
        import_llama(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="is not JSON"):
        import_llama(folder)


def test_several_weight_files(tmp_path: Path) -> None:
    model = make_llama(torch.float32)
    to_hugging_face(model).save_pretrained(tmp_path, max_shard_size="2KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert fingerprint(import_llama(tmp_path)) == fingerprint(model)


def test_a_bridge_loads_it(tmp_path: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformer_lens.model_bridge import TransformerBridge

    words = {"<|endoftext|>": 0, **{f"w{i}": i for i in range(1, 9)}}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<|endoftext|>"))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    model = make_llama(torch.float32)
    folder = export_llama(model, tmp_path / "hf", tokenizer=tmp_path, end_token=0)
    with preserved_random_state():
        bridge: Any = TransformerBridge.boot_transformers(str(folder), device="cpu")
    with torch.no_grad():
        torch.testing.assert_close(bridge(TEXT), model(TEXT), rtol=1e-4, atol=1e-4)
    assert bridge.tokenizer.eos_token_id == 0
    larger = {f"w{i}": i for i in range(12)}
    Tokenizer(WordLevel(larger, unk_token="w0")).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ConfigError, match="has 12 tokens, and the model reads 9"):
        export_llama(model, tmp_path / "other", tokenizer=tmp_path)


def test_the_global_random_state_stays() -> None:
    before = torch.get_rng_state()
    to_hugging_face(build_model(LlamaConfig(1, 1, 4, 5, 6)))
    assert torch.equal(torch.get_rng_state(), before)
