"""How far activations moved from the base model's, on the same rows, and along which directions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float
from torch import Tensor

from mechft.analysis.activations import Positions, activations_of, chunks
from mechft.analysis.batches import Data
from mechft.analysis.result import Result
from mechft.analysis.streaming.site_difference import SiteDifference
from mechft.errors import ConfigError, require, unknown_name
from mechft.models.hook_points import (
    ModelLike,
    as_model,
    attention_out,
    block_of,
    check_hook_points,
    component_of,
    mlp_out,
    resid_post,
)

Key = tuple[str, str, int | None]  # model, hook, position (None where positions are not told apart)


@dataclass(frozen=True)
class DifferenceSpectrum(Result):
    """How much of the difference between two models its first directions hold, site by site.

    Columns: model, hook, block, component, position, directions (how many), explained (share of the mean
    ‖Δ‖² that the first directions of Σ Δ Δᵀ hold: the mean shift counts), explained_centred (share of the
    variance of Δ about its mean that the first principal components hold), n. With few rows the shares
    are too high: n rows never span more than n directions.
    """


@dataclass(frozen=True)
class ActivationDiff(Result):
    """How far activations moved from the base model's, on the same rows.

    Columns: model, hook, block, component, position ("answer", or as given; a number in each row with
    ``by_position``), relative_change (mean of ‖Δ‖ over mean of the base's norm), ci_low, ci_high (95%,
    over rows of the batch: delta method for the ratio), cosine (mean; a zero vector counts as 0),
    cosine_low, cosine_high (95% normal, over rows), cka (linear CKA; 1 means the same up to rotation and
    scale; biased upwards unless n is several times the width), cka_debiased (the one to read with few
    rows), mean_share (share of the mean ‖Δ‖² that is the mean shift, the same in every row), explained,
    explained_centred (shares of the first k directions, as in ``spectrum``), k, n (rows of the batch).
    Shares are NaN where nothing moved.

    Attributes:
        spectrum: The shares for every number of directions up to k.
        by_site: Float["k width"] by (model, hook, position): the directions themselves; ``direction`` gives
            them by name.
    """

    spectrum: DifferenceSpectrum
    by_site: Mapping[Key, Float[Tensor, "k width"]] = field(repr=False)

    @property
    def directions(self) -> dict[str, Float[Tensor, "k width"]]:
        """The directions of each site by hook, where one model was compared, positions together.

        Raises:
            ConfigError: If several models or positions were; ``direction`` tells them apart.
        """
        if len({(model, position) for model, _, position in self.by_site}) != 1:
            raise ConfigError(
                "Several models or positions were compared, so a hook has several sets of directions. "
                "Name one: direction(hook, k, model=…, position=…)."
            )
        return {hook: rows for (_, hook, _), rows in self.by_site.items()}

    def direction(
        self, hook: str, k: int = 1, *, model: str | None = None, position: int | None = None
    ) -> Float[Tensor, "k width"]:
        """The first k directions of a site's difference: orthonormal rows, the largest share first.

        Eigenvectors of Σ Δ Δᵀ with Δ = fine-tuned − base, the mean shift included; each points to where
        the mean shift does, so adding it leads from the base to the fine-tuned model.

        Args:
            hook: A hook point that was compared.
            k: How many.
            model: Which fine-tuned model; needed where there are several.
            position: Which position; needed with ``by_position``.

        Raises:
            UnknownNameError: If that was not compared.
            ConfigError: If the model must be named, k is more than was kept, or nothing moved there.
        """
        models = list(dict.fromkeys(name for name, _, _ in self.by_site))
        if model is None:
            require(len(models) == 1, f"Name the model: model= one of {models}.")
            model = models[0]
        if (key := (model, hook, position)) not in self.by_site:
            known = (f"{m}, {h}, position {p}" for m, h, p in self.by_site)
            raise unknown_name("site", f"{model}, {hook}, position {position}", known)
        rows = self.by_site[key]
        require(
            len(rows) > 0,
            f"{hook} is the same in both models on these rows; there is no direction of change.",
        )
        require(
            1 <= k <= len(rows),
            f"There are {len(rows)} directions of {hook}; got k={k}. Compare again with a larger k, or "
            "with more rows if those were fewer.",
        )
        return rows[:k]


def diff_activations(
    base: ModelLike,
    finetuned: ModelLike,
    data: Data,
    *,
    hook_names: Sequence[str] | None = None,
    positions: Positions = "answer",
    by_position: bool = False,
    k: int | None = None,
    name: str = "finetuned",
) -> ActivationDiff:
    """Compare what two models compute on the same rows, reading the data once, chunk by chunk.

    Args:
        base, finetuned: Models with the same hook points and widths.
        data: Rows to run both on.
        hook_names: Sites; by default each block's attention, MLP and residual output.
        positions: Which positions of the prompts; see ``analysis.activations.Positions``.
        by_position: Compare every position of the prompt on its own; ``positions`` is then not used.
        k: Directions kept a site; 10 by default, or the width where that is less.
        name: What the frame calls the fine-tuned model.

    Raises:
        UnknownNameError: If a model lacks a hook point.
        ConfigError: If a site's width differs between the models, k is more than a width, there is no
            row, or a value is not finite.

    Cost: one hooked forward of each model, and 8 × width² operations a site and row. Memory:
    32 bytes × width² a site, and a position with ``by_position``; nothing grows with the rows.
    """
    base, finetuned = as_model(base), as_model(finetuned)
    blocks = range(int(base.cfg.n_layers))
    if hook_names is None:
        hook_names = [f(b) for b in blocks for f in (attention_out, mlp_out, resid_post)]
    names = list(dict.fromkeys(hook_names))
    require(bool(names), "There is no site to compare; give hook_names at least one hook point.")
    require(k is None or k >= 1, f"k is the number of directions kept, at least 1; got {k}.")
    for model in (base, finetuned):
        check_hook_points(model, names)
    read: Positions = "all" if by_position else positions
    sites: dict[Key, SiteDifference] = {}
    for chunk in chunks(data):
        before, after = (activations_of(m, chunk, names, read) for m in (base, finetuned))
        for hook in names:
            x, y = before.pop(hook), after.pop(hook)
            _check_widths(hook, x, y, k)
            x, y = (v.reshape(len(chunk), -1, v.shape[1]) for v in (x, y))  # row, position, width
            places = range(x.shape[1]) if by_position else ()
            for position in places or (None,):
                here = slice(None) if position is None else slice(position, position + 1)
                site = sites.setdefault((name, hook, position), SiteDifference())
                site.update(x[:, here], y[:, here])
    shown = "" if by_position else positions if isinstance(positions, str | int) else str(positions)
    rows: list[dict[str, Any]] = []
    spectrum: list[dict[str, Any]] = []
    found: dict[Key, Tensor] = {}
    for (_, hook, position), site in sites.items():
        place = {
            "model": name,
            "hook": hook,
            "block": block_of(hook),
            "component": component_of(hook),
            "position": shown if position is None else position,
        }
        numbers, shares, directions = site.result(k)
        rows.append(place | numbers)
        spectrum += [place | share | {"n": numbers["n"]} for share in shares]
        found[name, hook, position] = directions
    import pandas as pd

    return ActivationDiff(pd.DataFrame(rows), DifferenceSpectrum(pd.DataFrame(spectrum)), found)


def _check_widths(hook: str, x: Tensor, y: Tensor, k: int | None) -> None:
    if x.shape != y.shape:
        raise ConfigError(
            f"{hook} has width {x.shape[1]} in one model and {y.shape[1]} in the other; sites are "
            "compared channel by channel. Choose sites of equal width."
        )
    require(
        k is None or k <= x.shape[1],
        f"k is at most the width of a site; got k={k}, and {hook} is {x.shape[1]} wide.",
    )


def linear_cka(x: Float[Tensor, "row width"], y: Float[Tensor, "row width2"]) -> float:
    """Linear centred kernel alignment (Kornblith et al. 2019) of rows that are all at hand.

    1 if y is x up to rotation, shift and scale. Biased upwards with few rows: for unrelated x and y it
    tends to 1 as the widths grow past the number of rows. ``PairMoments.linear_cka`` gives the same
    number from a stream, and a debiased one.
    """
    require(len(x) == len(y), f"CKA is of the same rows twice; got {len(x)} and {len(y)}.")
    x, y = x.double(), y.double()
    x, y = x - x.mean(0), y - y.mean(0)
    denominator = float((x.T @ x).norm() * (y.T @ y).norm())
    return float((x.T @ y).square().sum()) / denominator if denominator else float("nan")
