"""Generation: greedy is the full forward's argmax, the cache changes nothing, rows do not meet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from mechft.errors import ConfigError
from mechft.models.build import ModelConfig, build_model
from mechft.models.fused import fused_logits
from mechft.models.generation import generate
from mechft.models.hook_points import resid_post
from mechft.models.key_values import KeyValues
from mechft.models.sampling import Sampling, next_tokens, probabilities
from mechft.randomness import generator
from tests.models.llamas import make_llama

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

PROMPTS = [[1, 2, 3, 4, 5, 6, 7], [8], [3, 3, 3, 0], [5, 1]]
NEW = 12  # with the longest prompt 19 of the context's 20


def make_gpt() -> HookedTransformer:
    model = build_model(ModelConfig(2, 2, 12, 9, 20), 0, torch.float64)
    draws = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.4 * torch.randn(parameter.shape, generator=draws, dtype=torch.float64))
    return model


@pytest.fixture(scope="module", params=["llama", "gpt"])
def model(request: pytest.FixtureRequest) -> HookedTransformer:
    """Learned and rotary positions; weights large enough that the likeliest token changes with the text."""
    return make_llama(scale=0.8) if request.param == "llama" else make_gpt()


@torch.no_grad()
def without_cache(
    model: HookedTransformer, prompt: list[int], row: int, sampling: Sampling, seed: int
) -> list[int]:
    """One row by the hooked forward on the whole text at every step."""
    text = list(prompt)
    numbers = torch.rand(
        model.cfg.n_ctx, generator=generator(seed, "row", row), dtype=torch.float64
    )
    for step in range(NEW):
        logits: Any = model(torch.tensor([text]))
        text.append(int(next_tokens(logits[:, -1], sampling, numbers[step : step + 1])))
    return text[len(prompt) :]


@pytest.mark.parametrize(
    "sampling",
    [Sampling(0.0), Sampling(), Sampling(0.7, top_k=4), Sampling(1.3, top_p=0.8)],
    ids=["greedy", "plain", "top k", "top p"],
)
def test_equals_the_full_forward(model: HookedTransformer, sampling: Sampling) -> None:
    settings = vars(sampling)
    found = generate(model, PROMPTS, NEW, seed=3, **settings)
    wanted = [without_cache(model, p, i, sampling, 3) for i, p in enumerate(PROMPTS)]
    assert found == wanted
    assert len({token for row in found for token in row}) >= (4 if sampling.temperature else 2)


def test_cached_logits_equal_the_full_forward(model: HookedTransformer) -> None:
    """Also after rows have been dropped; positions are each row's own."""
    draws = torch.Generator().manual_seed(0)
    texts = torch.randint(9, (3, 20), generator=draws)
    lengths = torch.tensor([4, 9, 1])
    cache = KeyValues(model, 20)
    found = cache.start(texts[:, :9], lengths)
    rows = torch.arange(3)
    for step in range(8):
        whole = fused_logits(model, texts[rows])
        at = lengths[rows] - 1 + step
        torch.testing.assert_close(
            found, whole[torch.arange(len(rows)), at], rtol=1e-10, atol=1e-12
        )
        if step == 4:
            rows = rows[[2, 0]]
            cache.keep(torch.tensor([2, 0]))
        found = cache.step(texts[rows, lengths[rows] + step])


def test_rows_do_not_depend_on_each_other(model: HookedTransformer) -> None:
    whole = generate(model, PROMPTS, NEW, seed=1)
    assert generate(model, PROMPTS, NEW, seed=1, batch_size=3) == whole
    assert generate(model, PROMPTS[2:], NEW, seed=1, first_row=2) == whole[2:]
    assert [row[:5] for row in whole] == generate(model, PROMPTS, 5, seed=1)
    assert generate(model, PROMPTS, NEW, seed=2) != whole


def test_the_stop_token_ends_rows(model: HookedTransformer) -> None:
    prompts = [[1, 2], [3], [4, 5, 6], [7], [8, 8]]
    free = generate(model, prompts, NEW, seed=4)
    stop = free[1][2]
    ended = generate(model, prompts, NEW, seed=4, stop_token=stop)
    for row, short in zip(free, ended, strict=True):
        assert short == (row[: row.index(stop) + 1] if stop in row else row)
    assert len(ended[1]) <= 3


