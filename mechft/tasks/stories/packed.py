"""Windows drawn from a corpus: what a language model is pretrained on."""

from __future__ import annotations

import numpy as np
import torch

from mechft.errors import require
from mechft.tasks.batch import TokenBatch
from mechft.tasks.stories.corpus import TokenCorpus


class PackedSource:
    """Windows at random places of a corpus.

    A window begins and ends anywhere, mostly within a document, and holds as many as fit. Every place is as
    likely as any other. The "answer" is the last token, for evaluations that want one; training takes
    ``loss="next_token"`` with ``answer_weight=0``.

    Args:
        corpus: Where windows are cut from.
        length: Tokens a model sees: windows have one more, the last one's target.

    Raises:
        ConfigError: If the length is below 2 or the corpus has no more than ``length`` tokens.

    Cost: under 1 ms for 256 windows of 256 tokens, one gather from the mapped file.
    """

    def __init__(self, corpus: TokenCorpus, length: int) -> None:
        require(
            length >= 2, f"A window has at least two tokens; got {length}. Choose a longer one."
        )
        require(
            len(corpus) > length,
            f"A corpus is longer than a window of {length} tokens and its last target; it has {len(corpus)} "
            "tokens. Give more text, or a shorter window.",
        )
        self.corpus, self.length = corpus, length

    def sample(self, size: int, generator: torch.Generator) -> TokenBatch:
        """Draw ``size`` windows; tokens are Int["batch length+1"]."""
        starts = torch.randint(len(self.corpus) - self.length, (size,), generator=generator)
        places = starts[:, None] + torch.arange(self.length + 1)  # [batch, length + 1]
        tokens = torch.from_numpy(self.corpus.tokens[places.numpy()].astype(np.int64))
        return TokenBatch(tokens, self.length - 1, tokens[:, -1])
