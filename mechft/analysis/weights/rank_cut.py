"""The change of every block matrix by its singular directions, and what is left when it is cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mechft.analysis.weights.pairs import WeightPair, float64, matrix, movable_pairs, unmatrix
from mechft.errors import ConfigError, unknown_name
from mechft.models.hook_points import ModelLike
from mechft.randomness import generator

Keep = Literal["top", "rest"]
Rest = Literal["finetuned", "base"]


@dataclass(frozen=True)
class _Factors:
    """A change as left × diag(values) × right, largest first."""

    left: Float[Tensor, "i k"]
    values: Float[Tensor, " k"]
    right: Float[Tensor, "k o"]

    def first(self, rank: int) -> Float[Tensor, "i o"]:
        return (self.left[:, :rank] * self.values[:rank]) @ self.right[:rank]


@dataclass(frozen=True)
class RankCut:
    """The singular value decomposition of what fine-tuning added to each block matrix."""

    pairs: dict[str, WeightPair]
    factors: dict[str, _Factors]
    keep: Keep
    rest: Rest
    own: bool = True

    @classmethod
    def of(cls, base: ModelLike, finetuned: ModelLike, *, keep: Keep, rest: Rest) -> RankCut:
        """Decompose the change; raises as ``low_rank``."""
        if keep not in ("top", "rest"):
            raise unknown_name("part to keep", keep, ("top", "rest"))
        if rest not in ("finetuned", "base"):
            raise unknown_name("owner of the other parameters", rest, ("finetuned", "base"))
        pairs = movable_pairs(base, finetuned)
        factors = {name: _decompose(pair) for name, pair in pairs.items() if pair.in_block}
        return cls(pairs, factors, keep, rest)

    @property
    def full(self) -> int:
        """The largest rank any of the matrices can have."""
        return max(len(found.values) for found in self.factors.values())

    def default_ranks(self) -> list[int]:
        """0, the powers of two, and all."""
        return [0, *(2**i for i in range(self.full.bit_length()) if 2**i < self.full), self.full]

    def checked(self, ranks: Sequence[int]) -> list[int]:
        """The ranks, if the matrices can have them."""
        for rank in ranks:
            if (
                isinstance(rank, bool)
                or not isinstance(rank, Integral)
                or not 0 <= rank <= self.full
            ):
                raise ConfigError(
                    f"A rank is a whole number in 0..{self.full}, the shorter side of the largest block "
                    f"matrix; got {rank!r}."
                )
        return [int(rank) for rank in ranks]

    def energy(self, rank: int) -> float:
        """Share of the squared change in the first ``rank`` directions; NaN if nothing changed."""
        kept = sum(float(f.values[:rank].square().sum()) for f in self.factors.values())
        total = sum(float(f.values.square().sum()) for f in self.factors.values())
        return kept / total if total else float("nan")

    def weights(self, rank: int) -> dict[str, Tensor]:
        """What every weight of the model is with this rank, in float64 where it is mixed."""
        found: dict[str, Tensor] = {}
        for name, pair in self.pairs.items():
            top = self.keep == "top"
            start, goal = (pair.before, pair.after) if top else (pair.after, pair.before)
            if name not in self.factors:
                found[name] = pair.after if self.rest == "finetuned" else pair.before
            elif rank == 0:
                found[name] = start
            elif self.own and rank >= len(self.factors[name].values):
                found[name] = goal  # the sum of all directions, without rounding
            else:
                step = unmatrix(self.factors[name].first(rank), start, pair.kind)
                where = float64(start, step.device)
                found[name] = where + step if top else where - step
        return found

    def in_random_directions(self, seed: int, draw: int) -> RankCut:
        """The same singular values on random orthogonal directions."""
        factors = {}
        for name, found in self.factors.items():
            draws = generator(seed, "low_rank", name, draw)
            left = _orthogonal(found.left, draws)
            right = _orthogonal(found.right.T, draws).T
            factors[name] = _Factors(left, found.values, right)
        return RankCut(self.pairs, factors, self.keep, self.rest, own=False)


@torch.no_grad()
def _decompose(pair: WeightPair) -> _Factors:
    before = float64(matrix(pair.before, pair.kind))
    after = float64(matrix(pair.after, pair.kind), before.device)
    return _Factors(*torch.linalg.svd(after - before, full_matrices=False))


def _orthogonal(like: Float[Tensor, "n k"], draws: torch.Generator) -> Float[Tensor, "n k"]:
    """Uniformly random orthonormal columns, on the CPU's stream whatever the device."""
    normal = torch.randn(like.shape, generator=draws, dtype=torch.float64)
    q, r = torch.linalg.qr(normal)
    uniform: Tensor = q * r.diagonal().sign()  # the sign that QR leaves open would not be random
    return uniform.to(like.device)
