"""Places in a model that an intervention can act on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from mechft.errors import ConfigError, require, unknown_name
from mechft.models.hook_points import (
    attention_out,
    head_output,
    mlp_out,
    neurons,
    resid_mid,
    resid_post,
    resid_pre,
)
from mechft.tasks.batch import TokenBatch

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

Component = Literal["head", "neuron", "attn_out", "mlp_out", "resid_pre", "resid_mid", "resid_post"]
_HOOKS = {
    "head": head_output,
    "neuron": neurons,
    "attn_out": attention_out,
    "mlp_out": mlp_out,
    "resid_pre": resid_pre,
    "resid_mid": resid_mid,
    "resid_post": resid_post,
}
COMPONENTS: tuple[Component, ...] = get_args(Component)


@dataclass(frozen=True, order=True)
class Site:
    """One component of one block, at all positions or one.

    Attributes:
        block: The block, from 0.
        component: "head" (its output z), "neuron" (an MLP activation), "attn_out" and "mlp_out" (what the
            two halves of the block add), "resid_pre", "resid_mid", "resid_post" (the residual stream).
        index: Which head or neuron; None for the other components.
        position: One position of the prompt, negative from its end; None for all.

    Raises:
        ConfigError: If block, index or position is no whole number, or the index is missing where the
            component has one, or given where it has none.
        UnknownNameError: If the component is not known.

    Example:
        >>> import mechft as mf
        >>> site = mf.Site(1, "head", 2)
        >>> site.hook, site.label
        ('blocks.1.attn.hook_z', 'head 1.2')
        >>> mf.Site(2, "resid_pre", position=17).label
        'resid_pre 2 @ 17'
    """

    block: int
    component: Component
    index: int | None = None
    position: int | None = None

    def __post_init__(self) -> None:
        if self.component not in COMPONENTS:
            raise unknown_name("component", self.component, COMPONENTS)
        for name in ("block", "index", "position"):
            value = getattr(self, name)
            if not (isinstance(value, int) or (value is None and name != "block")):
                raise ConfigError(f"A site's {name} is a whole number; got {value!r}.")
        if (self.index is None) == (self.component in ("head", "neuron")):
            raise ConfigError(
                "Heads and neurons have an index, other components have none; got "
                f"component={self.component!r}, index={self.index}."
            )

    @property
    def hook(self) -> str:
        """The hook point it is at."""
        return _HOOKS[self.component](self.block)

    @property
    def label(self) -> str:
        """A short name: "head 1.2", "mlp_out 0", "resid_pre 2 @ 17"."""
        unit = f"{self.block}" if self.index is None else f"{self.block}.{self.index}"
        where = "" if self.position is None else f" @ {self.position}"
        return f"{self.component} {unit}{where}"


SiteSet = Sequence[Site]
"""Sites that are changed together."""


def all_sites(
    model: HookedTransformer,
    component: Component,
    *,
    positions: Sequence[int] | None = None,
) -> list[Site]:
    """Every site of one kind in a model, block by block.

    Args:
        model: Whose blocks, heads or neurons.
        component: The kind.
        positions: One site for each of these positions; None: one for all positions together.
    """
    if component not in COMPONENTS:
        raise unknown_name("component", component, COMPONENTS)
    counts = {"head": model.cfg.n_heads, "neuron": model.cfg.d_mlp}
    indices = range(int(counts[component] or 0)) if component in counts else [None]
    places = [None] if positions is None else positions
    return [
        Site(block, component, index, position)
        for block in range(int(model.cfg.n_layers))
        for index in indices
        for position in places
    ]


def check_sites(model: HookedTransformer, sites: Sequence[Site], length: int | None = None) -> None:
    """Raise before anything runs if a model lacks one of the sites.

    Args:
        model: The model.
        sites: The sites, at least one.
        length: Tokens of the prompts, if they are known already.

    Raises:
        ConfigError: Saying which site, and what there is.
    """
    if not sites:
        raise ConfigError("An intervention needs at least one site; got none.")
    cfg = model.cfg
    limits = {"head": int(cfg.n_heads), "neuron": int(cfg.d_mlp or 0)}
    for site in sites:
        if not 0 <= site.block < int(cfg.n_layers):
            raise ConfigError(
                f"Blocks of this model are 0..{int(cfg.n_layers) - 1}; got {site.label!r}."
            )
        if site.index is not None and not 0 <= site.index < limits[site.component]:
            raise ConfigError(
                f"Block {site.block} has {site.component}s 0..{limits[site.component] - 1}; got "
                f"{site.label!r}."
            )
        if length is not None and not -length <= (site.position or 0) < length:
            raise ConfigError(
                f"Positions of prompts of {length} tokens are {-length}..{length - 1}; got "
                f"{site.label!r}."
            )
        if site.hook not in model.hook_dict:
            raise unknown_name("hook point", site.hook, model.hook_dict)


def site_sets(
    model: HookedTransformer,
    sites: Component | Sequence[Component | Site | SiteSet],
    tasks: Mapping[str, TokenBatch],
    positions: Sequence[int] | None = None,
) -> dict[str, tuple[Site, ...]]:
    """Sets of sites by name, once it is sure that the model and all prompts have them.

    Args:
        model: The model.
        sites: Components (each site of it alone), sites, and sets of sites.
        tasks: The rows they will be used on.
        positions: For the components: one site for each of these positions.
    """
    if not tasks:
        raise ConfigError("A sweep needs at least one task; got none.")
    sets: list[tuple[Site, ...]] = []
    for one in [sites] if isinstance(sites, str) else sites:
        if isinstance(one, str):
            sets += [(site,) for site in all_sites(model, one, positions=positions)]
        else:
            sets.append((one,) if isinstance(one, Site) else tuple(one))
    require(bool(sets), "A sweep needs at least one site; got none.")
    for batch in tasks.values():
        require(len(batch) > 0, "A batch needs at least one row; got none.")
        length = batch.prompt.shape[1]
        for group in sets:
            check_sites(model, group, length)
        # Two names of one place (the last, −1) are the same site.
        places = [
            frozenset((s.hook, s.index, s.position and s.position % length) for s in group)
            for group in sets
        ]
        twice = len(set(places)) < len(places)
        twice = twice or any(len(p) < len(g) for p, g in zip(places, sets, strict=True))
        require(not twice, "A site is given twice in a set, or the same set twice; give each once.")
    return {" + ".join(site.label for site in group): group for group in sets}
