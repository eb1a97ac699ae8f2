"""Explicit randomness: every draw comes from a generator named by a seed and a path of labels."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive_seed(seed: int, *path: int | str) -> int:
    """A 63-bit seed for the stream ``path`` of ``seed``; other paths give unrelated streams.

    Training draws the batches of steps 8 t to 8 t + 7 from ``derive_seed(seed, "train", t)``. A batch is
    then a pure function of (config, seed, step): a resumed run needs no random state to be saved.
    """
    text = "/".join(str(part) for part in (seed, *path))
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(seed: int, *path: int | str) -> torch.Generator:
    """A fresh CPU ``torch.Generator`` for the stream ``path`` of ``seed``.

    The same seed and path give the same numbers, other paths unrelated ones; the global random state is not
    touched.

    Args:
        seed: The seed of a whole run.
        path: Names or numbers of what the stream is for.

    Example:
        >>> import torch
        >>> import mechft as mf
        >>> draw = torch.rand(3, generator=mf.generator(0, "my", "stream"))
        >>> torch.equal(draw, torch.rand(3, generator=mf.generator(0, "my", "stream")))
        True
        >>> torch.equal(draw, torch.rand(3, generator=mf.generator(0, "another")))
        False
    """
    return torch.Generator().manual_seed(derive_seed(seed, *path))


@contextmanager
def preserved_random_state(seed: int | None = None) -> Iterator[None]:
    """Leave the global random state of torch, numpy and random as it was found.

    For code that draws from the global state (TransformerLens does when it initialises weights).

    Args:
        seed: When given, the global states are seeded with it inside the block.
    """
    states = (torch.get_rng_state(), np.random.get_state(), random.getstate())
    try:
        if seed is not None:
            torch.manual_seed(seed)
            np.random.seed(seed % 2**32)
            random.seed(seed)
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
