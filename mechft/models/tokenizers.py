"""What is asked of a tokenizer, and Hugging Face's in that form."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from mechft.errors import CheckpointError, ConfigError

TOKENIZER = "tokenizer"
"""Under this name a checkpoint's description may hold its tokenizer, as the text of a tokenizer.json."""

_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
"""Any of these in a folder says that there is a tokenizer in it."""


class TextCoder(Protocol):
    """From text to token ids and back."""

    def encode(self, text: str) -> list[int]:
        """The token ids of a text and nothing else: no token for its beginning or end is added."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, special tokens written out."""
        ...


class HuggingFaceCoder:
    """A tokenizer of transformers as a ``TextCoder``.

    Args:
        tokenizer: A ``PreTrainedTokenizerBase``; it is not changed.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def encode(self, text: str) -> list[int]:
        """The token ids of a text and nothing else."""
        return [int(i) for i in self.tokenizer.encode(text, add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, special tokens written out."""
        known = [int(i) for i in ids]
        return str(
            self.tokenizer.decode(
                known, skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
        )


class FileCoder:
    """A tokenizer of the package ``tokenizers`` (a tokenizer.json) as a ``TextCoder``.

    Args:
        tokenizer: A ``tokenizers.Tokenizer``; it is not changed. Its settings for cutting and padding, which
            a training may have left in the file, are of no effect here.
    """

    def __init__(self, tokenizer: Any) -> None:
        if tokenizer.truncation is not None or tokenizer.padding is not None:
            tokenizer = type(tokenizer).from_str(tokenizer.to_str())
            tokenizer.no_truncation()
            tokenizer.no_padding()
        self.tokenizer = tokenizer

    def encode(self, text: str) -> list[int]:
        """The token ids of a text and nothing else."""
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, special tokens written out."""
        return str(self.tokenizer.decode([int(i) for i in ids], skip_special_tokens=False))


def as_coder(tokenizer: Any) -> tuple[TextCoder | None, int | None]:
    """A tokenizer as a ``TextCoder``, and the token it puts first of its own accord, if it does.

    Args:
        tokenizer: One of transformers, of ``tokenizers``, anything else with ``encode`` and ``decode`` (which
            adds no token), or None.

    Raises:
        ConfigError: If it is none of these.
    """
    if tokenizer is None:
        return None, None
    if not (hasattr(tokenizer, "encode") and hasattr(tokenizer, "decode")):
        raise ConfigError(
            f"A tokenizer has encode and decode; got {type(tokenizer).__name__}. Give one of transformers or "
            "of the package tokenizers, or an object with these two methods."
        )
    if hasattr(tokenizer, "bos_token_id"):
        theirs = HuggingFaceCoder(tokenizer)
        return theirs, _put_first(tokenizer.encode("a"), theirs.encode("a"))
    if hasattr(tokenizer, "get_vocab_size"):
        file = FileCoder(tokenizer)
        return file, _put_first(file.tokenizer.encode("a").ids, file.encode("a"))
    coder: TextCoder = tokenizer
    return coder, None


def _put_first(whole: Sequence[int], text: Sequence[int]) -> int | None:
    """What stands before a text's own tokens, of which nothing or one token does."""
    added = len(whole) > len(text) and list(whole[: len(text)]) != list(text)
    return int(whole[0]) if added else None


def read_tokenizer(folder: Path) -> Any | None:
    """The tokenizer of a Hugging Face folder; None if the folder has none.

    A tokenizer.json is taken at its word. (AutoTokenizer may take its vocabulary only, and put the rules of
    the model's family around it: other token ids, without a warning, where the tokenizer is another.)
    Nothing is downloaded, and no code of the folder is run.

    Raises:
        CheckpointError: If there is one, but it cannot be read.
    """
    if not any((folder / name).is_file() for name in _FILES):
        return None
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    try:
        if (folder / _FILES[0]).is_file():
            return PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
        return AutoTokenizer.from_pretrained(  # type: ignore[no-untyped-call]
            folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # every tokenizer class raises what it likes
        raise CheckpointError(
            f"{folder} holds a tokenizer that transformers cannot read ({first_line(error)}). Write it "
            "anew with save_pretrained, or give the loaded model and tokenizer as a pair."
        ) from error


def read_tokenizer_file(folder: Path) -> Any | None:
    """The tokenizer.json of a folder, which needs no config beside it; None if there is none.

    Raises:
        CheckpointError: If there is one, but it cannot be read.
    """
    path = folder / "tokenizer.json"
    return tokenizer_of(path.read_text(encoding="utf-8"), path) if path.is_file() else None


def tokenizer_of(text: str, path: Path) -> Any:
    """The tokenizer that the text of a tokenizer.json describes.

    Raises:
        CheckpointError: If it describes none; ``path`` is where the text comes from.
    """
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(text)
    except Exception as error:  # the package raises Exception itself
        raise CheckpointError(
            f"{path} holds no tokenizer that the package tokenizers can read ({first_line(error)}). Save it "
            "again."
        ) from error


def first_line(error: BaseException) -> str:
    """The first line of what an error of another library says, and the next if that announces it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return " ".join(lines[: 2 if lines[0].endswith(":") else 1])
