"""Whatever holds a model is opened as the model it is, and stays as it was."""

from __future__ import annotations

import copy
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor

from mechft.errors import CheckpointError, ConfigError, UnknownNameError
from mechft.models.build import fingerprint
from mechft.models.checkpoint import save_checkpoint
from mechft.models.opening import Opened, open_model
from mechft.models.weights import block_matrices
from mechft.randomness import preserved_random_state
from mechft.training.trained import Trained, load, save

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

SIZE = 40
TEXT = torch.randint(SIZE, (2, 11), generator=torch.Generator().manual_seed(0))
SHAPE = {
    "vocab_size": SIZE, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 32,
}  # fmt: skip
GPT2 = {"vocab_size": SIZE, "n_positions": 32, "n_embd": 16, "n_layer": 2, "n_head": 2}
NEOX = {name: size for name, size in SHAPE.items() if name != "num_key_value_heads"}
HEAD = {"head_dim": 8}  # not hidden_size / heads
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2LMHeadModel", GPT2),
    "llama": ("LlamaForCausalLM", SHAPE),
    "qwen2": ("Qwen2ForCausalLM", SHAPE),
    "qwen3": ("Qwen3ForCausalLM", {**SHAPE, **HEAD}),
    "gemma": ("GemmaForCausalLM", {**SHAPE, **HEAD}),
    "gemma2": ("Gemma2ForCausalLM", {**SHAPE, **HEAD, "sliding_window": 4}),
    "neox": ("GPTNeoXForCausalLM", NEOX),
}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here may go to the network."""

    def refuse(*_: object) -> None:
        raise AssertionError("something went to the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def their_model(kind: str, seed: int = 0, **settings: Any) -> Any:
    """A small Hugging Face model with no weight at its starting value."""
    import transformers

    name, shape = KINDS[kind]
    made = getattr(transformers, name)
    with preserved_random_state(seed), torch.no_grad():
        model = made(made.config_class(**{**shape, **settings})).eval()
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


@torch.no_grad()
def logits(model: Any) -> Tensor:
    """Of ``TEXT``, by a model of any kind."""
    found = model(TEXT)
    answer: Tensor = getattr(found, "logits", found)
    return answer


def same(opened: Opened, wanted: Tensor) -> None:
    torch.testing.assert_close(logits(opened.model), wanted, rtol=1e-4, atol=1e-4)


def state(model: Any) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def unchanged(model: Any, before: dict[str, Tensor]) -> bool:
    now = model.state_dict()
    return now.keys() == before.keys() and all(torch.equal(now[k], before[k]) for k in before)


def tokenizer(begin: bool = False) -> Any:
    """A tokenizer of forty words; with ``begin`` it puts token 1 first."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"w{i}": i for i in range(3, SIZE)}
    inner = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if begin:
        inner.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_hugging_face_models_answer_as_before(kind: str, tmp_path: Path) -> None:
    """From a folder without a tokenizer and from memory; the object given is as it was."""
    theirs = their_model(kind)
    wanted, before = logits(theirs), state(theirs)
    theirs.save_pretrained(tmp_path / "mine")
    folder = open_model(tmp_path / "mine")
    assert (folder.name, folder.kind, folder.n_ctx) == ("mine", "Hugging Face folder", 32)
    assert folder.coder is None and folder.first_token is None
    same(folder, wanted)
    seen: list[object] = []
    theirs.train()
    handle = theirs.get_input_embeddings().register_forward_hook(lambda *a: seen.append(a))
    classes = [type(module) for module in theirs.modules()]
    loaded = open_model(theirs)
    same(loaded, wanted)
    assert (loaded.name, loaded.kind) == (KINDS[kind][0], "Hugging Face model")
    assert not seen and theirs.training and [type(m) for m in theirs.modules()] == classes
    handle.remove()
    block_matrices(loaded.model)["blocks.0.mlp.W_out"].tensor.zero_()  # type: ignore[arg-type]
    assert unchanged(theirs, before) and torch.equal(logits(theirs.eval()), wanted)
    assert not torch.allclose(logits(loaded.model), wanted)
    same(folder, wanted)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_it_can_be_looked_into(kind: str) -> None:
    """Patterns, heads and neurons are there, and gradients reach frozen weights too."""
    theirs = their_model(kind)
    theirs.requires_grad_(False)
    model: Any = open_model(theirs).model
    _, cache = model.run_with_cache(TEXT)
    heads = model.cfg.n_heads
    assert cache["blocks.1.attn.hook_pattern"].shape == (2, heads, 11, 11)
    assert cache["blocks.1.attn.hook_z"].shape == (2, 11, heads, 16 // heads)
    assert "blocks.0.mlp.hook_post" in cache and "blocks.1.hook_resid_post" in cache
    model(TEXT).square().sum().backward()
    weight = block_matrices(model)["blocks.0.attn.W_Q"]
    assert weight.parameter.grad is not None and bool(weight.parameter.grad.any())


def test_what_is_opened_twice_is_separate(tmp_path: Path) -> None:
    theirs = their_model("llama")
    theirs.save_pretrained(tmp_path)
    first, second = open_model(tmp_path), open_model(tmp_path)
    with torch.no_grad():
        for parameter in first.model.parameters():  # type: ignore[union-attr]
            parameter.zero_()
    same(second, logits(theirs))
    same(open_model(tmp_path), logits(theirs))


def test_types_on_disk(tmp_path: Path) -> None:
    exact = their_model("llama")
    for parameter in exact.parameters():  # ``to`` would round the rotary frequencies as well
        parameter.data = parameter.data.bfloat16().float()
    copy.deepcopy(exact).to(torch.bfloat16).save_pretrained(tmp_path)
    same(open_model(tmp_path), logits(exact))
    half: Any = open_model(tmp_path, dtype=torch.bfloat16, name="half")
    assert half.name == "half"
    assert {p.dtype for p in half.model.parameters()} == {torch.bfloat16}
    double: Any = open_model(exact, dtype=torch.float64).model
    assert double(TEXT).dtype == torch.float64 and logits(exact).dtype == torch.float32


@pytest.mark.parametrize("begin", [False, True])
def test_tokenizers(begin: bool, tmp_path: Path) -> None:
    theirs = their_model("llama")
    theirs.save_pretrained(tmp_path)
    tokenizer(begin).save_pretrained(tmp_path)
    for opened in (open_model(tmp_path), open_model((theirs, tokenizer(begin)))):
        assert opened.first_token == (1 if begin else None)
        assert opened.coder is not None
        assert opened.coder.encode("w7 w30 </s>") == [7, 30, 2]
        assert opened.coder.decode([7, 30, 2]) == "w7 w30 </s>"
    inner = open_model((theirs, tokenizer(begin).backend_tokenizer))
    assert inner.first_token == (1 if begin else None)
    assert inner.coder is not None and inner.coder.encode("w7") == [7]
    assert inner.coder.decode([2, 7]) == "</s> w7"
    cutting = tokenizer(begin).backend_tokenizer
    cutting.enable_truncation(2)
    cutting.enable_padding(length=9)
    uncut = open_model((theirs, cutting)).coder
    assert uncut is not None and uncut.encode("w5 w6 w7 w8") == [5, 6, 7, 8]
    assert cutting.truncation is not None
    with pytest.raises(ConfigError, match=r"A tokenizer has encode and decode; got int"):
        open_model((theirs, 5))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"a tokenizer that transformers cannot read"):
        open_model(tmp_path)