def test_nothing_is_computed_once_all_have_ended(
    model: HookedTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = 0
    step = KeyValues.step

    def counted(self: KeyValues, tokens: torch.Tensor) -> torch.Tensor:
        nonlocal steps
        steps += 1
        return step(self, tokens)

    monkeypatch.setattr(KeyValues, "step", counted)
    stop = generate(model, [[1, 2]], 4, temperature=0)[0][-1]
    steps = 0
    (row,) = generate(model, [[1, 2]], NEW, temperature=0, stop_token=stop)
    assert row[-1] == stop and steps == len(row) - 1 <= 3


def test_a_tensor_of_prompts_and_none(model: HookedTransformer) -> None:
    prompts = torch.tensor([[1, 2], [3, 4]])
    assert generate(model, prompts, 3) == generate(model, prompts.tolist(), 3)
    assert generate(model, [], 3) == []


def test_the_global_random_state_stays(model: HookedTransformer) -> None:
    before = torch.get_rng_state()
    generate(model, PROMPTS, 3)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_whole_context_can_be_filled(model: HookedTransformer) -> None:
    (row,) = generate(model, [[1, 2, 3]], 18, temperature=0)
    assert len(row) == 18
    with pytest.raises(ConfigError, match=r"3 tokens and 19 new ones .* Ask for at most 18"):
        generate(model, [[1, 2, 3]], 19)


def test_bad_requests(model: HookedTransformer) -> None:
    with pytest.raises(ConfigError, match="at most n_ctx = 20 tokens; prompt 1 has 21"):
        generate(model, [[1], [1] * 21], 1)
    with pytest.raises(ConfigError, match="prompt 0 is empty"):
        generate(model, [[]], 1)
    with pytest.raises(ConfigError, match=r"Tokens of this model are 0\.\.8; prompt 0 has 1 to 9"):
        generate(model, [[1, 9]], 1)
    with pytest.raises(ConfigError, match="max_new_tokens is at least 1; got 0"):
        generate(model, [[1]], 0)
    with pytest.raises(ConfigError, match=r"stop_token is a token of the model, 0\.\.8; got 9"):
        generate(model, [[1]], 1, stop_token=9)
    with pytest.raises(ConfigError, match="axes row and pos"):
        generate(model, torch.tensor([1, 2]), 1)
    hook = (resid_post(0), lambda value, hook: value * 0)
    with model.hooks(fwd_hooks=[hook]), pytest.raises(ConfigError, match="runs no hooks"):
        generate(model, [[1]], 1)


def test_models_that_cannot_continue_text() -> None:
    both = build_model(ModelConfig(1, 2, 8, 9, 20, attention="bidirectional"))
    with pytest.raises(ConfigError, match="attention is bidirectional"):
        generate(both, [[1]], 1)
    other = build_model(ModelConfig(1, 2, 8, 9, 20, d_vocab_out=4))
    with pytest.raises(ConfigError, match="reads 9 tokens and predicts 4"):
        generate(other, [[1]], 1)
    capped = make_gpt()
    capped.cfg.output_logits_soft_cap = 3.0
    with pytest.raises(ConfigError, match=r"output_logits_soft_cap=3\.0"):
        generate(capped, [[1]], 1)
    broken = make_gpt()
    with torch.no_grad():
        broken.W_E[1, 0] = float("nan")
    with pytest.raises(ConfigError, match="logits are not finite"):
        generate(broken, [[1]], 1)


def test_probabilities_by_hand() -> None:
    logits = torch.tensor([[0.5, 0.25, 0.125, 0.125]]).log()
    cases: list[tuple[Sampling, list[float]]] = [
        (Sampling(), [1 / 2, 1 / 4, 1 / 8, 1 / 8]),
        (Sampling(0.5), [16 / 22, 4 / 22, 1 / 22, 1 / 22]),
        (Sampling(top_k=2), [2 / 3, 1 / 3, 0, 0]),
        (Sampling(top_k=9), [1 / 2, 1 / 4, 1 / 8, 1 / 8]),
        (Sampling(top_p=0.6), [2 / 3, 1 / 3, 0, 0]),
        (Sampling(top_p=0.01), [1, 0, 0, 0]),
        (Sampling(top_k=2, top_p=0.6), [1, 0, 0, 0]),
    ]
    for sampling, wanted in cases:
        found = probabilities(logits, sampling)[0]
        torch.testing.assert_close(
            found, torch.tensor(wanted, dtype=torch.float64), rtol=1e-6, atol=0
        )


def test_tokens_have_their_share_of_the_unit_interval() -> None:
    logits = torch.tensor([[0.5, 0.0, 0.25, 0.25]]).log().expand(5, -1)
    finite = logits.clamp(min=-1e4)  # a token that is never drawn, in the middle
    uniform = torch.tensor([0.0, 0.499, 0.501, 0.751, 1 - 2.0**-53], dtype=torch.float64)
    assert next_tokens(finite, Sampling(), uniform).tolist() == [0, 0, 2, 3, 3]
    assert next_tokens(finite, Sampling(0.0), uniform).tolist() == [0] * 5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -1.0}, "temperature is 0"),
        ({"temperature": float("nan")}, "temperature is 0"),
        ({"top_k": 0}, "top_k is at least 1"),
        ({"top_p": 0.0}, "top_p is a probability"),
        ({"top_p": 1.5}, "top_p is a probability"),
    ],
)
def test_bad_sampling(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Sampling(**settings)
