"""Shared fixtures: a task and a model small enough that a forward takes a millisecond."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from mechft.models.build import ModelConfig, build_model
from mechft.randomness import preserved_random_state
from mechft.tasks.pcfg import PCFGTask
from mechft.tasks.pcfg_config import PCFGConfig
from mechft.training.trained import Trained

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

SMALL = PCFGConfig(text_length=12, counting_window=6, occurrence=2, pair_occurrence=1, lookback=6)


ALONE = "::test_runs_in_a_clean_kernel["  # of a notebook: minutes long and without fixtures

# Two workers with two threads each, or their children, would wait for each other.
if os.environ.get("PYTEST_XDIST_WORKER"):
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest is begun first, or one worker would be left with it while the other idles."""
    if os.environ.get("PYTEST_XDIST_WORKER"):
        items.sort(key=lambda item: ALONE not in item.nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file's tests, which share fixtures, run in one worker; each notebook where there is room.

    (Not by ``--dist loadgroup``: xdist 3.8 writes groups where pytest 9.2 no longer reads them, and then
    spreads every file over all workers, its fixtures made in each.)
    """
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return nodeid if ALONE in nodeid else str(super()._split_scope(nodeid))

    return ByFile(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.fixture(scope="session")
def task() -> PCFGTask:
    return PCFGTask(SMALL)


@pytest.fixture
def make_model(task: PCFGTask) -> Callable[..., HookedTransformer]:
    """A model for the small task; biases and norms are random too, so that no term is hidden by 0."""

    def make(seed: int = 0, dtype: torch.dtype = torch.float32) -> HookedTransformer:
        config = ModelConfig(2, 2, 16, len(task.vocabulary), task.sample_length - 1)
        model = build_model(config, seed, dtype)
        draws = torch.Generator().manual_seed(seed + 1)
        with torch.no_grad():
            for parameter in model.parameters():
                noise = torch.randn(parameter.shape, generator=draws, dtype=torch.float64)
                parameter.add_(0.3 * noise.to(dtype))
        return model

    return make


@pytest.fixture
def trained(task: PCFGTask, make_model: Callable[..., HookedTransformer]) -> Trained:
    return Trained(make_model(), task, name="small")


def _bridge(kind: str, folder: Path, seed: int = 0) -> HookedTransformer:
    """A TransformerBridge around a small Hugging Face model made from a config; nothing is downloaded."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import (
        GPT2Config,
        GPT2LMHeadModel,
        LlamaConfig,
        LlamaForCausalLM,
        PreTrainedTokenizerFast,
    )

    size = len(PCFGTask(SMALL).vocabulary)
    with preserved_random_state(seed):
        inner: Any
        if kind == "gpt2":
            inner = GPT2LMHeadModel(
                GPT2Config(vocab_size=size, n_positions=32, n_embd=16, n_layer=2, n_head=2)
            )
        else:  # grouped-query attention: two query heads share a key head
            inner = LlamaForCausalLM(
                LlamaConfig(
                    vocab_size=size, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
                    num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=32,
                )
            )  # fmt: skip
        with torch.no_grad():
            for parameter in inner.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
        inner.save_pretrained(folder)
        words = {str(i): i for i in range(size)}
        PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
            tokenizer_object=Tokenizer(WordLevel(words, unk_token="0")),
            bos_token="1", eos_token="2", unk_token="0",
        ).save_pretrained(folder)  # fmt: skip
        made: Any = TransformerBridge.boot_transformers(
            str(folder), hf_model=inner.eval(), device="cpu"
        )
    bridge: HookedTransformer = made  # answers to the same names
    return bridge


@pytest.fixture(scope="session")
def make_bridge(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., HookedTransformer]:
    """``make_bridge("gpt2", seed)`` or "llama": a bridge for the small task, in its vocabulary."""

    def make(kind: str, seed: int = 0) -> HookedTransformer:
        return _bridge(kind, tmp_path_factory.mktemp(kind), seed)

    return make


KINDS = ("hooked", "gpt2", "llama")


@pytest.fixture(params=KINDS)
def make_any(
    request: pytest.FixtureRequest,
    make_model: Callable[..., HookedTransformer],
    make_bridge: Callable[..., HookedTransformer],
) -> Callable[..., HookedTransformer]:
    """``make_any(seed)``: a fresh HookedTransformer, GPT-2 bridge or Llama bridge, in turn."""
    kind = str(request.param)

    def make(seed: int = 0) -> HookedTransformer:
        return make_model(seed) if kind == "hooked" else make_bridge(kind, seed)

    return make


def heed_ctrl_c() -> None:
    """For ``preexec_fn``: a suite started in the background ignores Ctrl-C, and so would its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