def test_bundled_models_and_checkpoints(trained: Trained, tmp_path: Path) -> None:
    bundled = open_model("pcfg-tiny-low")
    assert (bundled.name, bundled.kind, bundled.coder) == ("pcfg-tiny-low", "bundled model", None)
    known: Any = load("pcfg-tiny-low").model
    assert fingerprint(bundled.model) == fingerprint(known)  # type: ignore[arg-type]
    assert bundled.n_ctx == known.cfg.n_ctx
    save(trained, tmp_path / "run" / "model.safetensors")
    for place in (tmp_path / "run", str(tmp_path / "run" / "model.safetensors")):
        opened = open_model(place)
        assert (opened.name, opened.kind) == ("small", "mechft checkpoint")
        assert fingerprint(opened.model) == fingerprint(trained.model)  # type: ignore[arg-type]
    save_checkpoint(tmp_path / "bare" / "step-7.safetensors", trained.model, {})
    tokenizer(begin=True).backend_tokenizer.save(str(tmp_path / "bare" / "tokenizer.json"))
    bare = open_model(tmp_path / "bare" / "step-7.safetensors")
    assert bare.name == "step-7" and bare.first_token == 1
    assert bare.coder is not None and bare.coder.encode("w9") == [9]
    text = tokenizer(begin=False).backend_tokenizer.to_str()  # its own goes before the folder's
    own = save_checkpoint(
        tmp_path / "bare" / "own.safetensors", trained.model, {"name": "own", "tokenizer": text},
        stored_as=torch.float16,
    )  # fmt: skip
    opened = open_model(own)
    assert (opened.name, opened.first_token) == ("own", None) and opened.coder is not None
    read: Any = opened.model
    for name, weights in read.named_parameters():  # rounded once, on their way into the file
        there = dict(trained.model.named_parameters())[name]
        assert weights.dtype == there.dtype and torch.equal(weights, there.half().float())
    broken = save_checkpoint(tmp_path / "broken.safetensors", trained.model, {"tokenizer": "{}"})
    with pytest.raises(CheckpointError, match=r"broken.safetensors holds no tokenizer"):
        open_model(broken)


