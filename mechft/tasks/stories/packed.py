"""Windows drawn from a corpus: what a language model is pretrained on."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mechft.errors import require, unknown_name
from mechft.tasks.batch import TokenBatch
from mechft.tasks.stories.corpus import TokenCorpus
from mechft.tasks.stories.tokenizer import END_ID


class PackedSource:
    """Windows at random places of a corpus.

    A window holds as many documents as fit, and ends anywhere. The "answer" is the last token, for
    evaluations that want one; training takes ``loss="next_token"`` with ``answer_weight=0``.

    Args:
        corpus: Where windows are cut from.
        length: Tokens a model sees: windows have one more, the last one's target.
        begin: "anywhere": every place is as likely as any other, and most windows begin within a document.
            "documents": they begin where a document does, each as likely as any other. So does a prompt when
            a model writes, and nothing refers to what was cut off; but of a document longer than the window
            the end is never seen.

    Raises:
        ConfigError: If the length is below 2 or the corpus has no more than ``length`` tokens.
        UnknownNameError: If ``begin`` is neither of the two.

    Cost: about 0.1 ms a window of 256 or less, one gather from the mapped file; "documents" reads the corpus
    once and keeps 8 bytes a document.
    """

    def __init__(
        self,
        corpus: TokenCorpus,
        length: int,
        begin: Literal["anywhere", "documents"] = "anywhere",
    ) -> None:
        require(
            length >= 2, f"A window has at least two tokens; got {length}. Choose a longer one."
        )
        require(
            len(corpus) > length,
            f"A corpus is longer than a window of {length} tokens and its last target; it has {len(corpus)} "
            "tokens. Give more text, or a shorter window.",
        )
        if begin not in ("anywhere", "documents"):
            raise unknown_name("beginning of windows", begin, ("anywhere", "documents"))
        self.corpus, self.length = corpus, length
        self._starts: Tensor | None = None  # [document]
        if begin == "documents":
            after_ends = np.flatnonzero(corpus.tokens[:-1] == END_ID) + 1
            starts = torch.from_numpy(np.concatenate([[0], after_ends]))
            self._starts = starts[starts < len(corpus) - length]

    def sample(self, size: int, generator: torch.Generator) -> TokenBatch:
        """Draw ``size`` windows; tokens are Int["batch length+1"]."""
        places = len(self.corpus) - self.length if self._starts is None else len(self._starts)
        drawn = torch.randint(places, (size,), generator=generator)
        starts = drawn if self._starts is None else self._starts[drawn]
        within = starts[:, None] + torch.arange(self.length + 1)  # [batch, length + 1]
        tokens = torch.from_numpy(self.corpus.tokens[within.numpy()].astype(np.int64))
        return TokenBatch(tokens, self.length - 1, tokens[:, -1])
