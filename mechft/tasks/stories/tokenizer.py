"""Byte-level BPE for stories: trained on training texts, saved as the JSON that Hugging Face reads."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from mechft.errors import ConfigError, OutputExistsError, require
from mechft.files import write_text
from mechft.tasks.stories.layout import END

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKENIZER_FILE = "tokenizer.json"
VOCABULARY_SIZES = {"tiny": 2048, "small": 8192, "medium": 8192, "paper": 8192}
"""Vocabulary by preset. Paper: 8192 (PAPER.md, Setup 3)."""

END_ID = 0
"""Id of ``layout.END``, the only special token."""

_SMALLEST = 257  # the end marker and the 256 bytes, without which not every text can be encoded


class TextEncoder(Protocol):
    """From text to token ids."""

    def encode(self, text: str) -> list[int]:
        """The token ids of a text and nothing else."""
        ...


def encoded(tokenizer: TextEncoder, texts: Sequence[str]) -> list[list[int]]:
    """The token ids of several texts: at once, if the tokenizer can do that, which is faster."""
    at_once = getattr(tokenizer, "encode_batch", None)
    found: list[list[int]] = (
        [tokenizer.encode(text) for text in texts] if at_once is None else at_once(texts)
    )
    return found


class StoryTokenizer:
    """Texts to token ids and back, without loss.

    Every text has an encoding, as the vocabulary holds all 256 bytes, and ``decode(encode(text)) == text``
    exactly: nothing is normalised, and no space is put in front. ``<|endoftext|>`` in a text is one token
    with id 0; it is written back like any other.

    Args:
        tokenizer: A tokenizer of the package ``tokenizers``.

    Raises:
        ConfigError: If it does not know ``<|endoftext|>`` as token 0, or not every byte.

    Example:
        >>> import mechft as mf
        >>> stories = mf.ProceduralStories().stories(20, seed=0)
        >>> tokenizer = mf.StoryTokenizer.train((story.story for story in stories), vocab_size=400)
        >>> tokenizer.decode(tokenizer.encode("Zoë found 3 keys."))
        'Zoë found 3 keys.'
        >>> tokenizer.encode("<|endoftext|>")
        [0]
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        from tokenizers.pre_tokenizers import ByteLevel

        require(
            tokenizer.token_to_id(END) == END_ID,
            f"A story tokenizer has {END} as token {END_ID}; this one has it as "
            f"{tokenizer.token_to_id(END)}. Train one with StoryTokenizer.train.",
        )
        missing = [c for c in ByteLevel.alphabet() if tokenizer.token_to_id(c) is None]
        require(
            not missing,
            f"A story tokenizer has a token for every byte; this one lacks {len(missing)} of 256. Train one "
            "with StoryTokenizer.train.",
        )
        self.tokenizer = tokenizer

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int = 2048) -> StoryTokenizer:
        """Train on texts, which should be training data only: held-out text is to be new in its words too.

        The same texts in the same order give the same tokenizer. Leading spaces belong to the word behind
        them, as in GPT-2; words and punctuation are never merged.

        Args:
            texts: Any stream of texts; only their word counts are kept in memory.
            vocab_size: Tokens in all, the end marker and 256 bytes included.

        Raises:
            ConfigError: If the size is below 257 or the texts cannot fill it.

        Cost: about 0.3 s a MB of stories on one core.
        """
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

        require(
            vocab_size >= _SMALLEST,
            f"A vocabulary holds the end marker and 256 bytes, {_SMALLEST} tokens at least; got "
            f"{vocab_size}. Choose a larger one.",
        )
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[END],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        trained = tokenizer.get_vocab_size()
        require(
            trained == vocab_size,
            f"Training texts hold enough different words for the vocabulary; got {trained} tokens of "
            f"{vocab_size}. Give more text, or ask for {trained} tokens.",
        )
        return cls(tokenizer)

    @property
    def vocab_size(self) -> int:
        """Number of tokens; ids are below it."""
        return int(self.tokenizer.get_vocab_size())

    @property
    def digest(self) -> str:
        """A short hash of all that decides an encoding: the same hash, the same ids for every text."""
        return hashlib.blake2b(self.tokenizer.to_str().encode(), digest_size=8).hexdigest()

    def encode(self, text: str) -> list[int]:
        """The token ids of one text."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The token ids of several texts, in order.

        Cost: 0.4 s a MB on one core; ``tokenizers`` uses all cores unless TOKENIZERS_PARALLELISM=false.
        """
        return [encoding.ids for encoding in self.tokenizer.encode_batch_fast(list(texts))]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids, end markers included; ids that break off within a character give U+FFFD.

        Raises:
            ConfigError: If an id is not in the vocabulary.
        """
        known = list(ids)
        outside = [i for i in known if not 0 <= i < self.vocab_size]
        require(
            not outside,
            f"Token ids lie in 0..{self.vocab_size - 1}; got {outside[:5]}. Decode with the tokenizer that "
            "encoded them.",
        )
        return str(self.tokenizer.decode(known, skip_special_tokens=False))

    def save(self, folder: str | Path) -> Path:
        """Write ``tokenizer.json`` into a folder, which is made if missing; returns its path.

        Transformers, vLLM and ``tokenizers`` read the file. The same tokenizer already there is left.

        Raises:
            OutputExistsError: If there is another tokenizer; it is left as it is.
        """
        path = Path(folder) / TOKENIZER_FILE
        content = self.tokenizer.to_str(pretty=True)
        if path.exists():
            if path.read_text(encoding="utf-8") == content:
                return path
            raise OutputExistsError(
                f"A tokenizer is never replaced, as models depend on it; {path} holds another one. Choose "
                "another folder, or delete the file."
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        return write_text(path, content)

    @classmethod
    def load(cls, folder: str | Path) -> StoryTokenizer:
        """Read the ``tokenizer.json`` of a folder.

        Raises:
            ConfigError: If there is none, or it is no tokenizer of stories.
        """
        from tokenizers import Tokenizer

        path = Path(folder) / TOKENIZER_FILE
        require(
            path.is_file(),
            f"A tokenizer is saved as {TOKENIZER_FILE} in a folder; there is no {path}. Train one with "
            "StoryTokenizer.train and save it there.",
        )
        try:
            loaded = Tokenizer.from_file(str(path))
        except Exception as error:  # the package raises Exception itself
            raise ConfigError(
                f"{path} is no tokenizer that the package tokenizers can read ({error}). Save it again."
            ) from error
        return cls(loaded)