def test_models_in_memory_are_used_as_they_are(
    trained: Trained, make_bridge: Callable[..., HookedTransformer]
) -> None:
    """Hooks included; a copy is made only where something else was asked for."""
    model = trained.model
    assert open_model(trained).model is model and open_model(trained).name == "small"
    plain = open_model(model)
    assert plain.model is model and (plain.name, plain.kind) == ("HookedTransformer",) * 2
    bridge = make_bridge("gpt2")
    opened = open_model(bridge)
    assert opened.model is bridge and opened.kind == "TransformerBridge"
    assert opened.coder is not None and opened.coder.encode("7") == [7]
    for mine in (model, bridge):
        wanted = mine(TEXT[:, :8] % 9)
        double: Any = open_model(mine, dtype=torch.float64).model
        assert double is not mine and {p.dtype for p in mine.parameters()} == {torch.float32}
        torch.testing.assert_close(double(TEXT[:, :8] % 9), wanted.double(), rtol=1e-4, atol=1e-4)
        mine.add_hook("blocks.0.hook_resid_pre", lambda value, hook: 2 * value)  # type: ignore[no-untyped-call]
        assert open_model(mine).model is mine
        with pytest.raises(ConfigError, match=r"has hooks, and would be copied without them"):
            open_model(mine, dtype=torch.float64)
        mine.reset_hooks()


def test_dropout_is_off(make_bridge: Callable[..., HookedTransformer]) -> None:
    bridge = make_bridge("gpt2")
    wanted = bridge(TEXT % 9)
    bridge.train()
    opened: Any = open_model(bridge)
    assert opened.model is not bridge and not opened.model.training and bridge.training
    torch.testing.assert_close(opened.model(TEXT % 9), wanted)


# Adapters


@pytest.fixture
def peft() -> Any:
    return pytest.importorskip("peft")


ADAPTERS: dict[str, tuple[str, dict[str, Any]]] = {
    "lora": ("llama", {"target_modules": ["q_proj", "down_proj"], "lora_alpha": 7}),
    "rslora": (
        "qwen2",
        {
            "target_modules": ["q_proj", "k_proj"],
            "use_rslora": True,
            "alpha_pattern": {"q_proj": 11},
            "rank_pattern": {"k_proj": 3},
        },
    ),
    "dora": ("llama", {"target_modules": ["v_proj"], "use_dora": True}),
    "fan_in_fan_out": ("gpt2", {"target_modules": ["c_attn", "c_fc"], "fan_in_fan_out": True}),
    "tied": ("gpt2", {"target_modules": ["wte", "c_proj"], "fan_in_fan_out": True}),
    "whole_head": ("llama", {"target_modules": ["o_proj"], "modules_to_save": ["lm_head"]}),
    "bias": ("qwen2", {"target_modules": ["q_proj"], "bias": "lora_only"}),
}


