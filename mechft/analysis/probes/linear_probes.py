"""Linear probes: fitted site by site on one set of labels, and kept to be applied elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechft.errors import ConfigError, require, unknown_name

Features = Mapping[str, Float[Tensor, "row width"]]
"""Features by site; widths may differ, rows do not."""


@dataclass(frozen=True)
class LinearProbe:
    """One fitted probe: standardise, multiply, add, take the largest.

    Attributes:
        weight: For standardised features. Float["width class"].
        bias: Float["class"].
        mean, std: Standardisation. Float["width"].
        classes: The label each class stands for, ascending. Int["class"].
        l2: Weight of the penalty it was fitted with; NaN where the optimiser has none.
        converged: Whether the optimum was reached; None under the paper's schedule, which does not ask.
        iterations: Steps taken.
    """

    weight: Float[Tensor, "width class"]
    bias: Float[Tensor, " class"]
    mean: Float[Tensor, " width"]
    std: Float[Tensor, " width"]
    classes: Int[Tensor, " class"]
    l2: float
    converged: bool | None
    iterations: int

    def logits(self, features: Float[Tensor, "row width"]) -> Float[Tensor, "row class"]:
        """Log-probabilities of the classes up to a constant.

        Raises:
            ConfigError: If the features have another width.
        """
        require(
            features.shape[-1] == len(self.mean),
            f"This probe reads features of width {len(self.mean)}; got {features.shape[-1]}.",
        )
        inputs = (features.to(self.mean.dtype) - self.mean) / self.std
        return inputs @ self.weight + self.bias

    def predict(self, features: Float[Tensor, "row width"]) -> Int[Tensor, " row"]:
        """The label the probe reads off."""
        return self.classes[self.logits(features).argmax(-1)]


@dataclass(frozen=True)
class LinearProbes:
    """Probes of several sites for the same labels.

    Attributes:
        probes: By site.
        classes: The label each class stands for, ascending. Int["class"].
        majority: The commonest label of the training rows.
    """

    probes: dict[str, LinearProbe]
    classes: Int[Tensor, " class"]
    majority: int

    def __getitem__(self, site: str) -> LinearProbe:
        if site not in self.probes:
            raise unknown_name("site", site, self.probes)
        return self.probes[site]

    def predict(self, features: Features) -> dict[str, Int[Tensor, " row"]]:
        """The label each site's probe reads off."""
        return {site: self[site].predict(value) for site, value in features.items()}

    def hits(self, features: Features, labels: Tensor) -> dict[str, Bool[Tensor, " row"]]:
        """Whether each site's probe is right, row by row."""
        return {site: found == labels for site, found in self.predict(features).items()}


def class_index(labels: Int[Tensor, " row"]) -> tuple[Int[Tensor, " class"], Int[Tensor, " row"]]:
    """The labels that occur, ascending, and which of them each row has.

    Raises:
        ConfigError: If fewer than two occur.
    """
    require(len(labels) > 0, "A probe needs rows to learn from; got none.")
    classes, index = labels.unique(return_inverse=True)
    if len(classes) < 2:
        raise ConfigError(
            f"A probe needs at least two classes; every label is {int(classes[0])}. Choose "
            "another target or more varied texts."
        )
    return classes, index
