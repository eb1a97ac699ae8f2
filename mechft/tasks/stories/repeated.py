"""Random tokens said again and again: what teaches a model to look up what came after before.

A story's words are about names and things that it said earlier, each in few stories. A small model learns to
say them again only after millions of tokens, and until then writes stories that hang together in nothing.
On random tokens that repeat there is nothing else to learn, and it takes a few hundred steps.
"""

from __future__ import annotations

import torch

from mechft.errors import require
from mechft.tasks.batch import TokenBatch

SHORTEST = 4
"""Tokens of the shortest part that is repeated."""


class RepeatedTokens:
    """Rows of random tokens that begin anew after a period of 4 tokens up to half a row; a ``Source``.

    Every row has tokens and a period of its own, so that neither can be known without looking back.

    Args:
        d_vocab: Size of the vocabulary.
        length: Tokens a model sees: rows have one more, the last one's target.
        first_token: The first of the tokens drawn; those before mark where stories end, and padding.

    Raises:
        ConfigError: If a row has no room for a period twice, or no token is left to draw.

    Source: Olsson et al. (2022), "In-context Learning and Induction Heads", use such sequences to measure;
    the paper (Jain et al., 2024) trains on none.

    Cost: nothing beside a step of training.
    """

    def __init__(self, d_vocab: int, length: int, first_token: int = 0) -> None:
        require(
            length >= 2 * SHORTEST,
            f"A row repeats at least {SHORTEST} tokens; got rows of {length}. Choose at least "
            f"{2 * SHORTEST}.",
        )
        require(
            0 <= first_token < d_vocab,
            f"first_token is one of the vocabulary's 0..{d_vocab - 1}; got {first_token}.",
        )
        self.d_vocab, self.length, self.first_token = d_vocab, length, first_token

    def sample(self, size: int, generator: torch.Generator) -> TokenBatch:
        """Draw ``size`` rows; tokens are Int["batch length+1"]."""
        shape = (size, self.length + 1)
        drawn = torch.randint(self.first_token, self.d_vocab, shape, generator=generator)
        period = torch.randint(SHORTEST, self.length // 2 + 1, (size, 1), generator=generator)
        tokens = drawn.gather(1, torch.arange(self.length + 1) % period)
        return TokenBatch(tokens, self.length - 1, tokens[:, -1])