def adapted(peft: Any, base: Any, **settings: Any) -> Any:
    """A PeftModel whose adapters do something."""
    config = peft.LoraConfig(**{"r": 2, "task_type": "CAUSAL_LM", **settings})
    with preserved_random_state(3), torch.no_grad():
        model = peft.get_peft_model(base, config).eval()
        for name, parameter in model.named_parameters():
            if "lora" in name or "modules_to_save" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model


@pytest.mark.filterwarnings("ignore::UserWarning:peft")
@pytest.mark.parametrize("name", ADAPTERS)
def test_adapters_are_merged(name: str, peft: Any, tmp_path: Path) -> None:
    """By folder (its base named, given as a folder, given as a model) and from memory, on copies."""
    kind, settings = ADAPTERS[name]
    original = their_model(kind)
    wanted_base, before = logits(original), state(original)
    original.save_pretrained(tmp_path / "base")
    tokenizer().save_pretrained(tmp_path / "base")
    theirs = adapted(peft, their_model(kind), **settings)
    wanted = logits(theirs)
    assert not torch.allclose(wanted, wanted_base, atol=1e-2)
    theirs.peft_config["default"].base_model_name_or_path = str(tmp_path / "base")
    theirs.save_pretrained(tmp_path / "adapter")
    in_memory = state(theirs)
    loaded = open_model(theirs)
    assert loaded.kind == "PEFT adapter" and unchanged(theirs, in_memory)
    same(loaded, wanted)
    bases = (open_model(tmp_path / "base"), open_model((original, tokenizer())))
    for base in (None, *bases):
        opened = open_model(tmp_path / "adapter", base=base)
        assert (opened.name, opened.kind, opened.n_ctx) == ("adapter", "PEFT adapter", 32)
        assert opened.coder is not None and opened.coder.encode("w5") == [5]
        same(opened, wanted)
    for base in bases:
        same(base, wanted_base)
    assert unchanged(original, before) and torch.equal(logits(original), wanted_base)


