"""Two kinds of samples in one batch: a share of another source's rows among a source's own."""

from __future__ import annotations

import torch

from mechft.errors import require
from mechft.tasks.batch import Source, TokenBatch


class MixedSource:
    """Fresh samples of ``main``, some of them replaced by samples of ``other`` (Jain et al. 2024, App. E.1).

    Each row is one of ``other``'s with probability ``share``, on its own, so that a batch of 96 at a share
    of 0.001 mostly has none. The rows that stay are, bit for bit, those that ``main`` alone would have
    drawn from the same generator: runs with different shares differ in the replaced rows only, and with
    share 0 tokens and answers are ``main``'s. Labels and the correlation's flags are left out, as the two
    sources need not have the same; answers are taken to be ids of one vocabulary.

    Args:
        main: Where rows come from.
        other: Where a row comes from with probability ``share``.
        share: In 0..1. Paper: 0.5, 0.1 and 0.001 of pretraining data in fine-tuning.

    Raises:
        ConfigError: If the share is outside 0..1, or the sources' samples differ in length or answer
            position.

    Cost: drawing all rows from ``main``, those that are replaced too, and the replaced ones from ``other``.
    """

    def __init__(self, main: Source, other: Source, share: float) -> None:
        require(
            0 <= share <= 1,
            "The share of the other source's rows lies in 0..1 (0.1 is a tenth); got "
            f"{share}. Choose one in between.",
        )
        self.main, self.other, self.share = main, other, share
        # Neither source says what its samples look like, so one of each is drawn and looked at.
        own, foreign = (s.sample(1, torch.Generator().manual_seed(0)) for s in (main, other))
        forms = [(batch.tokens.shape[1], batch.answer_position) for batch in (own, foreign)]
        require(
            forms[0] == forms[1],
            "Samples that are mixed have one length and answer position; got "
            f"{forms[0][0]} tokens answered at {forms[0][1]}, and {forms[1][0]} answered at "
            f"{forms[1][1]}. Mix sources of one task.",
        )

    def sample(self, size: int, generator: torch.Generator) -> TokenBatch:
        """Draw ``size`` samples; which rows are ``other``'s is not said, but can be read off the tokens."""
        batch = self.main.sample(size, generator)
        replaced = (torch.rand(size, generator=generator) < self.share).nonzero().squeeze(1)
        tokens, answer = batch.tokens, batch.answer
        if len(replaced):
            drawn = self.other.sample(len(replaced), generator)
            tokens = tokens.index_copy(0, replaced, drawn.tokens)
            answer = answer.index_copy(0, replaced, drawn.answer)
        return TokenBatch(tokens, batch.answer_position, answer)
