"""The two models side by side: checked to be of one architecture, with a random change as a third."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from mechft.analysis.weights.pairs import WeightPair, float64, weight_pairs
from mechft.errors import ConfigError, require
from mechft.experiments.compare.config import CompareSettings
from mechft.experiments.compare.rows import Rows
from mechft.models.build import clone
from mechft.models.hook_points import as_model
from mechft.models.opening import Opened
from mechft.models.weights import all_weights, is_hooked_transformer
from mechft.randomness import generator
from mechft.training.evaluation import predictions

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

BASE, FINETUNED, RANDOM = "base", "finetuned", "random change"
_SHAPE = ("n_layers", "n_heads", "n_key_value_heads", "d_model", "d_head", "d_mlp", "d_vocab")
_READ_TWICE = 100  # texts on which two tokenizers are held against each other


@dataclass(frozen=True)
class Asked:
    """Rows and what the two models answer to them, token ids in the rows' order."""

    rows: Rows
    base: list[int]
    finetuned: list[int]

    def differing(self) -> tuple[Rows, list[int], list[int]]:
        """The rows that they answer differently, with the base's and the fine-tuned model's answers."""
        places = [i for i in range(len(self.rows)) if self.base[i] != self.finetuned[i]]
        ours, theirs = ([answers[i] for i in places] for answers in (self.base, self.finetuned))
        return self.rows.chosen(places), ours, theirs

    def agreeing(self) -> Rows:
        """The rows that they answer alike, with these answers as the right ones."""
        places = [i for i in range(len(self.rows)) if self.base[i] == self.finetuned[i]]
        return self.rows.chosen(places).answered([self.base[i] for i in places])


@dataclass(frozen=True)
class Pair:
    """What every stage is given.

    Attributes:
        base, finetuned: The models.
        rows: What they are shown.
        kind: "answers" or "text".
        settings: How much is looked at.
        unchanged: Whether all weights are the same.
        never: A model that never had what the base can, if one was given.
    """

    base: HookedTransformer
    finetuned: HookedTransformer
    rows: Rows
    kind: str
    settings: CompareSettings
    unchanged: bool = False
    never: HookedTransformer | None = None

    @cached_property
    def randomly_changed(self) -> HookedTransformer:
        """The base with a random change as large, weight by weight, as fine-tuning's; made when asked for."""
        return random_change(self.base, self.finetuned, self.settings.seed)

    @property
    def changed(self) -> dict[str, HookedTransformer]:
        """The models that are compared with the base, by name; the random one where something changed."""
        return {FINETUNED: self.finetuned} | (
            {} if self.unchanged else {RANDOM: self.randomly_changed}
        )

    @cached_property
    def asked(self) -> Asked:
        """Rows and what both models answer to them, for stages that go by the models' own answers."""
        rows = self.rows.spread(self.affordable(2, least=128))
        answers = [
            torch.cat([predictions(model, batch).cpu() for batch in rows.batches]).tolist()
            for model in (self.base, self.finetuned)
        ]
        return Asked(rows, *answers)

    @cached_property
    def weights(self) -> dict[str, WeightPair]:
        """The two models' weights side by side."""
        return weight_pairs(self.base, self.finetuned)

    @cached_property
    def parameters(self) -> int:
        """Numbers in a model."""
        return sum(weight.tensor.numel() for weight in all_weights(self.base).values())

    @property
    def n_layers(self) -> int:
        """Blocks of a model."""
        return int(self.base.cfg.n_layers)

    @property
    def d_vocab(self) -> int:
        """Tokens that a model knows."""
        return int(self.base.cfg.d_vocab)

    def affordable(self, passes: float, least: int = 32) -> int:
        """How many rows a stage may see that runs a model this many times over each.

        Args:
            passes: Forwards a row, of either model.
            least: Rows it sees whatever they cost, if there are so many: fewer would say nothing.
        """
        each = passes * 2 * self.parameters * self.rows.length
        return min(len(self.rows), max(least, int(self.settings.work / each)))


def check_pair(base: Opened, finetuned: Opened) -> None:
    """Raise unless two models are of one architecture; runs neither.

    Raises:
        ConfigError: If they are opened differently, or differ in shape.
    """
    ours, theirs = as_model(base.model), as_model(finetuned.model)
    require(
        is_hooked_transformer(ours) == is_hooked_transformer(theirs),
        "Two models are compared weight by weight, so both are opened the same way; "
        f"{base.name} is a {type(ours).__name__}, {finetuned.name} a {type(theirs).__name__}. Give both as "
        "Hugging Face folders, or both as HookedTransformers.",
    )
    for field in _SHAPE:
        one, two = _size(ours, field), _size(theirs, field)
        if one != two:
            remedy = (
                "If tokens were added, cut both to the smaller vocabulary (resize_token_embeddings)."
                if field == "d_vocab"
                else "Give the very base that the model was fine-tuned from."
            )
            raise ConfigError(
                "Two models are compared part by part, so they have the same blocks, heads, widths and "
                f"vocabulary; {field} is {one} in {base.name} and {two} in {finetuned.name}. {remedy}"
            )


def encoder(base: Opened, finetuned: Opened) -> Callable[[str], list[int]] | None:
    """From text to token ids, by the base's tokenizer, or by the other's where it has none; else None.

    Where both have one, the first texts are read by both.

    Raises (when called):
        ConfigError: If the two tokenizers read a text differently.
    """
    ours, theirs = base.coder, finetuned.coder
    if ours is None or theirs is None:
        one = ours or theirs
        return None if one is None else one.encode
    first = iter(range(_READ_TWICE))

    def encode(text: str) -> list[int]:
        ids = ours.encode(text)
        if next(first, None) is not None and (other := theirs.encode(text)) != ids:
            raise ConfigError(
                "Both models are shown the same token ids, so their tokenizers agree; these read "
                f"{text[:40]!r} as {ids[:9]} ({base.name}) and {other[:9]} ({finetuned.name}). Give "
                "token ids that mean the same to both (a TokenBatch, or a tensor)."
            )
        return ids

    return encode


def _size(model: HookedTransformer, field: str) -> Any:
    value = getattr(model.cfg, field, None)
    # Without grouped keys some say None and others the number of heads.
    return int(model.cfg.n_heads) if field == "n_key_value_heads" and value is None else value


@torch.no_grad()
def random_change(
    base: HookedTransformer, finetuned: HookedTransformer, seed: int = 0
) -> HookedTransformer:
    """A copy of the base with a random change of the same Frobenius norm as fine-tuning's in every weight.

    What such a model does is what a change of that size does on its own, whatever was learned. Weights that
    fine-tuning left alone stay as they are.

    Args:
        base, finetuned: Models of the same kind and shape.
        seed: Seed of the change, which is normal in each number.

    Raises:
        ConfigError: As ``diff_weights``.

    Cost: a copy of the model, and one pass over its weights.
    """
    twin = clone(base)
    written = all_weights(twin)
    for name, pair in weight_pairs(base, finetuned).items():
        before = float64(pair.before)
        size = float((float64(pair.after, before.device) - before).norm())
        if size > 0:
            draws = generator(seed, "random change", name)
            noise = torch.randn(pair.before.shape, generator=draws).to(before)
            written[name].tensor.copy_(before + noise * (size / noise.norm()))
    return twin