def test_adapters_that_do_not_fit(peft: Any, tmp_path: Path) -> None:
    base, settings = their_model("llama"), {"target_modules": ["q_proj"]}
    adapted(peft, base, **settings).save_pretrained(tmp_path / "a")
    with pytest.raises(ConfigError, match=r"names '', which is no local folder.* Give base="):
        open_model(tmp_path / "a")
    with pytest.raises(ConfigError, match=r"opened as bundled model. Open the base from"):
        open_model(tmp_path / "a", base=open_model("pcfg-tiny-low"))
    with pytest.raises(ConfigError, match=r"base is what open_model returned; got str"):
        open_model(tmp_path / "a", base="x")  # type: ignore[arg-type]
    for change, message in (
        ({"num_hidden_layers": 1}, "0 weights are missing and 2 have no place, such as .*layers.1"),
        ({"num_hidden_layers": 3}, "2 weights are missing and 0 have no place, such as .*layers.2"),
        ({"hidden_size": 32}, "does not fit LlamaForCausalLM .*PeftModel: size mismatch"),
    ):
        other = open_model(their_model("llama", **change))
        with pytest.raises(CheckpointError, match=message):
            open_model(tmp_path / "a", base=other)
    (tmp_path / "a" / "adapter_model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"no adapter_model\.safetensors"):
        open_model(tmp_path / "a")
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    prompts = peft.get_peft_model(their_model("llama"), config)
    prompts.save_pretrained(tmp_path / "prompts")
    for what in (prompts, tmp_path / "prompts"):
        with pytest.raises(ConfigError, match=r"which .* cannot be"):
            open_model(what)


def test_adapters_that_are_switched_off_or_loose(peft: Any) -> None:
    model = adapted(peft, their_model("llama"), target_modules=["q_proj"])
    with pytest.raises(ConfigError, match=r"LlamaForCausalLM holds adapters that are not merged"):
        open_model(model.get_base_model())
    model.base_model.disable_adapter_layers()
    with pytest.raises(ConfigError, match=r"computes what it did before; this one .* is off by"):
        open_model(model)


def test_without_peft(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "peft", None)
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(ConfigError, match=r"pip install peft"):
        open_model(tmp_path)


# What cannot be opened


def test_names_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(
        UnknownNameError, match=r"Did you mean 'pcfg-tiny-low'.*Nothing is downloaded"
    ):
        open_model("pcfg-tiny-lo")
    with pytest.raises(UnknownNameError, match=r"no file or folder\) 'org/model'.*hf download"):
        open_model("org/model")
    with pytest.raises(ConfigError, match=r"A model is the name of a bundled one.*got int"):
        open_model(7)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(CheckpointError, match=r"holds notes\.txt. Give the folder that does"):
        open_model(tmp_path)


def described(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    their_model("llama").save_pretrained(tmp_path / "hf")
    yield tmp_path / "hf"


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"model_type": "t5"}, ConfigError, "that TransformerBridge knows; .* is not"),
        ({"model_type": "nonsense"}, CheckpointError, "cannot read .*nonsense"),
        ({"quantization_config": {"bits": 4}}, ConfigError, "are quantised"),
        ({"auto_map": {"AutoModel": "x.Y"}}, ConfigError, "trust_remote_code=True and give the"),
        ({"num_hidden_layers": 3}, CheckpointError, "do not fill the model .* such as model.layers.2"),
        ({"intermediate_size": 20}, CheckpointError, "cannot load the weights|do not fill the model"),
    ],
)  # fmt: skip
def test_folders_that_are_not_what_they_say(
    changes: dict[str, Any], error: type[Exception], message: str, folder: Path
) -> None:
    described(folder, **changes)
    with pytest.raises(error, match=message):
        open_model(folder)


def test_damaged_folders(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = folder / "model.safetensors"
    with pytest.raises(CheckpointError, match=r"a part of a Hugging Face folder\. Give the folder"):
        open_model(weights)
    found = load_file(weights)
    save_file({**found, "value_head": torch.zeros(2)}, weights, {"format": "pt"})
    with pytest.warns(
        UserWarning, match=r"1 weights that its model has no place for, such as valu"
    ):
        open_model(folder)
    found.pop("lm_head.weight")
    save_file(found, weights, {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"1 are missing, such as lm_head\.weight"):
        open_model(folder)
    weights.write_bytes(b"half")
    with pytest.raises(CheckpointError, match=r"cannot load the weights"):
        open_model(folder)
    weights.rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"no safetensors in .*from safetensors only"):
        open_model(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"is not JSON"):
        open_model(folder)


def test_models_that_cannot_be_copied(make_bridge: Callable[..., HookedTransformer]) -> None:
    from transformers import BertConfig, BertModel

    theirs = their_model("llama")
    theirs.is_quantized = True
    with pytest.raises(ConfigError, match=r"of this LlamaForCausalLM are quantised"):
        open_model(theirs)
    with pytest.raises(ConfigError, match=r"is on meta. Load it without device_map"):
        open_model(their_model("llama").to("meta"))
    inside: Any = make_bridge("llama")
    with pytest.raises(ConfigError, match=r"inside a TransformerBridge already. Give the bridge"):
        open_model(inside.original_model)
    small = BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1)
    bert: Any = BertModel
    with pytest.raises(ConfigError, match=r"this BertModel is not: its class is BertModel"):
        open_model(bert(small))


def test_the_random_state_stays(tmp_path: Path) -> None:
    theirs = their_model("gpt2")
    theirs.save_pretrained(tmp_path)
    before = torch.get_rng_state()
    open_model(theirs)
    open_model(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
