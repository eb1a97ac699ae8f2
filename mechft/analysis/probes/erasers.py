"""Erasers: take from activations all that a linear probe could read of a concept, and nothing else.

LEACE (Belrose et al. 2023, "Perfect linear concept erasure in closed form"): the smallest affine change
after which every class has the same mean, so that no linear probe does better than a constant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from mechft.analysis.activations import chunks, stream_activations
from mechft.analysis.batches import Data
from mechft.analysis.probes.inputs import labelled
from mechft.analysis.probes.linear_probes import class_index
from mechft.errors import ConfigError, require, unknown_name
from mechft.models.hook_points import ModelLike, as_model, check_hook_points
from mechft.models.weights import is_hooked_transformer
from mechft.tasks.batch import TokenBatch

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

ErasedPositions = Literal["answer", "all"]
"""Where an eraser acts: the last position of the input, which a prompt is answered at, or everywhere."""

_SMALLEST = 1e-6  # canonical correlation below which a direction is rounding, in float64


@dataclass(frozen=True)
class Eraser:
    """x ↦ x − left (right (x − mean)): a concept's directions set to their mean.

    Attributes:
        left: Float["width rank"].
        right: Float["rank width"].
        mean: Float["width"].
    """

    left: Float[Tensor, "width rank"]
    right: Float[Tensor, "rank width"]
    mean: Float[Tensor, " width"]

    @property
    def rank(self) -> int:
        """Number of directions taken away: at most the number of classes minus 1."""
        return int(self.left.shape[1])

    def to(self, device: torch.device, dtype: torch.dtype) -> Eraser:
        """The same eraser elsewhere."""
        return Eraser(*(part.to(device, dtype) for part in (self.left, self.right, self.mean)))

    def __call__(self, features: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        """Features without the concept, in their own dtype."""
        here = self.to(features.device, torch.promote_types(features.dtype, torch.float32))
        moved = features.to(here.mean.dtype)
        return (moved - ((moved - here.mean) @ here.right.T) @ here.left.T).to(features.dtype)


def fit_erasers(
    model: ModelLike,
    train: Data,
    target: str,
    hook_names: Sequence[str],
    *,
    positions: ErasedPositions = "answer",
    successive: bool = False,
    labels: Int[Tensor, " row"] | None = None,
) -> dict[str, Eraser]:
    """LEACE erasers of one concept, by site.

    Args:
        model: The model; left as it is.
        train: Rows to learn from.
        target: Name of the label that is the concept.
        hook_names: Sites.
        positions: Which activations to learn from: those the eraser will act on.
        successive: Learn each site with the sites before it in ``hook_names`` erased already, to erase
            them together (concept scrubbing, Belrose et al. 2023, Sec. 5); otherwise each site alone.
        labels: Other labels in the target's place, such as shuffled ones.

    Raises:
        UnknownNameError: If the label or a site does not exist.
        ConfigError: If there is one class only, as many directions to take as a site has, or values
            that are not finite.

    Cost: one hooked forward over the rows for all sites together (one a site with ``successive``), and
    an eigenvector problem of a site's width each.
    """
    check_positions(positions)
    batch = labelled(train, target)
    model = as_model(model)
    check_hook_points(model, hook_names)
    hook_names = list(dict.fromkeys(hook_names))
    _, index = class_index((batch.labels[target] if labels is None else labels).cpu())
    require(len(index) == len(batch), f"{len(index)} labels for {len(batch)} rows.")
    if not successive:
        return _fit(model, batch, index, hook_names, positions)
    found: dict[str, Eraser] = {}
    for site in hook_names:
        with erased(model, found, positions=positions) if found else nullcontext():
            found |= _fit(model, batch, index, [site], positions)
    return found


def _fit(
    model: HookedTransformer,
    batch: TokenBatch,
    index: Int[Tensor, " row"],
    sites: Sequence[str],
    positions: ErasedPositions,
) -> dict[str, Eraser]:
    fitters = {site: EraserFitter(int(index.max()) + 1) for site in sites}
    start = 0
    for part, found in zip(
        chunks(batch), stream_activations(model, batch, sites, positions), strict=True
    ):
        here = index[start : start + len(part)]
        start += len(part)
        if positions == "all":  # a row's label belongs to each of its positions
            here = here.repeat_interleave(part.prompt.shape[1])
        for site, value in found.items():
            fitters[site].update(value, here)
    return {site: fitter.result() for site, fitter in fitters.items()}


class EraserFitter:
    """Gathers means and covariances batch by batch, in float64, then gives the LEACE eraser.

    Args:
        n_classes: Number of classes of the concept, at least 2.
    """

    def __init__(self, n_classes: int) -> None:
        require(n_classes >= 2, f"A concept has at least two classes; got {n_classes}.")
        self.n_classes = n_classes
        self._fitter: Any = None

    def update(self, features: Float[Tensor, "row width"], index: Int[Tensor, " row"]) -> None:
        """Add rows; ``index`` is each one's class, in 0..n_classes − 1.

        Raises:
            ConfigError: If the concept would take all directions there are.
        """
        from concept_erasure import LeaceFitter  # type: ignore[import-untyped]

        width = features.shape[1]
        require(
            self.n_classes - 1 < width,
            f"Erasing {self.n_classes} classes takes up to {self.n_classes - 1} directions of {width}, "
            "and nothing would be left. Choose a wider site or a concept of fewer classes.",
        )
        if self._fitter is None:
            # constrain_cov_trace mixes in a projection that does not erase; it is left out.
            self._fitter = LeaceFitter(
                width, self.n_classes, dtype=torch.float64, svd_tol=_SMALLEST,
                constrain_cov_trace=False,
            )  # fmt: skip
        concept = F.one_hot(index.cpu(), self.n_classes).double()
        self._fitter.update(features.double().cpu(), concept)

    def result(self) -> Eraser:
        """The eraser.

        Raises:
            ConfigError: If there were fewer than two rows.
        """
        enough = self._fitter is not None and int(self._fitter.n) > 1
        require(enough, "An eraser needs at least two rows to learn from.")
        found = self._fitter.eraser
        kept = found.proj_left.abs().amax(0) > 0  # directions below the tolerance are columns of 0
        return Eraser(found.proj_left[:, kept], found.proj_right[kept], found.bias)


def check_positions(positions: str) -> None:
    """Raise UnknownNameError unless erasers act at these positions."""
    if positions not in get_args(ErasedPositions):
        raise unknown_name("positions", positions, get_args(ErasedPositions))


@contextmanager
def erased(
    model: ModelLike, erasers: Mapping[str, Eraser], *, positions: ErasedPositions = "answer"
) -> Iterator[HookedTransformer]:
    """Erase a concept at chosen sites inside the block; the hooks are gone after it.

    Args:
        model: Any model with ``hooks``.
        erasers: By site, as ``fit_erasers`` gives them.
        positions: "answer" (the input's last position) or "all".

    Raises:
        UnknownNameError: If the model lacks a site, or positions are not known.
        ConfigError: If there is no eraser, one has another width than its site (at the first forward), or
            a TransformerBridge's hook_resid_mid is named, which is not the stream it goes on with; or on
            leaving, if the model ran without computing a site.
    """
    check_positions(positions)
    model = as_model(model)
    require(bool(erasers), "Erasing needs at least one site with its eraser; got none.")
    check_hook_points(model, erasers)
    check_editable(model, erasers)
    wanted, ran = frozenset(erasers), set[str]()
    hooks: list[Any] = [
        (site, _hook(site, eraser, positions, ran)) for site, eraser in erasers.items()
    ]
    with model.hooks(fwd_hooks=hooks):
        yield model
    silent = wanted - ran
    require(
        not ran or not silent,  # no forward at all is the caller's affair
        f"The model ran without computing {', '.join(sorted(silent))}, so nothing was erased there; choose "
        "another hook point.",
    )


def check_editable(model: HookedTransformer, sites: Mapping[str, Any] | Sequence[str]) -> None:
    """Raise ConfigError for a site of the stream that a TransformerBridge shows but goes on without."""
    for site in sites:
        require(
            is_hooked_transformer(model) or not site.endswith("hook_resid_mid"),
            f"A TransformerBridge shows {site} but goes on without it, so that erasing there changes "
            "what the MLP reads and not the stream. Erase hook_attn_out, hook_resid_pre or "
            "hook_resid_post instead.",
        )


def _hook(
    site: str, eraser: Eraser, positions: ErasedPositions, ran: set[str]
) -> Callable[..., Tensor]:
    def erase(value: Tensor, hook: Any) -> Tensor:
        ran.add(site)
        if value[0, 0].numel() != len(eraser.mean):
            raise ConfigError(
                f"This eraser acts on width {len(eraser.mean)}; {hook.name} has shape "
                f"{tuple(value.shape)}. Fit it at this site of this model."
            )
        flat = value.flatten(2)  # heads side by side
        if positions == "all":
            return eraser(flat).view_as(value)
        return torch.cat([flat[:, :-1], eraser(flat[:, -1:])], 1).view_as(value)

    return erase
